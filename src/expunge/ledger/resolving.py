"""Resolving: which rows a request names, which repeat them, and whether there is anything to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.canonical import canonical
from expunge.ledger.chain import Erase, Write, ledger_time
from expunge.ledger.locks import storing
from expunge.ledger.naming import EVERYTHING, Copies, Meant, copies_of, meant
from expunge.ledger.opening import Ledger, keep
from expunge.ledger.past import StoredHistory
from expunge.ledger.queueing import UNDER_WAY
from expunge.ledger.rows import Record, Value
from expunge.ledger.scope import Scope, hashes_of_rows, held_out_names
from expunge.ledger.standing import Standing
from expunge.ledger.steps import current_history, request_row, tell
from expunge.ledger.tables import RequestState
from expunge.ledger.vault import Stored

OWN = {"rows": "rows", "row_hashes": "row hashes", "account": "account"}
"""Columns of a request with what was found, and the roles of their objects."""


@dataclass(frozen=True)
class Resolved:
    """What became of a request when its rows were looked for.

    ``go`` is whether there is something to forget; ``reason`` why not.
    """

    go: bool
    reason: str | None = None


def resolve(ledger: Ledger, standing: Standing, run: str, request: str) -> Resolved:
    """Find the rows that a request names, and those that repeat them.

    A request that names nothing of the training data, or nothing that is not forgotten already, is
    answered here, with the evidence in an encrypted account. Of one that names some rows which are
    forgotten already, all rows are taken: so its answer stands when the earlier request is revoked.
    One that has ended, since it was revoked while its run was interrupted, is left as it is.
    """
    tell(ledger, run, "resolve", request)
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
    if row["state"] not in UNDER_WAY:
        return Resolved(False, row["reason"])
    scope = _scope(ledger, standing, row)
    history = current_history(ledger, standing.row)
    found = meant(ledger, standing, scope, [r for r in history.requests() if r != request])
    repeated, reason = copies_of(standing, found), found.reason
    account = _account(standing, scope, found)
    if repeated is not None:
        account["copies"] = _told(repeated)
    copies: list[str] = []
    if repeated is not None and standing.policy.duplicates == "include":
        copies = [copy.id for copy in repeated.found]
    known = standing.material.train_table["id"][:]
    ids = [str(known[i]) for i in found.named] + copies
    held_out = standing.named_held_out(scope.target)
    names = [*ids, *held_out_names([standing.material.held_out.ids[i] for i in held_out.tolist()])]
    fields: dict[str, Value] = {
        "row_count": len(ids),
        "state": _state(history, request, reason).value,
        "reason": reason,
    }
    put = ledger.vault.put
    with storing(ledger.database):
        drafted = {
            "rows": put(canonical({"forget": ids, "copies": copies}), "rows"),
            "row_hashes": put(hashes_of_rows(ledger.keys, names), "row hashes"),
            "account": put(canonical(account), "account"),
        }
        _put_down(ledger, request, drafted, fields)
    return Resolved(reason is None, reason)


def _scope(ledger: Ledger, standing: Standing, row: Record) -> Scope:
    """What a request asks for.

    Raises:
        ExpungeError: it is damaged, while the model is not: the request fails, and others go on.
        IntegrityError: objects of the model are not there either.
    """
    try:
        return Scope.of_bytes(ledger.read(row["scope"]))
    except IntegrityError as error:
        ledger.vault.check(standing.row["policy"])
        raise ExpungeError(
            f"What the request {row['id']} alone asks for cannot be read: {error} Then have it "
            f"tried again: `expunge ledger retry {row['id']}`."
        ) from None


def _account(standing: Standing, scope: Scope, found: Meant) -> dict[str, Any]:
    """What was searched, and what came of it."""
    ids = standing.material.train_table["id"][:]
    account: dict[str, Any] = {
        "named": len(found.named),
        "values without a row": list(found.unknown),
        "already forgotten": [str(ids[i]) for i in found.forgotten],
        "searched": {"rows": len(ids), "column": scope.column},
    }
    if found.sealed:
        account["sealed"] = True
    return account


def _told(copies: Copies) -> dict[str, Any]:
    if copies.why is not None:
        return {"searched": False, "why": copies.why}
    return {
        "searched": True,
        "found": len(copies.found),
        "exact": sum(c.exact for c in copies.found),
        "ids": [c.id for c in copies.found],
        "detectors": sorted({c.detector for c in copies.found}),
    }


def _state(history: StoredHistory, request: str, reason: str | None) -> RequestState:
    if reason == EVERYTHING:
        return RequestState.REFUSED
    if reason is not None:
        return RequestState.ANSWERED
    guarded = request in {answer.request for answer in history.guards()}
    return RequestState.GUARDED if guarded else RequestState.RUNNING


def _put_down(
    ledger: Ledger, request: str, drafted: Mapping[str, Stored], fields: Mapping[str, Value]
) -> None:
    """What was found, in the place of what was found before a crash."""
    owner = f"request:{request}"
    with ledger.database.writing() as connection:
        found = request_row(connection, request)
        dropped: list[Write | Erase] = [
            Erase("uses", {"address": found[name], "owner": owner, "role": role})
            for name, role in OWN.items()
            if found[name] is not None
        ]
        addresses = {name: stored.address for name, stored in drafted.items()}
        whole = {**fields, **addresses, "updated_at": ledger_time(connection)}
        owned = [(stored, owner, OWN[name]) for name, stored in drafted.items()]
        keep(connection, "resolved", owned, [*dropped, Write("requests", {"id": request}, whole)])
