"""A ledger with the digits classifier of ``tests/ledger`` behind the API, with accounts of every
role and their keys. It is made once, and copied for every test that changes it.
"""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from torch import nn

LEDGER_TESTS = Path(__file__).parents[1] / "ledger"
if str(LEDGER_TESTS) not in sys.path:
    sys.path.insert(0, str(LEDGER_TESTS))

from access_probe import CHEAP  # noqa: E402
from small_model import OPEN, SOURCE, Working, material  # noqa: E402

from expunge.ledger import accounts  # noqa: E402
from expunge.ledger.accounts import Role  # noqa: E402
from expunge.ledger.material import Source  # noqa: E402
from expunge.ledger.opening import Ledger  # noqa: E402
from expunge.ledger.registering import register  # noqa: E402
from expunge.service.app import create_app  # noqa: E402
from expunge.service.passwords import Passwords  # noqa: E402
from expunge.service.settings import settings_of  # noqa: E402

MODEL, ADDRESS = "digits", "http://127.0.0.1:8000"
ROLES: Mapping[str, Role | None] = {
    "admin": None,
    "operator": Role.OPERATOR,
    "requester": Role.REQUESTER,
    "another": Role.REQUESTER,
    "auditor": Role.AUDITOR,
}
"""Accounts by name; the first is an admin."""
QUICK: Mapping[str, Any] = {"argon2": CHEAP, "poll": 0.05, "heartbeat": 0.2, "worker": False}


@dataclass(frozen=True)
class World:
    """A folder with a ledger, and a key of each account."""

    folder: Path
    keys: Mapping[str, str]

    @classmethod
    def make(cls, folder: Path, network: nn.Module) -> "World":
        """A fresh one; its model is registered, and nothing is asked of it."""
        ledger = Ledger.init(cls.url_of(folder))
        given = replace(material(), model=network)
        register(ledger, MODEL, Source.of_function(SOURCE), OPEN, given)
        hashing, keys = Passwords(CHEAP).hashed, {}
        for name, role in ROLES.items():
            made = accounts.create(ledger, name, None, role is None)
            if role is not None:
                accounts.grant(ledger, made, MODEL, role)
            keys[name] = accounts.issue_key(ledger, made, "tests", hashing)[1]
        ledger.database.close()
        return cls(folder, keys)

    @staticmethod
    def url_of(folder: Path) -> str:
        """Where the ledger of a folder is."""
        return f"sqlite:///{folder / 'ledger.db'}"

    @property
    def url(self) -> str:
        """Where the ledger is."""
        return self.url_of(self.folder)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, open."""
        return Ledger.open(self.url)

    @property
    def working(self) -> Working:
        """What works on the ledger in this process."""
        return Working(self.ledger, MODEL)

    def copy(self, folder: Path) -> "World":
        """Another one with the same content."""
        self.ledger.database.close()
        shutil.copytree(self.folder, folder)
        return World(folder, self.keys)

    def app(self, **settings: Any) -> FastAPI:
        """The service."""
        return create_app(self.ledger, settings_of(**{**QUICK, **settings}))

    def account(self, name: str) -> str:
        """The id of an account."""
        found = accounts.by_name(self.ledger, name)
        assert found is not None
        return found.id

    def headers(self, name: str) -> dict[str, str]:
        """What an account signs in with."""
        return {"Authorization": f"Bearer {self.keys[name]}"}

    @contextlib.contextmanager
    def asking(self, **settings: Any) -> Iterator[Callable[[str], TestClient]]:
        """Clients by the name of the account that asks; of nobody by the name ""."""
        app = self.app(**settings)
        with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as first:
            made = {"": first}

            def client(name: str) -> TestClient:
                if name not in made:
                    made[name] = TestClient(
                        app,
                        base_url=ADDRESS,
                        headers=self.headers(name),
                        raise_server_exceptions=False,
                    )
                return made[name]

            yield client

    def listening(self, **settings: Any) -> contextlib.AbstractContextManager[str]:
        """The address of a real server on a free port."""
        return listening(self.app(**settings))


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address of a real server of a service on a free port, until the end of the block."""
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        assert thread.is_alive(), "the server did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.service.stopping.set()
        server.should_exit = True
        thread.join()


def asked(*values: str, column: str = "subject", **more: Any) -> dict[str, Any]:
    """The body of a request for the rows of some people."""
    return {"column": column, "values": list(values), **more}


def problem(answer: "httpx.Response | Any", status: int) -> dict[str, Any]:
    """The problem that was answered, which has to be of this status and in the form of the RFC."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status
    assert told["type"].startswith("/problems/")
    assert told["title"]
    return told
