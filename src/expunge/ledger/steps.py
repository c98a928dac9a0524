"""What the steps of a run share: the rows and objects they start from, and the word on where a run
stands.

Each step reads and writes the ledger alone and gives back ids and addresses, so that it may be
carried out in any process, and again after a crash: what it drafts twice is collected as garbage,
and what it publishes stands under the number of the run, once.
"""

import json
import time
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from expunge.errors import ExpungeError, UnknownError
from expunge.ledger.chain import ledger_time
from expunge.ledger.locks import LostError
from expunge.ledger.measuring import Figures
from expunge.ledger.opening import Ledger
from expunge.ledger.past import StoredHistory
from expunge.ledger.rows import Record, note, one


def read_history(ledger: Ledger, address: str) -> StoredHistory:
    """The history at an address."""
    return StoredHistory.of_bytes(ledger.read(address))


def current_history(ledger: Ledger, model: Record) -> StoredHistory:
    """The history of a model's current version."""
    return read_history(ledger, version_of(ledger, model)["history"])


def draft(ledger: Ledger, run: str, history: StoredHistory) -> str:
    """Store a history that a run tries; its address."""
    return ledger.draft(run, history.to_bytes(), "history", "history")


def version_of(ledger: Ledger, model: Record) -> Record:
    """The current version of a model."""
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model["id"])
        assert row is not None
        found = one(connection, "versions", model=row["id"], number=row["version"])
    assert found is not None
    return found


def read_figures(ledger: Ledger, version: Record) -> Figures:
    """What a version scores, without the conditions that it was held to."""
    found = json.loads(ledger.read(version["figures"]))
    found.pop("checks", None)
    return Figures.of_json(found)


def request_row(connection: Connection, request: str) -> Record:
    """A request by its id.

    Raises:
        ExpungeError: there is none.
    """
    found = one(connection, "requests", id=request)
    if found is None:
        raise UnknownError(f"There is no request {request!r}; `expunge ledger status` lists them.")
    return found


def tell(ledger: Ledger, run: str, step: str, request: str | None = None) -> None:
    """Say where a run stands, to whoever watches from another process."""
    with ledger.database.writing() as connection:
        at = ledger_time(connection)
        told = {"run": run, "step": step, "at": at, "share": None, "note": request}
        note(connection, "progress", told)


EVERY = 2.0
"""Seconds between two shares that are written: each costs a transaction, some milliseconds."""


@dataclass
class Share:
    """Writes the share of a step that is done, now and then, for whoever watches.

    Args:
        ledger: where.
        run: its id.
        written: when the last share was, by the monotonic clock.
    """

    ledger: Ledger
    run: str
    written: float = field(default_factory=time.monotonic)

    def __call__(self, share: float) -> None:
        """Take note of a share from 0 to 1.

        Raises:
            LostError: the worker has ended, so that the step need not go on.
        """
        now = time.monotonic()
        if now - self.written < EVERY:
            return
        self.written = now
        try:
            with self.ledger.database.writing() as connection:
                row = one(connection, "progress", run=self.run)
                if row is not None:
                    note(connection, "progress", {**row, "share": share})
        except LostError:
            raise
        except (ExpungeError, SQLAlchemyError):  # the work itself does not depend on it
            return
