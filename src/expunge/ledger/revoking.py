"""Revoking: the model as it would be without a request.

A delta made on the same base with data that did not leave out the revoked rows stays as it is, and
is folded again with the others. What was made from other weights (new weights, guards) or from
another training record, or with data that left out the revoked rows, is made again, in order. A
redaction, which is of no weights, stays as it is. So the result equals the run without the request
by construction.
"""

import json

from expunge.errors import ConflictError
from expunge.ledger.answering import again
from expunge.ledger.opening import Ledger
from expunge.ledger.past import Answer
from expunge.ledger.queueing import CANCELLED
from expunge.ledger.rows import Record
from expunge.ledger.standing import Standing
from expunge.ledger.steps import current_history, draft, request_row
from expunge.ledger.tables import RequestState

REVOCABLE = (RequestState.PUBLISHED.value, RequestState.GUARDED.value)


def check_revocable(row: Record) -> None:
    """Refuse a request that cannot be taken back.

    Raises:
        ExpungeError: it was sealed, is revoked already, or was never published.
    """
    if row["sealed"]:
        raise ConflictError(
            f"The request {row['id']} was sealed: the base and the changes that could bring back "
            "what it removed are destroyed, and nothing can revoke it."
        )
    if row["state"] == RequestState.WITHDRAWN.value:
        if row["reason"] == CANCELLED:
            raise ConflictError(f"The request {row['id']} was cancelled before it was worked on.")
        raise ConflictError(f"The request {row['id']} is revoked already.")
    if row["state"] not in REVOCABLE:
        raise ConflictError(
            f"The request {row['id']} is {row['state']}; one that was published is expected."
        )


def without(ledger: Ledger, standing: Standing, run: str, request: str) -> str:
    """The address of the history as if a request had not come; what has to be is made again.

    Raises:
        ExpungeError: it was sealed or revoked since the revocation was asked for, or its rows are
            not there any more.
    """
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
    check_revocable(row)
    _check_rows(ledger, standing, row)
    past = current_history(ledger, standing.row)
    found = past.anew()
    same = True  # whether the weights so far are those of the history
    for epoch in past.epochs:
        for answer in epoch.answers:
            if answer.request == request:
                same = same and answer.guards
            elif stays(answer, request, same, same_base=found.current.base == epoch.base):
                found = found.with_answer(answer)
            else:
                found = again(ledger, standing, run, answer, found)
                same = same and answer.guards
    return draft(ledger, run, found)


def _check_rows(ledger: Ledger, standing: Standing, row: Record) -> None:
    """Refuse where the rows are gone: the model without the request knows them again."""
    named = set(json.loads(ledger.read(row["rows"]))["forget"])
    missing = len(named - {str(name) for name in standing.material.train_table["id"][:]})
    if missing:
        raise ConflictError(
            f"{missing} of the {len(named)} rows of the request {row['id']} are not in the "
            "training table any more; bring them back before the request is revoked."
        )


def stays(answer: Answer, request: str, same: bool, same_base: bool) -> bool:
    """Whether an answer would be the same without a request.

    Args:
        answer: one that was given before or after it.
        request: its id.
        same: whether the weights before the answer would be the same.
        same_base: whether the base would.
    """
    if answer.redacts:
        return True
    if request in answer.excluded:
        return False
    alone = answer.record is None and all(c.kind == "delta" for c in answer.changes)
    return same_base if alone else same
