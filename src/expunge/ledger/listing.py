"""Listing: requests, versions and actions page by page, the newest first.

A page begins after the key of the last row that was seen, by an index, so that a page costs the
same however far down it is, and no row is seen twice while others arrive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, select, tuple_

from expunge.errors import ExpungeError
from expunge.ledger.actions import submitted
from expunge.ledger.opening import Ledger, model_row
from expunge.ledger.rows import Record
from expunge.ledger.steps import read_figures
from expunge.ledger.tables import RequestState, actions, metadata, requests, versions

LARGEST = 200
"""Rows of a page at most."""
Key = list[str | int]
"""What a page begins after: values of the columns that it is ordered by, as JSON has them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows, and the key that the next page begins after; None where this is the last."""

    rows: tuple[T, ...]
    next: Key | None


@dataclass(frozen=True)
class RequestRow:
    """A request as the database knows it: it names nobody.

    ``rows`` are the training rows that it was found to name, None before it was looked for;
    ``method`` is None where the model's own answers it.
    """

    request: str
    number: int
    kind: str
    state: str
    reason: str | None
    rows: int | None
    method: str | None
    priority: int
    deadline: str | None
    created: str
    updated: str
    sealed: bool


@dataclass(frozen=True)
class VersionRow:
    """A version with the score on held-out rows of nobody's request, and the share of the
    registered model's that is."""

    version: int
    cause: str
    created: str
    deletion_state: str | None
    weights: str
    metric: str
    retained: float
    kept: float


@dataclass(frozen=True)
class ActionRow:
    """What was done: by the account ``actor``, to ``target`` of a model."""

    action_id: str
    at: str
    actor: str | None
    role: str
    action: str
    model: str | None
    target: str | None
    outcome: str


def requests_page(
    ledger: Ledger,
    model: str,
    *,
    state: str | None = None,
    asked_by: str | None = None,
    after: Sequence[str | int] | None = None,
    limit: int = 50,
) -> Page[RequestRow]:
    """Requests for a model.

    Args:
        ledger: where.
        model: its name.
        state: that they are in; any by default.
        asked_by: id of the account that submitted them; any by default.
        after: the key of an earlier page: (number).
        limit: rows of the page.

    Raises:
        UnknownError: there is no such model.
        ExpungeError: the state, the key or the limit cannot be used.
    """
    if state is not None and state not in set(RequestState):
        raise ExpungeError(
            f"The state {state!r} was given; one of {', '.join(RequestState)} is expected."
        )
    columns = requests.c
    with ledger.database.reading() as connection:
        where = [columns.model == model_row(connection, model)["id"]]
    if state is not None:
        where.append(columns.state == state)
    if asked_by is not None:
        where.append(columns.id.in_(submitted(actions.c.actor == asked_by)))
    found = _page(ledger, "requests", ("number",), where, after, limit)
    return Page(tuple(map(_request, found.rows)), found.next)


def versions_page(
    ledger: Ledger, model: str, *, after: Sequence[str | int] | None = None, limit: int = 50
) -> Page[VersionRow]:
    """Versions of a model.

    Args:
        ledger: where.
        model: its name.
        after: the key of an earlier page: (number).
        limit: rows of the page.

    Raises:
        UnknownError: there is no such model.
        ExpungeError: the key or the limit cannot be used, or figures cannot be read.
    """
    with ledger.database.reading() as connection:
        where = [versions.c.model == model_row(connection, model)["id"]]
    found = _page(ledger, "versions", ("number",), where, after, limit)
    return Page(tuple(_version(ledger, row) for row in found.rows), found.next)


def actions_page(
    ledger: Ledger,
    *,
    actor: str | None = None,
    models: Sequence[str] | None = None,
    after: Sequence[str | int] | None = None,
    limit: int = 50,
) -> Page[ActionRow]:
    """What was done by whom.

    Args:
        ledger: where.
        actor: id of an account; all by default.
        models: names of the models that it was done to; all, and what belongs to none, by default.
        after: the key of an earlier page: (time, id).
        limit: rows of the page.

    Raises:
        ExpungeError: the key or the limit cannot be used.
    """
    where = []
    if actor is not None:
        where.append(actions.c.actor == actor)
    if models is not None:
        where.append(actions.c.model.in_(list(models)))
    found = _page(ledger, "actions", ("at", "id"), where, after, limit)
    return Page(tuple(ActionRow(r.pop("id"), **r) for r in found.rows), found.next)


def _page(
    ledger: Ledger,
    table: str,
    ordered: tuple[str, ...],
    where: Sequence[ColumnElement[bool]],
    after: Sequence[str | int] | None,
    limit: int,
) -> Page[Record]:
    """Rows of a table in the falling order of columns that tell them apart."""
    if not 1 <= limit <= LARGEST:
        raise ExpungeError(f"The limit {limit} was given; 1 to {LARGEST} is expected.")
    columns = metadata.tables[table].columns
    order = [columns[name] for name in ordered]
    asked = [*where]
    if after is not None:
        key = _checked(after, order)
        asked.append(tuple_(*order) < tuple_(*key) if len(order) > 1 else order[0] < key[0])
    wanted = (
        select(metadata.tables[table])
        .where(*asked)
        .order_by(*(column.desc() for column in order))
        .limit(limit + 1)
    )
    with ledger.database.reading() as connection:
        found = [dict(row) for row in connection.execute(wanted).mappings()]
    last = found[limit - 1] if len(found) > limit else None
    return Page(tuple(found[:limit]), None if last is None else [last[name] for name in ordered])


def _checked(after: Sequence[str | int], order: Sequence[Any]) -> Sequence[str | int]:
    """A key whose values are of the columns' types."""
    kinds = [column.type.python_type for column in order]
    right = len(after) == len(kinds) and all(
        type(value) is kind for value, kind in zip(after, kinds, strict=True)
    )
    if not right or any(isinstance(v, int) and abs(v) >= 2**63 for v in after):
        raise ExpungeError(
            "The place to go on from is none that a page of this list gave; begin at its start."
        )
    return after


def _request(row: Mapping[str, Any]) -> RequestRow:
    return RequestRow(
        row["id"],
        row["number"],
        row["kind"],
        row["state"],
        row["reason"],
        row["row_count"],
        row["method"] or None,
        row["priority"],
        row["deadline"],
        row["created_at"],
        row["updated_at"],
        row["sealed"],
    )


def _version(ledger: Ledger, row: Record) -> VersionRow:
    figures = read_figures(ledger, row)
    return VersionRow(
        row["number"],
        row["cause"],
        row["created_at"],
        row["deletion_state"],
        row["weights_digest"],
        figures.metric,
        figures.retained,
        figures.kept,
    )
