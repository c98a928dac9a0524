"""Mean: the plain mean of the task vectors.

The naive baseline in the ablation of Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA: Continual
Machine Unlearning via Conflict-Averse Task Arithmetic. arXiv 2605.18610.

A request holds 1 / t of its own strength after t requests, and values of opposite sign cancel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import TOTAL, VALUES, Emit
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta
from expunge.storage import Bundle


@dataclass(frozen=True)
class Mean:
    """The mean over all requests; a coordinate that a request does not touch counts as zero."""

    name: ClassVar[str] = "mean"
    properties: ClassVar[Properties] = Properties(
        streaming=True,
        flat_cost=True,
        order_independent=True,
        persistence="None: every request is diluted to 1 / t, and opposite values cancel.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Columns:
        """The state before any request."""
        return Columns.zeros(self.name, VALUES.layout, shapes, base)

    def add(self, state: Columns, delta: Delta, strength: float = 1.0) -> Columns:
        """Fold one request into the state, in place."""
        return state.added(delta, strength, VALUES)

    def combine(self, state: Columns) -> Delta:
        """The sum divided by the number of requests."""
        requests = max(state.requests, 1)
        return state.combined(Emit(lambda total: total / requests, TOTAL))

    def restore(self, bundle: Bundle) -> Columns:
        """The state that a bundle describes."""
        return Columns.restored(self.name, VALUES.layout, bundle)
