"""Selection: in which orders the slices of a shard are learned, under a budget.

Basu Roy Chowdhury, Choromanski, Sehanobish, Dubey, Chaturvedi (2025). Towards Scalable Exact
Machine Unlearning Using Parameter-Efficient Fine-Tuning (ICLR). An order is dead once a row of its
first slice is removed, and the more of its beginning is intact, the better it serves. Where any
slice may be asked for, orders should begin differently; where it is known which are, each order
should have those last that are likely to go.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from expunge.errors import ExpungeError
from expunge.learning.sharded.layout import Prefix


class Selection(Protocol):
    """A way to choose orders."""

    def orders(self, slices: int, budget: int) -> tuple[Prefix, ...]:
        """``budget`` different orders of ``slices`` slices.

        Raises:
            ExpungeError: there are not so many.
        """
        ...


@dataclass(frozen=True)
class CyclicRotation:
    """For requests that may fall anywhere: the rotations of 0, 1 ... L - 1, of which no two have
    the same slice at any position.

    A budget above L rotates what follows the first slice of each, then what follows the second, and
    so on, up to all L! orders.
    """

    name: ClassVar[str] = "cyclic"

    def orders(self, slices: int, budget: int) -> tuple[Prefix, ...]:
        """The orders, the plain rotations first."""
        if not 1 <= budget <= math.factorial(slices):
            raise ExpungeError(
                f"{budget} orders of {slices} slices were asked for; there are from 1 to "
                f"{math.factorial(slices)}. Take another budget."
            )
        found = [tuple(range(slices))]
        for kept in range(slices - 1):
            found = [
                order[:kept] + order[kept + by :] + order[kept : kept + by]
                for by in range(slices - kept)
                for order in found
            ]
            if len(found) >= budget:
                break
        return tuple(found[:budget])


@dataclass(frozen=True)
class BipartiteMatching:
    """For requests whose slices are known in part: those that are likely to go stand last.

    The L orders grow together, by one slice a round. Each round is the assignment of slices to
    orders with the largest total score, where an order never takes a slice twice: so every slice
    stands once at every position, a Latin square. Of fewer than L orders those with the largest
    score are taken. The score is the paper's, see :meth:`score`.

    Args:
        prior: probability that a request falls into each slice of a shard; they sum to 1.
        horizon: t, number of requests.

    Raises:
        ExpungeError: the numbers are no probabilities, or no request is looked ahead for.
    """

    name: ClassVar[str] = "bipartite-matching"

    prior: tuple[float, ...]
    horizon: int = 100

    def __post_init__(self) -> None:
        sound = all(0 <= p <= 1 for p in self.prior) and math.isclose(sum(self.prior), 1)
        if not sound or self.horizon < 1:
            raise ExpungeError(
                f"The prior {list(self.prior)} over slices and a horizon of {self.horizon} were "
                "given; one probability for each slice, 1 in sum, and a horizon of at least 1 are "
                "expected."
            )

    def orders(self, slices: int, budget: int) -> tuple[Prefix, ...]:
        """The orders, that of the largest score first."""
        if len(self.prior) != slices or not 1 <= budget <= slices:
            raise ExpungeError(
                f"{budget} orders of {slices} slices were asked for with a prior over "
                f"{len(self.prior)}; a probability for every slice and a budget from 1 to "
                f"{slices} are expected. Larger budgets are for `CyclicRotation`."
            )
        found: list[Prefix] = [(each,) for each in range(slices)]
        for _ in range(slices - 1):
            scores = np.array(
                [[self._extended(order, each) for each in range(slices)] for order in found]
            )
            _, chosen = linear_sum_assignment(scores, maximize=True)
            found = [(*order, int(each)) for order, each in zip(found, chosen, strict=True)]
        found.sort(key=self.score, reverse=True)  # stable: of equals the first slice decides
        return tuple(found[:budget])

    def score(self, order: Sequence[int]) -> float:
        """Sum over n of n (1 - probability that a request falls into the first n)^horizon."""
        gone = np.minimum(np.cumsum([self.prior[each] for each in order]), 1.0)
        counts = np.arange(1, len(order) + 1)
        return float((counts * (1 - gone) ** self.horizon).sum())

    def _extended(self, order: Prefix, each: int) -> float:
        return -math.inf if each in order else self.score((*order, each))
