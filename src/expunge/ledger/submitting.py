"""Submitting a request: checked, encrypted, numbered in its order of arrival, and nothing more.

No model and no table is loaded here: a request takes milliseconds, whatever it asks for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from expunge.errors import ExpungeError
from expunge.ledger.canonical import canonical
from expunge.ledger.chain import Write, ledger_time, stamp
from expunge.ledger.locks import storing
from expunge.ledger.opening import Ledger, fresh_id, keep, model_row
from expunge.ledger.policy import Policy, policy_of
from expunge.ledger.registering import Columns
from expunge.ledger.rows import Record, one
from expunge.ledger.scope import Scope
from expunge.ledger.tables import RequestState, requests
from expunge.ledger.vault import Stored
from expunge.run_file.made import make, registered

LARGEST = 1_000_000
"""A priority lies between minus this and this: every database holds it as a number."""


@dataclass(frozen=True)
class Submission:
    """What somebody asks for.

    Args:
        scope: what is to be forgotten.
        method: registered name; the model's own method by default.
        parameters: fields of the method.
        aggregation: registered name of the rule; the model's own by default.
        strength: how far the change is applied, finite and above 0; the model's own by default.
        deadline: ISO 8601 with a time zone; the policy's days from now by default.
        priority: larger ones are answered first; -1,000,000 to 1,000,000.
        key: the same key gives the first request again, whatever else is asked.
        metadata: JSON values of the user's own; encrypted, and never in the chain.
        known: refuse a request that names a value which no training row has; by default it is
            taken, and answered with the evidence.
    """

    scope: Scope
    method: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    aggregation: str | None = None
    strength: float | None = None
    deadline: str | None = None
    priority: int = 0
    key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    known: bool = False


@dataclass(frozen=True)
class Receipt:
    """What became of a submission.

    Args:
        request: id of the request.
        number: of it, among those of its model.
        repeated: whether it was there before, under the same key.
        state: that it is in.
        same: whether the request under that key asks for the same as this submission. A deadline
            that is left out is the same as any; of a sealed request names and metadata are gone,
            and only the rest is compared.
    """

    request: str
    number: int
    repeated: bool
    state: str = RequestState.RECEIVED.value
    same: bool = True


def submit(ledger: Ledger, model: str, asked: Submission) -> Receipt:
    """Take a request for a registered model.

    Raises:
        ExpungeError: there is no such model, method, rule or column; no value is named; the
            deadline is no time or is past; the priority or the strength is out of bounds; or, with
            ``known``, a value is unknown.
    """
    with ledger.database.reading() as connection:
        row = model_row(connection, model)
        known = _under_key(ledger, connection, row["id"], asked.key)
        now = ledger_time(connection)
    if known is not None:
        return _repeated(ledger, row, known, asked)
    asked = replace(asked, scope=_checked(ledger, row, asked))
    policy = policy_of(ledger, row)
    deadline = _deadline(asked.deadline, now, policy)
    request = fresh_id("r")
    with storing(ledger.database):
        scope = ledger.vault.put(asked.scope.to_bytes(asked.metadata), "scope")
        with ledger.database.writing() as connection:
            known = _under_key(ledger, connection, row["id"], asked.key)
            number = 0
            if known is None:
                number = _put_down(ledger, connection, row, request, asked, deadline, scope)
        if known is not None:  # the same request came twice at once
            ledger.vault.destroy(scope.address)
            return _repeated(ledger, row, known, asked)
    return Receipt(request, number, False)


def _put_down(
    ledger: Ledger,
    connection: Connection,
    model: Record,
    request: str,
    asked: Submission,
    deadline: str,
    scope: Stored,
) -> int:
    """Write a request under an id, and the hashes of what it names; its number."""
    at = ledger_time(connection)
    largest = select(func.max(requests.c.number)).where(requests.c.model == model["id"])
    number = 1 + (connection.execute(largest).scalar() or 0)
    fields = {
        "model": model["id"],
        "number": number,
        "kind": asked.scope.kind,
        "scope": scope.address,
        "scope_hash": asked.scope.hashed(ledger.keys),
        "method": asked.method or "",
        "parameters": canonical(dict(asked.parameters)).decode(),
        "aggregation": asked.aggregation,
        "strength": asked.strength,
        "priority": asked.priority,
        "deadline": deadline,
        "idempotency_hash": _key_hash(ledger, asked.key),
        "state": RequestState.RECEIVED.value,
        "reason": None,
        "account": None,
        "rows": None,
        "row_hashes": None,
        "row_count": None,
        "created_at": at,
        "updated_at": at,
        "sealed": False,
    }
    writes = [
        Write("requests", {"id": request}, fields),
        *(
            Write("subjects", {"request": request, "hash": hashed}, {})
            for hashed in asked.scope.hashes(ledger.keys)
        ),
    ]
    keep(connection, "submitted", [(scope, f"request:{request}", "scope")], writes)
    return number


def _under_key(
    ledger: Ledger, connection: Connection, model: str, key: str | None
) -> Record | None:
    """The request that was submitted under a key."""
    if key is None:
        return None
    return one(connection, "requests", model=model, idempotency_hash=_key_hash(ledger, key))


def _repeated(ledger: Ledger, model: Record, known: Record, asked: Submission) -> Receipt:
    same = _same(ledger, model, known, asked)
    return Receipt(known["id"], known["number"], True, known["state"], same)


def _same(ledger: Ledger, model: Record, known: Record, asked: Submission) -> bool:
    """Whether a request asks for what a submission does."""
    try:
        scope = _checked(ledger, model, asked)
    except ExpungeError:  # it could not be taken, so it is not what was taken
        return False
    given = (asked.method or "", canonical(dict(asked.parameters)).decode(), asked.aggregation)
    equal = (
        known["scope_hash"] == scope.hashed(ledger.keys)
        and (known["method"], known["parameters"], known["aggregation"]) == given
        and (known["strength"], known["priority"]) == (asked.strength, asked.priority)
        and (asked.deadline is None or known["deadline"] == _moment(asked.deadline))
    )
    try:
        return equal and ledger.read(known["scope"]) == scope.to_bytes(asked.metadata)
    except ExpungeError:  # destroyed by a seal, or out of reach
        return equal


def _key_hash(ledger: Ledger, key: str | None) -> str | None:
    return None if key is None else ledger.keys.hashed("idempotency", key)


def _checked(ledger: Ledger, row: Record, asked: Submission) -> Scope:
    """The scope of a request that can be taken, its classes by their numbers."""
    if asked.method is not None:
        make(registered("methods", asked.method), asked.parameters)
    elif asked.parameters:
        raise ExpungeError(
            f"The parameters {', '.join(sorted(asked.parameters))} were given without a method; "
            "name the method that they belong to."
        )
    if asked.aggregation is not None:
        registered("aggregations", asked.aggregation)
    _check_numbers(asked)
    return worded(ledger, row, asked.scope, asked.known)


def worded(ledger: Ledger, row: Record, scope: Scope, known: bool = False) -> Scope:
    """A scope in the words of the training table: classes by their numbers.

    Args:
        ledger: where.
        row: of the model.
        scope: as somebody gave it.
        known: refuse a value that no row has, where the column is known by its values.

    Raises:
        ExpungeError: it names no value, a column that is not there or, with ``known``, a value that
            no row has.
    """
    if not scope.values:
        raise ExpungeError(
            f"The request names no value of {scope.column!r}; at least one is expected. "
            "Say what is to be forgotten."
        )
    columns = ledger.made_of(row["columns"], Columns.of_bytes)
    column = scope.column
    if column not in columns.hashes:
        raise ExpungeError(
            f"The request names the column {column!r}; the training table has "
            f"{', '.join(sorted(columns.hashes))}. Name one of these."
        )
    held = columns.hashes[column]
    values = tuple(columns.value(column, value) for value in scope.values)
    if known and held is not None:
        unknown = [
            given
            for given, value in zip(scope.values, values, strict=True)
            if ledger.keys.hashed("subject", f"{column}={value}") not in held
        ]
        if unknown:
            raise ExpungeError(
                f"The request names {unknown[0]!r}, which the column {column!r} does not hold. "
                "Check its spelling, or submit it without --known to have it answered with the "
                "evidence."
            )
    return replace(scope, values=values)


def _check_numbers(asked: Submission) -> None:
    if not -LARGEST <= asked.priority <= LARGEST:
        raise ExpungeError(
            f"The priority {asked.priority} was given; a whole number from {-LARGEST:,} to "
            f"{LARGEST:,} is expected. Change --priority."
        )
    strength = asked.strength
    if strength is not None and not (math.isfinite(strength) and strength > 0):
        raise ExpungeError(
            f"The strength {strength} was given; a finite number above 0 is expected. Change "
            "--strength, or leave it out for the model's own."
        )


def _deadline(given: str | None, at: str, policy: Policy) -> str:
    moment = datetime.fromisoformat(at)
    if given is None:
        return stamp(moment + timedelta(days=policy.deadline_days))
    found = _moment(given)
    if found is None:
        raise ExpungeError(
            f"The deadline {given!r} was given; a date and time with its zone is expected, such as "
            f"{stamp(moment + timedelta(days=30))}."
        )
    if found <= at:
        raise ExpungeError(f"The deadline {given} is past; it is {at}. Give a later one.")
    return found


def _moment(given: str) -> str | None:
    """A time as the ledger writes it, or None where it is none or has no zone."""
    try:
        found = datetime.fromisoformat(given)
        return None if found.tzinfo is None else stamp(found)
    except (ValueError, OverflowError):  # the first and the last day are none in another zone
        return None
