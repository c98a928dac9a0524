"""Unanimous: per coordinate, the mean of the non-zero values if all have one sign, else zero.

Sign consensus as in Kim, Han, Choe (2024). NegMerge: Consensual Weight Negation for Strong Machine
Unlearning.

There the vectors of one request vote; here those of all requests. The state is that of CATA.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import COUNTED_VOTES, UNANIMOUS_MEAN
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta
from expunge.storage import Bundle


@dataclass(frozen=True)
class Unanimous:
    """The mean where no two requests disagree in sign."""

    name: ClassVar[str] = "unanimous"
    properties: ClassVar[Properties] = Properties(
        streaming=True,
        flat_cost=True,
        order_independent=True,
        persistence="No request is hurt at any coordinate: tau_j,i * v_i >= 0 for all j and i; the "
        "support shrinks with more requests.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Columns:
        """The state before any request."""
        return Columns.zeros(self.name, COUNTED_VOTES.layout, shapes, base)

    def add(self, state: Columns, delta: Delta, strength: float = 1.0) -> Columns:
        """Fold one request into the state, in place."""
        return state.added(delta, strength, COUNTED_VOTES)

    def combine(self, state: Columns) -> Delta:
        """(P - N) / (p + n) where one of p and n is zero and the other is not, else zero."""
        return state.combined(UNANIMOUS_MEAN)

    def restore(self, bundle: Bundle) -> Columns:
        """The state that a bundle describes."""
        return Columns.restored(self.name, COUNTED_VOTES.layout, bundle)
