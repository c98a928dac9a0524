"""Matching: methods are brought to one level of retained performance before they are compared.

A method that forgets more may only have been turned up further. Everything that requests changed is
therefore scaled by one factor from the base: the largest at which the model still keeps what it
has to keep on validation rows. All aggregation rules are homogeneous, so that for Deltas this is a
common strength; for new weights it is a point on the line from the base to them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.strength import Search, largest
from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

DELTAS, NEW_WEIGHTS = Search(upper=4.0), Search(upper=1.0)
"""Where common factors are looked for."""


@dataclass(frozen=True)
class Level:
    """What has to be kept: ``tolerance`` less than the original's retained score, or better.

    For accuracies the tolerance is a share of the rows (0.02: two points); for errors, whose lower
    values are better, a share of the original's error.
    """

    metric: Metric
    original: float
    tolerance: float

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise ExpungeError(
                f"A tolerance of {self.tolerance} was given; a number from 0 to below 1 is "
                "expected, such as 0.02."
            )

    def kept(self, retained: float) -> bool:
        """Whether a retained score is good enough."""
        if self.metric.direction == "lower":
            return retained <= self.original * (1 + self.tolerance)
        return retained >= self.original - self.tolerance


@dataclass(frozen=True)
class Line:
    """The models from ``base`` (factor 0) through ``after`` (1), and beyond for Deltas."""

    base: nn.Module
    after: nn.Module
    change: Delta

    @classmethod
    def through(cls, base: nn.Module, after: nn.Module) -> "Line":
        """The line of two models of one architecture.

        Raises:
            IntegrityError: they differ in names or shapes.
        """
        return cls(base, after, Delta.between(after, base))

    def at(self, factor: float) -> nn.Module:
        """The model at a factor; at 1 it is ``after`` itself, with its buffers."""
        return self.after if factor == 1 else self.change.applied_to(self.base, factor)


def common_factor(
    line: Line,
    retained: Callable[[nn.Module], float],
    level: Level,
    search: Search,
    *,
    beyond: bool,
) -> float:
    """The largest factor up to which the level is kept on validation rows.

    Args:
        line: base and answer.
        retained: the retained score of a model on validation rows.
        level: what has to be kept.
        search: where factors are looked for; ``upper`` is 1 for new weights.
        beyond: whether factors above 1 mean anything. New weights are tried as they are first:
            between two trained models lies a barrier, which says nothing against the second.

    Returns:
        A factor from 0 to ``search.upper``. A model that cannot be scored does not keep the level.
    """

    def holds(factor: float) -> bool:
        try:
            return level.kept(retained(line.at(factor)))
        except ExpungeError:  # answers that are no numbers, far out on the line
            return False

    if not beyond and holds(1.0):
        return 1.0
    return largest(holds, search)


def matched(
    base: nn.Module,
    after: nn.Module,
    retained: Callable[[nn.Module], float],
    level: Level,
    *,
    replaced: bool,
) -> tuple[float, nn.Module]:
    """The common factor of an answer, and the model at it.

    Args:
        base: before the answer.
        after: with it, at factor 1.
        retained: the retained score of a model on validation rows.
        level: what has to be kept.
        replaced: whether new weights took the place of the base's: then no factor is above 1.

    Raises:
        IntegrityError: the two models differ in names or shapes.
    """
    line = Line.through(base, after)
    search = NEW_WEIGHTS if replaced else DELTAS
    factor = common_factor(line, retained, level, search, beyond=not replaced)
    return factor, line.at(factor)
