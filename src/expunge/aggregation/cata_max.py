"""CATA-max: per coordinate, the sign that outweighs the other, and its largest value.

A variant of Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA: Continual Machine Unlearning via
Conflict-Averse Task Arithmetic. arXiv 2605.18610.

The largest value is the rule of Marczak, Twardowski, Trzcinski, Cygert (2024). MagMax: Leveraging
Model Merging for Seamless Continual Learning.

The state is the sums of both signs, which vote, and the largest magnitude seen of each sign.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import MAJORITY_LARGEST, VOTES_AND_LARGEST
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta
from expunge.storage import Bundle


@dataclass(frozen=True)
class CataMax:
    """Majority sign, agreeing value of largest magnitude."""

    name: ClassVar[str] = "cata-max"
    properties: ClassVar[Properties] = Properties(
        streaming=True,
        flat_cost=True,
        order_independent=True,
        persistence="A coordinate never shrinks while its elected sign holds.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Columns:
        """The state before any request."""
        return Columns.zeros(self.name, VOTES_AND_LARGEST.layout, shapes, base)

    def add(self, state: Columns, delta: Delta, strength: float = 1.0) -> Columns:
        """Fold one request into the state, in place."""
        return state.added(delta, strength, VOTES_AND_LARGEST)

    def combine(self, state: Columns) -> Delta:
        """The largest value of the sign that outweighs the other; zero on a tie."""
        return state.combined(MAJORITY_LARGEST)

    def restore(self, bundle: Bundle) -> Columns:
        """The state that a bundle describes."""
        return Columns.restored(self.name, VOTES_AND_LARGEST.layout, bundle)
