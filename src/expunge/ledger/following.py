"""Following: where one request stands, step by step, for whoever looks every second."""

import hashlib
from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from expunge.errors import UnknownError
from expunge.ledger.canonical import canonical
from expunge.ledger.looking import where
from expunge.ledger.opening import Ledger
from expunge.ledger.queueing import holding
from expunge.ledger.rows import one
from expunge.ledger.steps import request_row
from expunge.ledger.tables import RequestState

WAITS = (RequestState.RECEIVED.value, RequestState.RUNNING.value)
"""States that a request does not stay in."""


@dataclass(frozen=True)
class Step:
    """Where a run about the request stands.

    Attributes:
        run: its id.
        kind: serve, revoke or seal.
        state: queued, running or interrupted.
        step: what is being done.
        since: when it was begun.
        share: how much of it is done, where a method knows.
    """

    run: str
    kind: str
    state: str
    step: str
    since: str
    share: float | None


@dataclass(frozen=True)
class Progress:
    """Where a request stands.

    Attributes:
        request: its id.
        state: of the request.
        reason: of the state, where it has one.
        updated: when the state was last set.
        steps: of the runs about it that have not ended.
    """

    request: str
    state: str
    reason: str | None
    updated: str
    steps: tuple[Step, ...]

    @property
    def over(self) -> bool:
        """Whether nothing will follow unless somebody asks for it."""
        if self.steps or self.state in WAITS:
            return False
        return self.state != RequestState.GUARDED.value or self.reason is not None

    @property
    def mark(self) -> str:
        """The same for the same progress, and another for any other."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()[:16]


def progress(ledger: Ledger, request: str) -> Progress:
    """Where a request stands; nothing is read but rows.

    Raises:
        UnknownError: there is no such request.
    """
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
        found = holding(connection, row["model"], request)
        told = {run["id"]: one(connection, "progress", run=run["id"]) for run in found}
    steps = tuple(
        Step(run["id"], run["kind"], run["state"], **where(run, told[run["id"]])) for run in found
    )
    return Progress(request, row["state"], row["reason"], row["updated_at"], steps)


def model_of(ledger: Ledger, request: str) -> str:
    """The name of the model that a request is for.

    Raises:
        UnknownError: there is no such request.
    """
    with ledger.database.reading() as connection:
        return _name(connection, request_row(connection, request)["model"])


def model_of_run(ledger: Ledger, run: str) -> str:
    """The name of the model that a run works on.

    Raises:
        UnknownError: there is no such run.
    """
    with ledger.database.reading() as connection:
        found = one(connection, "runs", id=run)
        if found is None:
            raise UnknownError(f"There is no run {run!r}; `expunge ledger status` lists them.")
        return _name(connection, found["model"])


def _name(connection: Connection, model: str) -> str:
    row = one(connection, "models", id=model)
    assert row is not None
    return str(row["name"])
