"""Deletion state: what a history left of the forgotten rows, in five words that people can act on.

Definition: "Words" in docs/architecture.md. A state is that of the weakest answer in use: one
guard among ten edits leaves the model suppressed. A Replacement made without all rows that were
forgotten before it answers for these too.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Literal

from expunge.changes.delta import Delta
from expunge.changes.history import History
from expunge.changes.kinds import Adapter, Change, Replacement, acts_on
from expunge.changes.proof import Certified


class DeletionState(StrEnum):
    """What is left of the forgotten rows in the model in use, the weakest first."""

    SUPPRESSED = "suppressed"
    """A guard or a redaction acts at inference; the weights still hold them."""
    EDITED = "edited, base kept"
    """The weights in use were edited; base and changes together restore what was forgotten."""
    SEALED = "edited, sealed"
    """Edited, and base and changes were destroyed."""
    RETRAINED = "retrained"
    """The weights in use come from a training without the forgotten rows."""
    EXACT = "exact"
    """The weights in use are proven to be those of a training without them, in every bit or up to
    the rounding that the answer states."""


Below = Literal["unknown", "never saw the rows"]
"""What is known of the weights that an exact method does not cover, such as a frozen backbone."""

STATE: Mapping[Below, DeletionState] = {
    "never saw the rows": DeletionState.EXACT,
    "unknown": DeletionState.EDITED,
}
"""What a model is without the rows in what an exact method covers, by what lies below that."""

BELOW: Mapping[Below, str] = {
    "never saw the rows": "declared never to have seen the rows",
    "unknown": "they may have been trained on the rows, and hold them then",
}
"""The same in words."""

DELETION = "deletion"
"""The fact by which a Replacement says that it is more than an edit."""
SCOPE, EPSILON, DELTA = "certified", "epsilon", "delta"
"""Facts by which a change says what its certificate covers, and how far it may fail."""


def deletion_state(history: History) -> DeletionState | None:
    """The state of a model whose base and changes are kept; None where nothing was answered."""
    return weakest(
        state_of(change)
        for epoch in history.epochs
        for entry in epoch.served
        for change in entry.changes
    )


def weakest(states: Iterable[DeletionState]) -> DeletionState | None:
    """What changes with these states, in their order, leave together; None where there are none."""
    left: list[DeletionState] = []
    for state in states:
        anew = state in (DeletionState.RETRAINED, DeletionState.EXACT)
        left = [state] if anew else [*left, state]
    return min(left, key=list(DeletionState).index) if left else None


def state_of(change: Change) -> DeletionState:
    """What one change leaves of the rows that it answers for."""
    if isinstance(change, Replacement):
        return DeletionState(str(change.facts.get(DELETION, DeletionState.EDITED)))
    if isinstance(change, Delta | Adapter):
        return DeletionState.EDITED
    return DeletionState.SUPPRESSED


def certified_of(change: Change) -> Certified | None:
    """What a change is certified for; None without a certificate."""
    facts = getattr(change, "facts", {})
    if facts.get(SCOPE) is None:
        return None
    numbers = (None if facts.get(n) is None else float(facts[n]) for n in (EPSILON, DELTA))
    return Certified(str(facts[SCOPE]), *numbers)


def certified(history: History) -> Certified | None:
    """What the model in use is certified for: that of the last change of its weights, since a
    change without a certificate may undo those before it."""
    moves = [
        change
        for epoch in history.epochs
        for entry in epoch.served
        for change in entry.changes
        if acts_on(change) in ("weights", "base")
    ]
    return certified_of(moves[-1]) if moves else None
