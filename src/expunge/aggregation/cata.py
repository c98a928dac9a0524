"""CATA: per coordinate, the sign that outweighs the other, and the mean of the values that agree.

Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA: Continual Machine Unlearning via Conflict-Averse Task
Arithmetic. arXiv 2605.18610.

Electing a sign and the disjoint mean are those of TIES: Yadav, Tam, Choshen, Raffel, Bansal (2023).
TIES-Merging: Resolving Interference When Merging Models.

Steps 4 to 6 of the paper on vectors that are negated and trimmed already (``trim.py``):
``g = sign(sum_j tau_j)``, ``agg = mean of tau_j over the j with sign(tau_j) = g``, zero on a tie.
The paper keeps every vector. Four numbers per coordinate are enough: the sums P and N of the
positive values and of the magnitudes of the negative ones, and their counts p and n; then
``g = sign(P - N)`` and ``agg = P / p`` or ``-N / n``. This equals the formula of the paper up to
the order of summation. Strength and trim are the caller's: 0.7 and 0.3 in the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import COUNTED_VOTES, MAJORITY_MEAN
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta
from expunge.storage import Bundle


@dataclass(frozen=True)
class Cata:
    """Majority sign, mean of the agreeing values."""

    name: ClassVar[str] = "cata"
    properties: ClassVar[Properties] = Properties(
        streaming=True,
        flat_cost=True,
        order_independent=True,
        persistence="The summed phi of all requests is >= 0 at every coordinate; one that loses "
        "the vote there is hurt.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Columns:
        """The state before any request."""
        return Columns.zeros(self.name, COUNTED_VOTES.layout, shapes, base)

    def add(self, state: Columns, delta: Delta, strength: float = 1.0) -> Columns:
        """Fold one request into the state, in place."""
        return state.added(delta, strength, COUNTED_VOTES)

    def combine(self, state: Columns) -> Delta:
        """P / p where P > N, -N / n where N > P, zero elsewhere."""
        return state.combined(MAJORITY_MEAN)

    def restore(self, bundle: Bundle) -> Columns:
        """The state that a bundle describes."""
        return Columns.restored(self.name, COUNTED_VOTES.layout, bundle)
