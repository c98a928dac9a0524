"""How far the forget rows of a request went towards what an oracle answers on them.

A method that changes nothing is never silent either: one whose settings are too weak for a model
answers as before, keeps everything, and looks harmless.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.audit.measure import Measured
from expunge.signals.metric import Direction

LITTLE = 0.1
"""Share of the way from the original to the oracle below which next to nothing is gone."""

WORTH = 0.1
"""What an oracle is worse than the original, as a share of the larger of the two figures, up to
which there is next to nothing to forget: oracles differ from each other, too."""

KNOWN = 0.05
"""The same of a probability, as it is: a model that was not sure of a row has nothing to forget."""


SURE = "mean probability of the right answer"


@dataclass(frozen=True)
class Gone:
    """One figure on the training rows of a request, before and after.

    Args:
        request: its name.
        figure: what is measured.
        direction: which way it is better.
        before: of the original.
        after: of the changed model.
        oracle: of the model retrained without the rows; None where there is none.
        known: what the oracle has to be worse by at least for there to be something to forget.
    """

    request: str
    figure: str
    direction: Direction
    before: float
    after: float
    oracle: float | None
    known: float = 0.0

    @property
    def little(self) -> bool:
        """Whether next to nothing is gone of what an oracle lacks; without an oracle, whether the
        figure is what it was, to the last digit. What was not measured says neither, nor does an
        oracle that is no worse than the original."""
        if not (math.isfinite(self.before) and math.isfinite(self.after)):
            return False
        if self.oracle is None:
            return self.after == self.before
        sign = 1.0 if self.direction == "higher" else -1.0
        way = sign * (self.before - self.oracle)
        if not way > max(self.known, WORTH * max(abs(self.before), abs(self.oracle))):
            return False
        return sign * (self.before - self.after) / way < LITTLE

    def told(self) -> str:
        """What happened, as a sentence."""
        beside = (
            "there is no oracle" if self.oracle is None else f"the oracle's is {self.oracle:.3g}"
        )
        return (
            f"Next to nothing of {self.request!r} is gone: the {self.figure} on its training rows "
            f"went from {self.before:.3g} to {self.after:.3g}, and {beside}."
        )


def gone(
    requests: Sequence[str], before: Measured, after: Measured, oracle: Measured | None
) -> list[Gone]:
    """Every request of panels of the forget rows.

    The figure is the mean probability of the right answer, since it moves before any answer does;
    the score of the family where there is none.

    Args:
        requests: their names, in the panels' order.
        before: of the original.
        after: of the changed model.
        oracle: of the model retrained without the rows.
    """

    def of(measured: Measured, place: int, sure: bool) -> float:
        return float((measured.confidence if sure else measured.requests)[place])

    found = []
    for place, name in enumerate(requests):
        sure = math.isfinite(of(before, place, True))
        beside = None if oracle is None else of(oracle, place, sure)
        now = of(before, place, sure), of(after, place, sure), beside
        if sure:
            found.append(Gone(name, SURE, "higher", *now, known=KNOWN))
        else:
            found.append(Gone(name, before.metric.name, before.metric.direction, *now))
    return found
