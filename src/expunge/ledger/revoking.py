"""Revoking: the model as it would be without a request.

Answers given before it stay. Of those given after it, a delta made on the same base with data that
did not leave out the revoked rows stays as it is, and is folded again with the others; everything
else (new weights, and deltas made with retain data that excluded them) is made again, in order. So
the result equals the run without the request by construction.
"""

import json
from collections.abc import Mapping
from typing import Any

from expunge.errors import ExpungeError
from expunge.ledger import steps
from expunge.ledger.opening import Ledger
from expunge.ledger.past import Answer, StoredHistory
from expunge.ledger.rows import Record, one
from expunge.ledger.standing import Standing
from expunge.ledger.tables import RequestState

REVOCABLE = (RequestState.PUBLISHED.value, RequestState.GUARDED.value)


def check_revocable(row: Record) -> None:
    """Refuse a request that cannot be taken back.

    Raises:
        ExpungeError: it was sealed, is revoked already, or was never published.
    """
    if row["sealed"]:
        raise ExpungeError(
            f"The request {row['id']} was sealed: the base and the changes that could bring back "
            "what it removed are destroyed, and nothing can revoke it."
        )
    if row["state"] == RequestState.WITHDRAWN.value:
        raise ExpungeError(f"The request {row['id']} is revoked already.")
    if row["state"] not in REVOCABLE:
        raise ExpungeError(
            f"The request {row['id']} is {row['state']}; one that was published is expected."
        )


def without(ledger: Ledger, standing: Standing, run: str, request: str) -> str:
    """The address of the history as if a request had not come; what has to be is made again."""
    past = steps.read_history(ledger, steps.version_of(ledger, standing.row)["history"])
    found, later = past.before(request)
    again = past.current.base != found.current.base
    for answer in later:
        if not again and stays(answer, found, request):
            found = found.with_answer(answer)
            continue
        before = found
        address = steps.draft(ledger, run, before)
        found = steps.read_history(
            ledger,
            steps.unlearn(ledger, standing, run, answer.request, address, _method(ledger, answer)),
        )
        again = again or found.current.base != before.current.base
    return steps.draft(ledger, run, found)


def stays(answer: Answer, found: StoredHistory, request: str) -> bool:
    """Whether an answer would be the same without the request."""
    same_base = all(change.kind != "replacement" for change in answer.changes)
    return same_base and request not in answer.excluded


def _method(ledger: Ledger, answer: Answer) -> tuple[str, Mapping[str, Any]] | None:
    """What a repair chose is taken again; the request's own method is found as it was."""
    if answer.settings == "repair":
        return answer.method, answer.parameters
    with ledger.database.reading() as connection:
        row = one(connection, "requests", id=answer.request)
    if row is not None and row["method"] and json.loads(row["parameters"]):
        return row["method"], json.loads(row["parameters"])
    return None
