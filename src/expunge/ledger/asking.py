"""Verbs on what was asked: revoke a request, seal a history, cancel what waits, retry what was
refused or failed. All of it waits in the queue of runs."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from expunge.errors import ConflictError, ExpungeError, ForbiddenError, UnknownError
from expunge.ledger.canonical import canonical
from expunge.ledger.chain import Erase, Write, ledger_time
from expunge.ledger.locks import storing
from expunge.ledger.opening import Ledger, keep, model_row
from expunge.ledger.policy import policy_of
from expunge.ledger.queueing import (
    ACTIVE,
    CANCELLED,
    QUEUED,
    REVOKE,
    SEAL,
    SERVE,
    begin,
    cancelled,
    holding,
)
from expunge.ledger.queueing import retry as queue_again
from expunge.ledger.revoking import REVOCABLE, check_revocable
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.sealing import sealed_requests
from expunge.ledger.steps import request_row
from expunge.ledger.tables import RequestState

ENDED = (RequestState.REFUSED.value, RequestState.FAILED.value)
"""States of a request that may be tried again."""


def revoke(ledger: Ledger, request: str, role: str, reason: str) -> str:
    """Queue the revocation of a request that was withdrawn; the id of the run.

    Args:
        ledger: where.
        request: its id.
        role: of whoever asks; the policy says which may.
        reason: why; kept encrypted.

    Raises:
        ExpungeError: the role may not, no reason is given, or the request is sealed, revoked
            already or not published.
    """
    _check_reason(reason, "revocation")
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
        _check_not_asked(connection, row["model"], REVOKE, request)
    _check_role(ledger, row["model"], role, "revocation")
    check_revocable(row)
    with storing(ledger.database):
        stored = ledger.vault.put(canonical({"role": role, "reason": reason}), "reason")
        with ledger.database.writing() as connection:
            check_revocable(request_row(connection, request))
            _check_not_asked(connection, row["model"], REVOKE, request)
            run = begin(connection, row["model"], REVOKE, [request])
            keep(connection, "asked", [(stored, f"request:{request}", "reason")])
    return run


def seal(
    ledger: Ledger,
    model: str,
    before: str | None = None,
    planned: Collection[str] | None = None,
) -> str:
    """Queue the seal of a model's history; the id of the run.

    Args:
        ledger: where.
        model: its name.
        before: ISO 8601; requests published before it. All of them by default.
        planned: ids of the requests that a plan listed; whichever they are by default.

    Raises:
        ExpungeError: there is nothing to seal, or a request is suppressed by a guard alone.
        ConflictError: other requests would be sealed than were planned.
    """
    with ledger.database.reading() as connection:
        row = model_row(connection, model)
    taken = [request["id"] for request in sealed_requests(ledger, row, before)]
    if planned is not None and set(planned) != set(taken):
        raise ConflictError(
            "Other requests would be sealed than the plan listed, so nothing was sealed; read the "
            "new plan."
        )
    with ledger.database.writing() as connection:
        _check_not_asked(connection, row["id"], SEAL)
        return begin(connection, row["id"], SEAL, taken)


def cancel(ledger: Ledger, what: str, role: str, reason: str) -> str:
    """Withdraw what waits before anything was done for it; what it was, in words.

    Args:
        ledger: where.
        what: the id of a request, or of the run of a revocation or a seal.
        role: of whoever asks; the policy says which may, as for a revocation.
        reason: why; kept encrypted.

    Raises:
        ExpungeError: the role may not, no reason is given, there is no such thing, or its run has
            begun or ended.
    """
    _check_reason(reason, "cancellation")
    with ledger.database.reading() as connection:
        found = _waiting(connection, what)
    _check_role(ledger, found.model, role, "cancellation")
    with storing(ledger.database):
        stored = ledger.vault.put(canonical({"role": role, "reason": reason}), "reason")
        with ledger.database.writing() as connection:
            found = _waiting(connection, what)
            at = ledger_time(connection)
            writes: list[Write | Erase] = [cancelled(run, at) for run in found.runs]
            if found.request is not None:
                state = {"state": RequestState.WITHDRAWN.value, "reason": CANCELLED}
                writes.append(Write("requests", {"id": what}, {**state, "updated_at": at}))
            owner = f"{'run' if found.request is None else 'request'}:{what}"
            keep(connection, CANCELLED, [(stored, owner, "reason")], writes)
    return found.name


def retry(ledger: Ledger, request: str) -> None:
    """Let a request that was refused or failed wait again: what it asks for stays as it was.

    One that a guard stands for, whose weights were refused or failed, is tried again behind it.

    Raises:
        ExpungeError: there is no such request, it neither was refused nor failed, it is tried
            again already, or its revocation waits.
    """
    with ledger.database.writing() as connection:
        row = request_row(connection, request)
        guarded = row["state"] == RequestState.GUARDED.value and row["reason"] is not None
        if row["state"] not in ENDED and not guarded:
            raise ConflictError(
                f"The request {request} is {row['state']}; one that was refused or failed is "
                "expected."
            )
        for run in holding(connection, row["model"], request):
            if run["kind"] == REVOKE:
                raise ConflictError(
                    f"The revocation of the request {request} is asked for, by the id {run['id']}; "
                    "cancel that first, and then have the request tried again."
                )
            if run["kind"] == SERVE:
                raise ConflictError(
                    f"The request {request} is tried again already, in the run {run['id']}; "
                    "`expunge ledger run` works on it."
                )
        queue_again(connection, row)


@dataclass(frozen=True)
class _Waiting:
    """What may be cancelled: its model's id, its name for people, and the runs that go with it;
    ``request`` is its row, or None of a revocation or a seal."""

    model: str
    name: str
    runs: list[Record]
    request: Record | None = None


def _waiting(connection: Connection, what: str) -> _Waiting:
    """A request, a revocation or a seal that waits, by the id of the request or of the run.

    Raises:
        ExpungeError: there is no such thing, or its run has begun or ended.
    """
    run = one(connection, "runs", id=what)
    if run is None:
        return _waiting_request(connection, what)
    if run["kind"] == SERVE:
        raise ConflictError(
            f"The run {what} answers requests; cancel these, by the ids that `expunge ledger "
            "status --json FILE` lists for it."
        )
    if run["state"] not in ACTIVE:
        raise ConflictError(f"The run {what} has ended already ({run['state']}).")
    if run["state"] != QUEUED:
        raise ConflictError(
            f"The run {what} ({run['kind']}) has begun, and cannot be cancelled any more."
        )
    name = "the seal" if run["kind"] == SEAL else "the revocation"
    return _Waiting(run["model"], name, [run])


def _waiting_request(connection: Connection, what: str) -> _Waiting:
    row = one(connection, "requests", id=what)
    if row is None:
        raise UnknownError(
            f"There is no request or run {what!r}; `expunge ledger status --json FILE` lists them."
        )
    about = holding(connection, row["model"], what)
    if row["state"] in REVOCABLE:
        then = "take it back with `expunge ledger revoke`"
        if revocation := [run for run in about if run["kind"] == REVOKE]:
            then = f"its revocation is asked for, by the id {revocation[0]['id']}"
        raise ConflictError(f"The request {what} is {row['state']} already; {then}.")
    if row["state"] == RequestState.RUNNING.value or any(r["state"] != QUEUED for r in about):
        raise ConflictError(
            f"The request {what} is being worked on already; when it is published, take it back "
            "with `expunge ledger revoke`."
        )
    if row["state"] != RequestState.RECEIVED.value:
        raise ConflictError(f"The request {what} is {row['state']} already; nothing of it waits.")
    return _Waiting(row["model"], f"request {row['number']}", about, row)


def _check_reason(reason: str, what: str) -> None:
    if not reason.strip():
        raise ExpungeError(f"A {what} without a reason was asked for; give one: --reason.")


def _check_role(ledger: Ledger, model: str, role: str, what: str) -> None:
    """Refuse a role that the policy of a model does not let take requests back."""
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model)
    assert row is not None
    allowed = policy_of(ledger, row).revocation.roles
    if role not in allowed:
        raise ForbiddenError(
            f"The role {role!r} asked for a {what}; the policy of {row['name']!r} grants it "
            f"to {', '.join(allowed) or 'nobody'}."
        )


def _check_not_asked(connection: Connection, model: str, kind: str, request: str = "") -> None:
    """Refuse what waits in the queue already; that it still can be done is checked again then."""
    for run in rows(connection, "runs", model=model, kind=kind, state=ACTIVE):
        if request in run["requests"]:
            raise ConflictError(
                f"The run {run['id']} ({kind}) was asked for already and waits for a worker: "
                "`expunge ledger run`."
            )
