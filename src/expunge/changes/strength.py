"""Strengths: how far a change is to be applied, found on validation rows by bisection.

A request's own strength is the smallest at which its rows look to the model as they look to the
oracle: forgetting more than the oracle is no better (metrics of continual unlearning, signed gap).
A common factor is the largest that keeps the retained accuracy above a floor.
"""

from collections.abc import Callable
from dataclasses import dataclass

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Search:
    """Where a strength is looked for.

    Args:
        upper: largest strength that is tried.
        points: number of equal steps to it, walked from below until the condition turns.
        halvings: bisections between the last two of them.
    """

    upper: float = 4.0
    points: int = 16
    halvings: int = 4

    def __post_init__(self) -> None:
        if self.upper <= 0 or self.points < 1 or self.halvings < 0:
            raise ExpungeError(
                f"A search up to {self.upper} in {self.points} points and {self.halvings} "
                "halvings was asked for; positive numbers are expected."
            )


def smallest(holds: Callable[[float], bool], search: Search) -> float | None:
    """The smallest strength at which ``holds`` is true, up to the bisection's width.

    None where it holds nowhere up to ``search.upper``. Strength 0 is tried first.
    """
    if holds(0.0):
        return 0.0
    low = 0.0
    for k in range(1, search.points + 1):
        high = search.upper * k / search.points
        if holds(high):
            return bisected(holds, low, high, search.halvings)[1]
        low = high
    return None


def largest(holds: Callable[[float], bool], search: Search) -> float:
    """The largest strength up to which ``holds`` stays true, up to the bisection's width."""
    turned = smallest(lambda strength: not holds(strength), search)
    if turned is None:
        return search.upper
    width = search.upper / search.points / 2.0**search.halvings
    return max(0.0, turned - width)


def bisected(
    holds: Callable[[float], bool], low: float, high: float, halvings: int
) -> tuple[float, float]:
    """The points between which ``holds`` turns true, after so many halvings."""
    for _ in range(halvings):
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return low, high
