"""Resolving: which rows a request names, which repeat them, and whether there is anything to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from expunge.audit.finding import Search, Sought
from expunge.data.duplicates.content import Searched
from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.canonical import canonical
from expunge.ledger.chain import Erase, Write, ledger_time
from expunge.ledger.locks import storing
from expunge.ledger.opening import Ledger, keep
from expunge.ledger.past import StoredHistory
from expunge.ledger.queueing import UNDER_WAY
from expunge.ledger.rows import Record, Value, rows
from expunge.ledger.scope import Scope, among, hashes_of_rows, held_out_names
from expunge.ledger.standing import Standing
from expunge.ledger.steps import current_history, request_row, tell
from expunge.ledger.tables import RequestState
from expunge.ledger.vault import Stored

NOWHERE, EARLIER, EVERYTHING = "not in the training data", "already forgotten", "names every row"
"""Why a request is answered, or refused, before anything is computed."""
ASKED_AT_ONCE = 500
"""Keyed hashes that the database is asked about at a time."""
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
    earlier = standing.gone(r for r in history.requests() if r != request)
    named, account = _named(standing, scope, earlier)
    reason = _reason(named, earlier, account)
    if reason == NOWHERE and _was_sealed(ledger, standing, scope):
        reason, account["sealed"] = EARLIER, True
    copies: list[str] = []
    if reason is None and standing.policy.duplicates != "ignore":
        account["copies"], copies = _copies(standing, named, earlier)
    if standing.policy.duplicates != "include":
        copies = []
    known = standing.material.train_table["id"][:]
    ids = [str(known[i]) for i in named] + copies
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


def _named(
    standing: Standing, scope: Scope, earlier: torch.Tensor
) -> tuple[list[int], dict[str, Any]]:
    """Positions of the named rows, and the account of how they were found."""
    table = standing.material.train_table
    if scope.column not in table.column_names:
        raise ExpungeError(
            "The request names a column that the training table has no more; bring it back, or "
            "register the model anew."
        )
    wanted = set(scope.values)
    column = [str(value) for value in table[scope.column][:]]
    named, ids = [i for i, value in enumerate(column) if value in wanted], table["id"][:]
    return named, {
        "named": len(named),
        "values without a row": sorted(wanted - {column[i] for i in named}),
        "already forgotten": [str(ids[i]) for i in named if earlier[i]],
        "searched": {"rows": len(table), "column": scope.column},
    }


def _reason(named: Sequence[int], earlier: torch.Tensor, account: Mapping[str, Any]) -> str | None:
    if not named:
        return NOWHERE
    if len(account["already forgotten"]) == len(named):
        return EARLIER
    gone = earlier.clone()
    gone[list(named)] = True
    return EVERYTHING if bool(gone.all()) else None


def _state(history: StoredHistory, request: str, reason: str | None) -> RequestState:
    if reason == EVERYTHING:
        return RequestState.REFUSED
    if reason is not None:
        return RequestState.ANSWERED
    guarded = request in {answer.request for answer in history.guards()}
    return RequestState.GUARDED if guarded else RequestState.RUNNING


def _was_sealed(ledger: Ledger, standing: Standing, scope: Scope) -> bool:
    """Whether a sealed request named the same: its rows are left out of all that is looked at."""
    if scope.column == "id" and bool(
        among(ledger.keys, list(scope.values), standing.sealed_rows).any()
    ):
        return True
    hashes = scope.hashes(ledger.keys)
    with ledger.database.reading() as connection:
        for start in range(0, len(hashes), ASKED_AT_ONCE):
            found = rows(connection, "subjects", hash=hashes[start : start + ASKED_AT_ONCE])
            ids = [row["request"] for row in found]
            if rows(connection, "requests", id=ids, model=standing.row["id"], sealed=True):
                return True
    return False


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


def _copies(
    standing: Standing, named: Sequence[int], earlier: torch.Tensor
) -> tuple[dict[str, Any], list[str]]:
    """Rows that repeat those to be forgotten: figures of them, and the ids of those in training."""
    table: Any = standing.material.train_table
    try:
        searched = Searched("train", table)
        search = Search((searched,), searched.compared_by_default())
        [finding] = search.look([Sought("request", searched, tuple(named))])
    except ExpungeError as error:  # a table of tensors has no column that can be compared
        return {"searched": False, "why": str(error)}, []
    ids = [str(value) for value in table["id"][:]]
    place = {name: i for i, name in enumerate(ids)}
    found = [c for c in finding.copies if not earlier[place[c.id]]]
    told = {
        "searched": True,
        "found": len(found),
        "exact": sum(c.exact for c in found),
        "ids": [c.id for c in found],
        "detectors": sorted({c.detector for c in found}),
    }
    return told, [c.id for c in found]
