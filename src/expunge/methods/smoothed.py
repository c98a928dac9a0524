"""Any method over a descent, with its forget term smoothed or its weights averaged.

Fan, Jia, Zhang, Ramakrishna, Hong, Liu (2025). Towards LLM Unlearning Resilient to Relearning
Attacks. ``Smoothed(around=NPORetain(), by=SharpnessAware())`` is the paper's best form; the
smoothings are in descent/smoothing.py, the averages in descent/averages.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from expunge.descent.averages import Average
from expunge.descent.loop import Descent
from expunge.descent.smoothing import Chained, SharpnessAware, Smoothing
from expunge.errors import ExpungeError
from expunge.methods.presets import preset_of
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import Range
from expunge.problem import Problem
from expunge.run import Run


@dataclass(frozen=True)
class Smoothed(OverDescent):
    """A method whose descent is smoothed; everything else is the method's.

    Args:
        around: the method.
        by: what smooths the gradient of the terms it names; a transform that the descent has, such
            as clipping, comes after it. None smooths nothing.
        average: which average of the weights the descent ends at, in the place of its own.

    Raises:
        ExpungeError: nothing is to be done, or the descent has none of the terms that are named.
    """

    name: ClassVar[str] = "smoothed"
    paper: ClassVar[str] = "Fan et al. 2025, Towards LLM Unlearning Resilient to Relearning Attacks"
    preset_rule: ClassVar[str] = "that of the inner method"
    search: ClassVar[Mapping[str, Range]] = {}  # the inner method is tuned before it is put here

    around: OverDescent
    by: Smoothing | None = field(default_factory=SharpnessAware)
    average: Average | None = None

    def __post_init__(self) -> None:
        if self.by is None and self.average is None:
            raise ExpungeError(
                "A smoothed method was given neither a smoothing nor an average; give one of them."
            )
        held = [n for player in self.around.descent().players for n in player.terms()]
        if self.by is not None and not set(self.by.terms) & set(held):
            raise ExpungeError(
                f"The terms {', '.join(self.by.terms)} are to be smoothed, and the descent of "
                f"{self.around.name} has {', '.join(held)}; name one of these as `terms`."
            )

    @property
    def sequential(self) -> bool:
        """As the inner method."""
        given: Any = self.around  # a field of some leaves, a constant of others
        return bool(given.sequential)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The inner method at its preset."""
        given: Any = self.around
        fitting: Any = preset_of(given, problem, run)
        return replace(self, around=fitting)

    def descent(self) -> Descent:
        """That of the inner method, smoothed."""
        descent = self.around.descent()
        if self.by is not None:
            own = descent.transform
            descent.transform = self.by if own is None else Chained(self.by, own)
        if self.average is not None:
            descent.average, descent.until = self.average, None  # what is looked at is no average
        return descent

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """What the inner method makes of where the descent leads."""
        return self.around.follow(descent, problem, run)
