"""A real server of a small real ledger, with a worker, and a browser to look at it with.

The ledger holds the digits classifier of ``tests/ledger``; the server listens on a free loopback
port in a thread of this process, and the worker works in another process.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from access_probe import CHEAP, PASSWORD
from api_world import LEDGER_TESTS, listening
from small_model import Working
from torch import nn

from expunge.ledger import accounts
from expunge.ledger.accounts import Role
from expunge.ledger.opening import Ledger
from expunge.ledger.policy import Gate, Policy
from expunge.service.app import create_app
from expunge.service.passwords import Passwords
from expunge.service.settings import settings_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LENIENT = Policy(gate=Gate(kept=0.3, forgotten=1, re_emergence=1))
WIDTHS = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}


def axe_script() -> Path | None:
    """The script of axe-core, where npm put it: ``EXPUNGE_AXE``, or ``node_modules``."""
    named = os.environ.get("EXPUNGE_AXE")
    root = Path(__file__).parents[2]
    for place in (
        named,
        root / ".ci" / "node_modules" / "axe-core",
        root / "node_modules" / "axe-core",
    ):
        if place is not None:
            path = Path(place)
            path = path if path.suffix == ".js" else path / "axe.min.js"
            if path.is_file():
                return path
    return None


@dataclass
class World:
    """A served ledger."""

    working: Working
    folder: Path
    address: str

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self.working.ledger

    def add_account(
        self, name: str, role: Role | None = None, *, admin: bool = False, model: str = "*"
    ) -> str:
        """An account with the password :data:`PASSWORD`."""
        hashed = Passwords(CHEAP).hashed(PASSWORD)
        made = accounts.create(self.ledger, name, hashed, admin)
        if role is not None:
            accounts.grant(self.ledger, made, model, role)
        return made

    @contextlib.contextmanager
    def worker(self) -> Iterator[None]:
        """A worker in another process."""
        words = ["ledger", "run", "--forever", "--ledger", f"sqlite:///{self.folder / 'ledger.db'}"]
        words += ["--keys", str(self.folder / "keys")]
        command = [sys.executable, "-c", "from expunge.cli.entry import run; run()", *words]
        known = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(LEDGER_TESTS), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        }
        with (self.folder / "worker.log").open("w") as log:
            running = subprocess.Popen(command, env=known, stdout=log, stderr=subprocess.STDOUT)
            try:
                yield
            finally:
                running.terminate()
                running.wait(30)


@contextlib.contextmanager
def served(folder: Path, network: nn.Module, **changes: Any) -> Iterator[World]:
    """A ledger in a folder, served until the end of the block."""
    working = Working.make(folder, network, **{"policy": LENIENT, **changes})
    with listening(create_app(working.ledger, settings_of(argon2=CHEAP))) as address:
        yield World(working, folder, address)


@dataclass
class Watch:
    """What a page must not do: ask another server, write errors, or be stopped by its policy."""

    origin: str
    faults: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def over(self, context: Any) -> None:
        """Look at every page of a browser's context."""
        context.on("request", self._asked)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.faults.append(f"error: {error.error}"))

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.faults.append(f"asked {request.url}")

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning") and not any(
            e in message.text for e in self.expected
        ):
            self.faults.append(f"{message.type}: {message.text}")
