"""Verbs on what was published: revoke a request, seal a history. Both wait in the queue of runs."""

from sqlalchemy import Connection

from expunge.errors import ExpungeError
from expunge.ledger.canonical import canonical
from expunge.ledger.opening import Ledger, keep, model_row
from expunge.ledger.policy import policy_of
from expunge.ledger.queueing import ACTIVE, REVOKE, SEAL, begin
from expunge.ledger.revoking import check_revocable
from expunge.ledger.rows import one, rows
from expunge.ledger.sealing import sealed_requests
from expunge.ledger.steps import request_row


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
    if not reason.strip():
        raise ExpungeError("A revocation without a reason was asked for; give one: --reason.")
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
        model = one(connection, "models", id=row["model"])
        _check_not_asked(connection, row["model"], REVOKE, request)
    assert model is not None
    allowed = policy_of(ledger, model).revocation.roles
    if role not in allowed:
        raise ExpungeError(
            f"The role {role!r} asked for a revocation; the policy of {model['name']!r} grants it "
            f"to {', '.join(allowed) or 'nobody'}."
        )
    check_revocable(row)
    stored = ledger.vault.put(canonical({"role": role, "reason": reason}), "reason")
    with ledger.database.writing() as connection:
        check_revocable(request_row(connection, request))
        _check_not_asked(connection, row["model"], REVOKE, request)
        run = begin(connection, row["model"], REVOKE, [request])
        keep(connection, "asked", [(stored, f"request:{request}", "reason")])
    return run


def seal(ledger: Ledger, model: str, before: str | None = None) -> str:
    """Queue the seal of a model's history; the id of the run.

    Args:
        ledger: where.
        model: its name.
        before: ISO 8601; requests published before it. All of them by default.

    Raises:
        ExpungeError: there is nothing to seal, or a request is suppressed by a guard alone.
    """
    with ledger.database.reading() as connection:
        row = model_row(connection, model)
    taken = sealed_requests(ledger, row, before)
    with ledger.database.writing() as connection:
        _check_not_asked(connection, row["id"], SEAL)
        return begin(connection, row["id"], SEAL, [request["id"] for request in taken])


def _check_not_asked(connection: Connection, model: str, kind: str, request: str = "") -> None:
    """Refuse what waits in the queue already; that it still can be done is checked again then."""
    for run in rows(connection, "runs", model=model, kind=kind, state=ACTIVE):
        if request in run["requests"]:
            raise ExpungeError(
                f"The run {run['id']} ({kind}) was asked for already and waits for a worker: "
                "`expunge ledger run`."
            )
