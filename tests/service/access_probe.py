"""A ledger whose models nobody trained, accounts of every role, and a small application with a
route for every kind of rule."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Request, Response
from fastapi.testclient import TestClient
from sqlalchemy import BigInteger, Boolean, Float

from expunge.ledger import accounts
from expunge.ledger.accounts import Role
from expunge.ledger.actions import SUBMIT, Action, Outcome, put_down
from expunge.ledger.chain import Write, append
from expunge.ledger.opening import Ledger
from expunge.ledger.rows import Record, rows
from expunge.ledger.tables import CHAINED
from expunge.service import access, problems
from expunge.service.access import Actor, Permission, allowed, doing, public
from expunge.service.api.accounts import router as account_routes
from expunge.service.passwords import Argon2
from expunge.service.settings import Settings, settings_of
from expunge.service.state import Here, Service

CHEAP = Argon2(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes that cost no time, for tests."""
Later = Callable[[timedelta], None]
"""Moves the clock."""
PASSWORD = "correct horse battery"
MODELS = ("digits", "emoji")
REQUEST, OTHER_REQUEST, RUN = "r000000000001", "r000000000002", "u000000000001"
"""Of the model digits; the first was asked for by the account ``asker``."""
HERE, THERE = "digits", "emoji"
GRANTS: Mapping[str, Mapping[str, Role]] = {
    "nobody": {},
    "elsewhere": {THERE: Role.OPERATOR},
    "requester": {HERE: Role.REQUESTER},
    "asker": {HERE: Role.REQUESTER},
    "operator": {HERE: Role.OPERATOR},
    "auditor": {HERE: Role.AUDITOR},
    "every-auditor": {"*": Role.AUDITOR},
    "every-operator": {"*": Role.OPERATOR},
    "admin": {},
}
"""Accounts by the role that they have."""

probes = APIRouter(prefix="/v1/probe")


@probes.post("/models/{model}")
def submit(
    here: Here, model: str, actor: Annotated[Actor, Depends(allowed(Permission.SUBMIT))]
) -> str:
    with doing(here, actor, Permission.SUBMIT, model=model) as act:
        act.target = REQUEST
    return actor.name


@probes.get("/models/{model}/history")
def history(model: str, actor: Annotated[Actor, Depends(allowed(Permission.SEE_HISTORY))]) -> str:
    return actor.name


@probes.get("/requests/{request_id}")
def request(
    request_id: str,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_REQUEST, on="request"))],
) -> str:
    return actor.name


@probes.get("/requests/{request_id}/answers")
def answers(
    request_id: str,
    actor: Annotated[Actor, Depends(allowed(Permission.SEE_ANSWERS, on="request"))],
) -> str:
    return actor.name


@probes.get("/runs/{run_id}")
def run(
    run_id: str, actor: Annotated[Actor, Depends(allowed(Permission.SEE_RUNS, on="run"))]
) -> str:
    return actor.name


@probes.post("/verification")
def verify(
    actor: Annotated[Actor, Depends(allowed(Permission.VERIFY, on="everything"))],
) -> str:
    return actor.name


@probes.post("/form")
def form(
    actor: Annotated[Actor, Depends(allowed(Permission.ONESELF, on="everything"))],
    word: Annotated[str, Form()],
) -> str:
    return word


@probes.get("/renewed")
def renewed(
    here: Here, actor: Annotated[Actor, Depends(allowed(Permission.ONESELF, on="everything"))]
) -> bool:
    return access.renewed(here, actor) == actor


@probes.post("/sign-in")
def sign_in(
    here: Here,
    request: Request,
    response: Response,
    name: Annotated[str, Form()],
    password: Annotated[str, Form()],
    _: Annotated[Actor | None, Depends(public())],
) -> str:
    signed = access.sign_in(here, request, name, password)
    access.set_cookie(response, here, signed.cookie)
    assert signed.actor.session is not None
    return signed.actor.session.csrf


@probes.post("/sign-out")
def sign_out(
    here: Here,
    response: Response,
    actor: Annotated[Actor, Depends(allowed(Permission.ONESELF, on="everything"))],
) -> None:
    access.sign_out(here, actor)
    access.clear_cookie(response, here)


@dataclass
class Probe:
    """A ledger, an application on it, and the keys of its accounts."""

    ledger: Ledger
    app: FastAPI
    ids: dict[str, str] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, ledger: Ledger, settings: Settings | None = None) -> "Probe":
        """The small application."""
        app = FastAPI()
        app.state.service = Service(ledger, settings or settings_of(argon2=CHEAP))
        problems.install(app)
        app.include_router(probes)
        app.include_router(account_routes)
        return cls(ledger, app)

    @property
    def here(self) -> Service:
        """What the application holds."""
        found: Service = self.app.state.service
        return found

    def people(self, *names: str) -> "Probe":
        """Make the accounts of :data:`GRANTS`, or some of them, each with the same password."""
        hashed = self.here.passwords.hashed(PASSWORD)
        for name in names or GRANTS:
            made = accounts.create(self.ledger, name, hashed, name == "admin", GRANTS[name])
            self.ids[name] = made
        if "asker" in self.ids:
            own = Action(
                self.ids["asker"], "requester", SUBMIT, Outcome.DONE, model=HERE, target=REQUEST
            )
            put_down(self.ledger, own)
        return self

    def key(self, name: str) -> str:
        """A key of an account."""
        if name not in self._keys:
            _, whole = accounts.issue_key(
                self.ledger, self.ids[name], "a test", self.here.passwords.hashed
            )
            self._keys[name] = whole
        return self._keys[name]

    def by_key(self, name: str) -> TestClient:
        """A program that sends the key of an account."""
        return self.client(Authorization=f"Bearer {self.key(name)}")

    def client(self, host: str = "127.0.0.1", **headers: str) -> TestClient:
        """Somebody who asks."""
        scheme = "https" if self.here.settings.secure else "http"
        return TestClient(
            self.app,
            base_url=f"{scheme}://127.0.0.1",
            headers=headers,
            client=(host, 50000),
            raise_server_exceptions=False,
        )

    def browser(self, name: str) -> tuple[TestClient, str]:
        """A browser that is signed in, and its token."""
        found = self.client()
        answer = found.post("/v1/probe/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return found, answer.json()

    def rows(self, table: str, **where: object) -> list[Record]:
        """Rows of a table."""
        with self.ledger.database.reading() as connection:
            return rows(connection, table, **where)

    def done(self) -> list[tuple[str, str | None, str]]:
        """What was put down: action, account and outcome, in order."""
        found = sorted(self.rows("actions"), key=lambda row: (row["at"], row["id"]))
        return [(row["action"], row["actor"], row["outcome"]) for row in found]


def untrained_ledger(folder: Path) -> Ledger:
    """A ledger with two models, two requests and a run, of which there are rows and no more."""
    shutil.copytree(_template(), folder, dirs_exist_ok=True)
    return Ledger.open(f"sqlite:///{folder / 'ledger.db'}")


@functools.cache
def _template() -> Path:
    """The ledger that every test has a copy of."""
    folder = Path(tempfile.mkdtemp(prefix="expunge-untrained-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ledger = Ledger.init(f"sqlite:///{folder / 'ledger.db'}")
    fill(ledger)
    ledger.database.close()
    return folder


def fill(ledger: Ledger) -> None:
    """Put the models, requests and the run into a ledger that has none."""
    writes = [_filled("models", id=f"m{name}", name=name) for name in MODELS]
    for number, asked in enumerate((REQUEST, OTHER_REQUEST), 1):
        writes.append(_filled("requests", id=asked, model=f"m{HERE}", number=number))
    writes.append(_filled("runs", id=RUN, model=f"m{HERE}"))
    with ledger.database.writing() as connection:
        append(connection, "made", writes)


def _filled(table: str, **given: Any) -> Write:
    """A row with something in every column."""
    values: dict[str, Any] = {}
    for column in CHAINED[table].columns:
        if column.nullable:
            continue
        if isinstance(column.type, Boolean):
            values[column.name] = False
        elif isinstance(column.type, BigInteger | Float):
            values[column.name] = 1
        else:
            values[column.name] = "text"
    values |= given
    return Write(table, {"id": values.pop("id")}, values)
