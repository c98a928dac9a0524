"""What was done by whom: rows that the chain knows, so that an altered one is noticed.

They name accounts, requests and versions by their ids and models by their names: no person, no
address, nothing of what was asked for. An account that is deleted leaves its actions, which then
name nobody.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from expunge.ledger import tables
from expunge.ledger.chain import Write, append, ledger_time
from expunge.ledger.opening import Ledger, fresh_id

SUBMIT = "submit"
"""The action whose target is a request that somebody asked for."""
TERMINAL, NOBODY = "terminal", "nobody"
"""Roles beside those of accounts: whoever may write the ledger's files, and who is not known."""
KIND = "action"
"""Of the events of the chain."""


class Outcome(StrEnum):
    """What became of an action."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Action:
    """One thing that somebody did, or was kept from.

    Args:
        actor: id of the account, or None.
        role: by which it was allowed or refused.
        action: in a word, as the permission that it needs.
        outcome: what became of it.
        model: name of the model that it was about, if any.
        target: id of the request, version, account or key that it was about, if any.
    """

    actor: str | None
    role: str
    action: str
    outcome: Outcome
    model: str | None = None
    target: str | None = None


def put_down(ledger: Ledger, action: Action) -> str:
    """Append an action to the chain; its id.

    Raises:
        UnavailableError: the database cannot be written now.
    """
    made = fresh_id("a")
    with ledger.database.writing() as connection:
        at = ledger_time(connection)
        fields = {
            name: None if value is None else str(value) for name, value in vars(action).items()
        }
        append(connection, KIND, [Write("actions", {"id": made}, {**fields, "at": at})], at=at)
    return made


def submitted(*where: ColumnElement[bool]) -> Select[tuple[Any]]:
    """The ids of requests that somebody submitted, by actions of which more is true."""
    columns = tables.actions.columns
    return select(columns.target).where(
        columns.action == SUBMIT, columns.outcome == Outcome.DONE.value, *where
    )


def asked_by(ledger: Ledger, account: str) -> frozenset[str]:
    """Ids of the requests that an account submitted."""
    asked = submitted(tables.actions.columns.actor == account)
    with ledger.database.reading() as connection:
        return frozenset(connection.execute(asked).scalars())


def has_asked(ledger: Ledger, account: str, request: str) -> bool:
    """Whether an account submitted a request."""
    columns = tables.actions.columns
    asked = submitted(columns.target == request, columns.actor == account)
    with ledger.database.reading() as connection:
        return connection.execute(asked.limit(1)).first() is not None


def asker(ledger: Ledger, request: str) -> str | None:
    """Id of the account that submitted a request first; None where none did."""
    columns = tables.actions.columns
    first = submitted(columns.target == request).order_by(columns.at, columns.id).limit(1)
    with ledger.database.reading() as connection:
        found: str | None = connection.execute(first.with_only_columns(columns.actor)).scalar()
        return found
