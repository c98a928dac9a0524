"""First writer: per coordinate, the value of the first request that wrote it.

Seniority with disjoint masks; the variant "first-writer" of our card on
Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA: Continual Machine Unlearning via Conflict-Averse Task
Arithmetic. arXiv 2605.18610.

A coordinate is written by its first value that is not zero, so that the state is the combined
change itself. About (1 - k)^(t - 1) of the coordinates are free for request t where each keeps the
fraction k: trim to about 1 / T.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import FIRST, WRITTEN, Emit
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta
from expunge.storage import Bundle

AS_WRITTEN = Emit(torch.clone, WRITTEN)


@dataclass(frozen=True)
class FirstWriter:
    """Seniority: later requests write only what is free."""

    name: ClassVar[str] = "first-writer"
    properties: ClassVar[Properties] = Properties(
        streaming=True,
        flat_cost=True,
        order_independent=False,
        persistence="phi_j(t) = phi_j(j) exactly for every t >= j: after request j all its "
        "coordinates are written, and what is written never changes.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Columns:
        """The state before any request."""
        return Columns.zeros(self.name, FIRST.layout, shapes, base)

    def add(self, state: Columns, delta: Delta, strength: float = 1.0) -> Columns:
        """Fold one request into the state, in place."""
        return state.added(delta, strength, FIRST)

    def combine(self, state: Columns) -> Delta:
        """The written values."""
        return state.combined(AS_WRITTEN)

    def restore(self, bundle: Bundle) -> Columns:
        """The state that a bundle describes."""
        return Columns.restored(self.name, FIRST.layout, bundle)
