"""The average gap: how far a model is from its oracle, on what is forgotten and on what is kept.

Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn, and Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023).
Model Sparsity Can Simplify Machine Unlearning, hold a method against retraining by the mean of
absolute differences. Theirs has four parts: accuracy on the forget rows, on the retain rows, on
test rows, and a membership attack. Ours has three: the forget rows, the held-out rows of the
requests where there are any, and the held-out rows that are retained. It has no attack, so it does
not say that nothing of a row can be found in the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from torch import nn

from expunge.audit.measure import Measured, Panel, measure
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.run import Run
from expunge.signals.metric import Metric


@dataclass(frozen=True)
class Scores:
    """What a model scores: on each request's held-out rows (T,), on each request's training rows
    (T,), and on the held-out rows of no request. NaN where a request has no held-out row."""

    held_out: tuple[float, ...]
    forget_rows: tuple[float, ...]
    retained: float

    @classmethod
    def of(cls, held_out: Measured, own: Measured) -> Self:
        """The scores on a panel of held-out rows and on the panel of the forget rows.

        Raises:
            ExpungeError: a score is not finite.
        """
        found = cls(
            tuple(held_out.requests.double().tolist()),
            tuple(own.requests.double().tolist()),
            held_out.retained,
        )
        measured = [s for s in found.held_out if not math.isnan(s)]
        if not all(map(math.isfinite, [*measured, *found.forget_rows, found.retained])):
            raise ExpungeError(
                f"The model scores {found.retained} on retained rows; finite numbers are expected. "
                "It has probably diverged: lower the learning rate."
            )
        return found

    @classmethod
    def asked(cls, family: Family, model: nn.Module, held_out: Panel, own: Panel, run: Run) -> Self:
        """Ask a model for both panels."""
        return cls.of(measure(family, model, held_out, run), measure(family, model, own, run))


def unit_of(metric: Metric, original: Scores) -> float:
    """What a difference of scores is divided by: 1 for accuracies, whose differences are shares of
    the rows; for errors the original's own on retained held-out rows, so that 0.1 is a tenth of it.
    """
    if metric.direction == "lower" and original.retained > 0:
        return original.retained
    return 1.0


def gaps(found: Scores, oracle: Scores, unit: float = 1.0) -> dict[str, float]:
    """The parts of the average gap: mean absolute differences to the oracle, in ``unit``.

    ``held-out`` is missing where no request has a held-out row.
    """
    pairs = {
        "forget rows": (found.forget_rows, oracle.forget_rows),
        "held-out": (found.held_out, oracle.held_out),
        "retained": ((found.retained,), (oracle.retained,)),
    }
    parts = {name: _mean_difference(mine, its) for name, (mine, its) in pairs.items()}
    return {name: part / unit for name, part in parts.items() if part is not None}


def average_gap(found: Scores, oracle: Scores, unit: float = 1.0) -> float:
    """The mean of the parts of :func:`gaps`; 0 for the oracle itself."""
    return fmean(gaps(found, oracle, unit).values())


def _mean_difference(mine: Sequence[float], its: Sequence[float]) -> float | None:
    found = [abs(a - b) for a, b in zip(mine, its, strict=True) if not math.isnan(a - b)]
    return fmean(found) if found else None
