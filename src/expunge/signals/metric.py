"""Metric: what a number measures, which way is better, and what guessing would give."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "closer to the oracle"]


@dataclass(frozen=True)
class Metric:
    """The description that travels with a number.

    ``direction`` says which value is better. On forgotten samples it is ``closer to the oracle``:
    a model retrained without them still answers some of them, and forgetting more than that is
    a trace of its own. ``ranks`` is set for metrics that count an answer as right when the true
    class is among the first ``ranks`` ones, and ``counts_wrong`` for those that count the other
    answers. ``query`` is set where the metric is the mean of one query of the signals. ``level`` is
    what knowing nothing gives whatever the number of classes, as an even guess between two sides.
    ``decimals`` are those that tables show.
    """

    name: str
    direction: Direction
    measures: str
    ranks: int | None = None
    query: str = ""
    counts_wrong: bool = False
    level: float | None = None
    decimals: int = 2

    def chance(self, classes: int) -> float | None:
        """What uniform guessing among ``classes`` gives; None where guessing has no level."""
        if self.ranks is None:
            return self.level
        right = min(1.0, self.ranks / classes)
        return 1.0 - right if self.counts_wrong else right
