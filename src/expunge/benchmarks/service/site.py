"""A small ledger that is served: a toy model, accounts with keys, and the processes around it.

The server and the worker are processes of their own, begun as a user begins them, so that each can
be killed without the other. Only processes that were started here are ended, by their ids.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from argon2 import PasswordHasher

from expunge.benchmarks.reliability import toy
from expunge.benchmarks.reliability.sites import Site
from expunge.errors import ExpungeError
from expunge.ledger import Ledger, register
from expunge.ledger.accounts import Role, create, issue_key
from expunge.ledger.opening import KEYS, URL

MODEL = "digits"
POLICY = toy.OPEN.model_copy(update={"batch": 64})
"""No gate, and many requests in one version: what is looked at is the service."""
ROLES = (Role.REQUESTER, Role.OPERATOR)
ACCOUNTS = 10
COMMAND = (sys.executable, "-c", "from expunge.cli.entry import run; run()")
LISTENING = re.compile(rb"Listening on (http://127\.0\.0\.1:(\d+))")
STARTED = 300.0
"""Seconds in which a server must listen: a few are enough where the machine does nothing else."""
ENDED = 120.0
"""Seconds in which a process must end that was asked to."""


@dataclass(frozen=True)
class Key:
    """The key of an account, and its role."""

    secret: str
    role: Role


def made(folder: Path, url: str | None = None) -> tuple[Site, list[Key]]:
    """Make a ledger with a toy model and accounts of two roles by turns.

    Args:
        folder: of the objects and keys, and of the database where that is SQLite.
        url: of a PostgreSQL database without a ledger.
    """
    place = f"sqlite:///{folder / 'ledger.db'}" if url is None else url
    site = Site(place, str(folder / "objects"), folder / "keys")
    ledger = Ledger.init(site.url, site.store, site.keys)
    register(ledger, MODEL, toy.SOURCE, POLICY, toy.material())
    hashed = PasswordHasher().hash
    keys = []
    for number in range(ACCOUNTS):
        role = ROLES[number % len(ROLES)]
        account = create(ledger, f"client-{number}", None, grants={MODEL: role})
        keys.append(Key(issue_key(ledger, account, "benchmark", hashed)[1], role))
    ledger.database.close()
    return site, keys


@dataclass
class Process:
    """A process that is begun, killed and begun again.

    Args:
        name: what it is, for what is said.
        command: words after ``expunge``.
        site: the ledger that it works on.
        log: file that takes what it prints to standard error.
    """

    name: str
    command: Sequence[str]
    site: Site
    log: Path
    _running: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def start(self) -> None:
        """Begin it."""
        own = {
            **os.environ,
            URL: self.site.url,
            KEYS: str(self.site.keys),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONUNBUFFERED": "1",
        }
        with open(self.log, "ab") as log:
            self._running = subprocess.Popen(
                [*COMMAND, *self.command],
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def kill(self) -> None:
        """End it at once, as a power cut does (SIGKILL)."""
        process = self._process()
        process.kill()
        process.wait()

    def stop(self) -> int:
        """Ask it to end (SIGTERM), and wait; its exit status.

        Raises:
            ExpungeError: it does not end.
        """
        process = self._process()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(ENDED)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ExpungeError(
                f"The {self.name} did not end within {ENDED:.0f} s after it was asked to, and was "
                f"killed; {self.log} has what it said."
            ) from None

    def close(self) -> None:
        """Kill it where it still runs."""
        if self._running is not None and self._running.poll() is None:
            self.kill()

    @property
    def output(self) -> IO[bytes]:
        """What it prints."""
        found = self._process().stdout
        assert found is not None
        return found

    def _process(self) -> "subprocess.Popen[bytes]":
        if self._running is None:
            raise ExpungeError(f"The {self.name} was not begun; begin it first.")
        return self._running

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._running is not None and self._running.poll() is None


class Server(Process):
    """A server on a port of this machine, the same one each time that it is begun."""

    port = 0

    def start(self) -> None:
        """Begin it, and wait until it listens.

        Raises:
            ExpungeError: it does not.
        """
        self.command = ("serve", "--port", str(self.port), "--no-worker")
        super().start()
        printed, end = b"", time.monotonic() + STARTED
        while time.monotonic() < end:
            if not select.select([self.output], [], [], 0.5)[0]:
                continue
            part = os.read(self.output.fileno(), 2**12)
            printed += part
            found = LISTENING.search(printed)
            if found is not None:
                self.port = int(found[2])
                return
            if not part:
                break
        self.close()
        raise ExpungeError(f"The server does not listen; {self.log} has what it said.")

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(site: Site, folder: Path) -> Iterator[tuple[Server, Process]]:
    """A server and a worker of a ledger; what still runs at the end of the block is killed."""
    log = folder / "log.txt"
    server = Server("server", (), site, log)
    worker = Process("worker", ("ledger", "run", "--forever"), site, log)
    try:
        server.start()
        worker.start()
        yield server, worker
    finally:
        server.close()
        worker.close()


def unclean(*processes: Process) -> list[str]:
    """Ask processes to end, one after another; how those ended that say there was a fault."""
    codes = [process.stop() for process in processes]
    return [f"exit status {code}" for code in codes if code]
