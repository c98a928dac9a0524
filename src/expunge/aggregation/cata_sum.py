"""CATA-sum: per coordinate, the sign that outweighs the other, and the sum of its values.

A variant of Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA: Continual Machine Unlearning via
Conflict-Averse Task Arithmetic. arXiv 2605.18610.

The vote of CATA without its division by the count, so that a request does not lose strength when
others agree with it. The state is the sums P and N of the positive values and of the magnitudes of
the negative ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import MAJORITY_SUM, VOTES
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta
from expunge.storage import Bundle


@dataclass(frozen=True)
class CataSum:
    """Majority sign, sum of the agreeing values."""

    name: ClassVar[str] = "cata-sum"
    properties: ClassVar[Properties] = Properties(
        streaming=True,
        flat_cost=True,
        order_independent=True,
        persistence="The summed phi of all requests is >= 0 at every coordinate; the norm grows.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Columns:
        """The state before any request."""
        return Columns.zeros(self.name, VOTES.layout, shapes, base)

    def add(self, state: Columns, delta: Delta, strength: float = 1.0) -> Columns:
        """Fold one request into the state, in place."""
        return state.added(delta, strength, VOTES)

    def combine(self, state: Columns) -> Delta:
        """P where P > N, -N where N > P, zero elsewhere."""
        return state.combined(MAJORITY_SUM)

    def restore(self, bundle: Bundle) -> Columns:
        """The state that a bundle describes."""
        return Columns.restored(self.name, VOTES.layout, bundle)
