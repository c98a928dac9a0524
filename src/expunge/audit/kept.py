"""What is left of the retained score after a change, and whether a model has collapsed.

A collapsed model is never silent: peers' default settings lose half of the retained accuracy and
report a perfect forget score.
"""

import math
from dataclasses import dataclass
from typing import Self

from expunge.audit.measure import Measured
from expunge.errors import ExpungeError
from expunge.signals.metric import Direction

LEAST, WORN = 0.9, 0.98
"""Shares of the original's retained score: below the first a model has collapsed, below the second
something was lost that is worth a warning."""


@dataclass(frozen=True)
class Kept:
    """The retained score before and after.

    Args:
        name: of the score.
        direction: which way it is better.
        before: of the original.
        after: of the changed model.
    """

    name: str
    direction: Direction
    before: float
    after: float

    @classmethod
    def of(cls, before: Measured, after: Measured) -> Self:
        """Of the same panel, before and after."""
        metric = before.metric
        return cls(metric.name, metric.direction, before.retained, after.retained)

    @property
    def share(self) -> float:
        """How much was kept: 1 where nothing was lost, 0 where nothing is left.

        It is 0 also where one of the two scores is no number: then nothing says that any is left.

        For scores of which a lower one is better it is what the score was as a share of what it is:
        0.9 says that an error has grown by a ninth.
        """
        if not self._measured:
            return 0.0
        lower = self.direction == "lower"
        whole, part = (self.after, self.before) if lower else (self.before, self.after)
        return 1.0 if part >= whole else part / whole

    @property
    def _measured(self) -> bool:
        return math.isfinite(self.before) and math.isfinite(self.after)

    def fall(self) -> str:
        """What happened, as a clause."""
        if not self._measured:
            return (
                f"retained {self.name} could not be measured (it went from {self.before:.4g} to "
                f"{self.after:.4g})"
            )
        word = "rose" if self.direction == "lower" else "fell"
        if self.share == 1:
            word = "went"
        return f"retained {self.name} {word} from {self.before:.4g} to {self.after:.4g}"

    def check(self, least: float = LEAST) -> None:
        """Refuse a collapsed model.

        Raises:
            ExpungeError: less than the share ``least`` was kept.
        """
        if self.share < least:
            raise ExpungeError(
                f"The {self.fall()}: {self.share:.0%} is kept and at least {least:.0%} is expected."
            )
