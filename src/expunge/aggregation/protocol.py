"""Aggregation: a rule that combines the deltas of a history, and the properties it states.

A rule folds requests in their order into a state (``empty``, then ``add`` per request) and reads
the combined Delta from it (``combine``). Undoing is never arithmetic on a state: sums of floating
point numbers do not subtract exactly. Revoking a request folds the others again (``fold.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import torch

from expunge.changes.delta import Delta
from expunge.storage import Bundle


@dataclass(frozen=True)
class Properties:
    """What a rule promises.

    ``streaming``: the state does not grow with the number of requests. ``flat_cost``: neither does
    the time of an added request. ``order_independent``: the combined change is the same for every
    order of the requests, up to rounding. ``persistence``: what the rule guarantees to first order
    for earlier requests, with phi_j(v) = <tau_j, v> the forgetting of request j under the update v.
    """

    streaming: bool
    flat_cost: bool
    order_independent: bool
    persistence: str


class Storable(Protocol):
    """A state that can be written to disk."""

    def bundle(self) -> Bundle:
        """The state as named tensors and JSON values."""
        ...


State = TypeVar("State", bound=Storable)


class Aggregation(Protocol[State]):
    """A rule over deltas; ``State`` is what it keeps between requests."""

    name: ClassVar[str]
    properties: ClassVar[Properties]

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> State:
        """The state before any request.

        Args:
            shapes: shape of every parameter that a request may change, by canonical name.
            base: digest of the base that every delta must belong to.
        """
        ...

    def add(self, state: State, delta: Delta, strength: float = 1.0) -> State:
        """Fold one request into the state.

        The tensors of ``state`` may be updated in place: use the returned state, not the old one.
        Where an error is raised, the state is unchanged.

        Args:
            state: the state after the requests before this one.
            delta: the change of this request; it may name some of the parameters only.
            strength: multiplies the delta as it enters the fold.

        Raises:
            IntegrityError: the delta belongs to another base, names an unknown parameter, or has
                other shapes.
            ExpungeError: the strength is not finite, or the state can count no further request.
        """
        ...

    def combine(self, state: State) -> Delta:
        """The combined change of all requests folded so far; the state is unchanged."""
        ...

    def restore(self, bundle: Bundle) -> State:
        """The state that ``state.bundle()`` described.

        Raises:
            IntegrityError: the bundle holds no state of this rule.
        """
        ...
