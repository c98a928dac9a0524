"""Naming: which rows of a model a scope means, which repeat them, and what is forgotten already.

Looked for in one way before a request is made (:mod:`~expunge.ledger.previewing`) and when it is
answered (:mod:`~expunge.ledger.resolving`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.audit.finding import Copy, Sought
from expunge.errors import ExpungeError
from expunge.ledger.opening import Ledger
from expunge.ledger.rows import rows
from expunge.ledger.scope import Scope, among
from expunge.ledger.standing import Standing

NOWHERE, EARLIER, EVERYTHING = "not in the training data", "already forgotten", "names every row"
"""Why a request is answered, or refused, before anything is computed."""
ASKED_AT_ONCE = 500
"""Keyed hashes that the database is asked about at a time."""


@dataclass(frozen=True)
class Copies:
    """Rows that repeat those named: those that are not forgotten yet, or why none were looked
    for."""

    found: tuple[Copy, ...] = ()
    why: str | None = None


@dataclass(frozen=True)
class Meant:
    """The rows that a scope means.

    Args:
        named: positions among the training rows.
        unknown: values that no training row has.
        earlier: training rows (n,) bool that other requests have named.
        reason: why there is nothing to forget, or nothing would be left; None where there is.
        sealed: whether a sealed request named the same, and so there is nothing.
    """

    named: tuple[int, ...]
    unknown: tuple[str, ...]
    earlier: Tensor
    reason: str | None
    sealed: bool

    @property
    def forgotten(self) -> tuple[int, ...]:
        """Positions of the named rows that are forgotten already."""
        return tuple(i for i in self.named if self.earlier[i])


def meant(ledger: Ledger, standing: Standing, scope: Scope, earlier: Collection[str]) -> Meant:
    """Look for the rows that a scope names.

    Args:
        ledger: where.
        standing: the model.
        scope: what is named, its classes by their numbers.
        earlier: ids of the requests that the current version answers.

    Raises:
        ExpungeError: the training table does not have the column.
    """
    named, unknown = _named(standing, scope)
    gone = standing.gone(earlier)
    reason, sealed = _reason(named, gone), False
    if reason == NOWHERE and _was_sealed(ledger, standing, scope):
        reason, sealed = EARLIER, True
    return Meant(tuple(named), tuple(unknown), gone, reason, sealed)


def copies_of(standing: Standing, found: Meant) -> Copies | None:
    """Rows that repeat those to be forgotten; None where the policy of the model does not ask for
    them, or there is nothing to forget."""
    if found.reason is not None or standing.policy.duplicates == "ignore":
        return None
    try:
        search = standing.search()
        copies = search.repeats(Sought("request", search.tables[0], found.named))
    except ExpungeError as error:  # a table of tensors has no column that can be compared
        return Copies(why=str(error))
    place = places(standing)
    return Copies(tuple(copy for copy in copies if not found.earlier[place[copy.id]]))


def places(standing: Standing) -> dict[str, int]:
    """The position of each training row, by its id."""
    return {str(name): i for i, name in enumerate(standing.material.train_table["id"][:])}


def _named(standing: Standing, scope: Scope) -> tuple[list[int], list[str]]:
    """Positions of the named rows, and the values that no row has."""
    table = standing.material.train_table
    if scope.column not in table.column_names:
        raise ExpungeError(
            "The request names a column that the training table has no more; bring it back, or "
            "register the model anew."
        )
    wanted = set(scope.values)
    column = [str(value) for value in table[scope.column][:]]
    named = [i for i, value in enumerate(column) if value in wanted]
    return named, sorted(wanted - {column[i] for i in named})


def _reason(named: Sequence[int], earlier: Tensor) -> str | None:
    if not named:
        return NOWHERE
    if all(bool(earlier[i]) for i in named):
        return EARLIER
    gone = earlier.clone()
    gone[torch.tensor(named)] = True
    return EVERYTHING if bool(gone.all()) else None


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
