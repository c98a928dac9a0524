"""Beside the oracles: what several of them score, and how far one more may be from them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self

from scipy.special import stdtrit

from expunge.errors import ExpungeError
from expunge.signals.accuracy import Interval


@dataclass(frozen=True)
class Beside:
    """The values of n oracles.

    Args:
        values: of each.
        confidence: coverage of the interval in which one more oracle is expected.

    Raises:
        ExpungeError: there is no oracle, or a value is not finite.
    """

    values: tuple[float, ...]
    confidence: float

    def __post_init__(self) -> None:
        if not self.values or not all(map(math.isfinite, self.values)):
            raise ExpungeError(
                f"The oracles scored {list(self.values)}; finite numbers of at least one are "
                "expected. Check the recipe: an oracle has probably diverged."
            )

    @classmethod
    def of(cls, values: Iterable[float], confidence: float) -> Self:
        """The values of these oracles."""
        return cls(tuple(values), confidence)

    @property
    def mean(self) -> float:
        """Over the oracles."""
        return fmean(self.values)

    @property
    def half_width(self) -> float:
        """Of Student's prediction interval for one more oracle; 0 for a single one, whose spread
        is not known."""
        n = len(self.values)
        if n < 2:
            return 0.0
        quantile = float(stdtrit(n - 1, (1 + self.confidence) / 2))
        return quantile * stdev(self.values) * math.sqrt(1 + 1 / n)

    @property
    def interval(self) -> Interval:
        """Where one more oracle is expected."""
        return Interval(self.mean - self.half_width, self.mean + self.half_width, self.confidence)

    def allowed(self, tolerance: float, widest: float = math.inf) -> float:
        """The distance that is not held against a model: the tolerance, or the spread if larger.

        Args:
            tolerance: that passes anyway.
            widest: what the half-width cannot exceed, where that is known: a few oracles say
                little of their own spread.
        """
        return max(tolerance, min(self.half_width, widest))

    def words(self) -> str:
        """What the reference is."""
        return said_of(self.values)


def said_of(oracles: Sequence[object]) -> str:
    """How many oracles, in words."""
    return "1 oracle" if len(oracles) == 1 else f"{len(oracles)} oracles"
