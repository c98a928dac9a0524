"""Readings: a metric's value beside that of the oracle, and how far the two are apart.

A figure about forgetting says little alone: a model retrained without the rows still answers some
of them, and an attack on it still calls some of them members. One retrained model is a noisy
reference, so a reading has the mean and the standard deviation over several (three or more).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import TypeVar

from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """One value, the oracles' and the original's, all in the metric's unit.

    ``oracle`` is the mean over ``oracles`` values and ``sd`` their standard deviation (n - 1), None
    for a single one. ``original`` is the value before unlearning, where it was measured.
    """

    metric: Metric
    value: float
    oracle: float
    sd: float | None
    oracles: int
    original: float | None = None

    @property
    def difference(self) -> float:
        """Value minus the oracles' mean: the sign says which way."""
        return self.value - self.oracle

    @property
    def gap(self) -> float:
        """Distance to the oracles' mean, whatever its sign."""
        return abs(self.difference)

    @property
    def deviations(self) -> float | None:
        """The gap in standard deviations of the oracles; None where these have none."""
        return self.gap / self.sd if self.sd else None

    def __str__(self) -> str:
        spread = "one only" if self.sd is None else f"± {self.sd:.3f} of {self.oracles}"
        before = "" if self.original is None else f", original {self.original:.3f}"
        return (
            f"{self.metric.name} {self.value:.3f} (oracle {self.oracle:.3f} {spread}, "
            f"gap {self.gap:.3f}{before})"
        )


def beside(
    metric: Metric,
    value: Tensor | float,
    oracles: Tensor | Iterable[float],
    original: Tensor | float | None = None,
) -> Reading:
    """The reading of one value beside those of oracles, such as ``values[1]``, ``values[2:]``.

    Args:
        metric: what the values are.
        value: of the unlearned model.
        oracles: (n,), one value an oracle; three or more give a standard deviation to read.
        original: of the model before unlearning.

    Raises:
        ExpungeError: there is no oracle, or a value is not finite.
    """
    references = [float(o) for o in oracles]
    before = None if original is None else float(original)
    given = [float(value), *references, *([] if before is None else [before])]
    if not references or not all(map(math.isfinite, given)):
        raise ExpungeError(
            f"The reading of {metric.name!r} got the value {given[0]:g} and the oracles' "
            f"{references}; finite numbers and at least one oracle are expected. Retrain without "
            "the forget set, three times with different seeds."
        )
    sd = stdev(references) if len(references) > 1 else None
    return Reading(metric, given[0], fmean(references), sd, len(references), before)


def beside_pairs(
    metric: Metric,
    compare: Callable[[T, T], Tensor | float],
    found: T,
    oracles: Sequence[T],
    original: T | None = None,
) -> Reading:
    """The reading of a metric that compares two models, beside oracles compared with each other.

    The value is the mean over the oracles of ``compare(found, oracle)``. The reference is what two
    retrainings differ by: ``compare`` over all pairs of oracles, not 0 or 1.

    Args:
        metric: what ``compare`` gives.
        compare: a symmetric function of two models' answers, which gives one number.
        found: answers of the unlearned model.
        oracles: answers of two or more oracles.
        original: answers of the model before unlearning.

    Raises:
        ExpungeError: there are fewer than two oracles, or a value is not finite.
    """
    if len(oracles) < 2:
        raise ExpungeError(
            f"The reading of {metric.name!r} got {len(oracles)} oracles; at least 2 are expected, "
            "since its reference is how far oracles are from each other. Retrain with another seed."
        )

    def mean_to_oracles(answers: T) -> float:
        return fmean(float(compare(answers, oracle)) for oracle in oracles)

    return beside(
        metric,
        mean_to_oracles(found),
        [float(compare(a, b)) for a, b in combinations(oracles, 2)],
        None if original is None else mean_to_oracles(original),
    )


def average_gap(readings: Iterable[Reading]) -> float:
    """The mean of the gaps of several readings, as a share.

    Of the readings of unlearning, retain and test accuracy and of a membership attack it is the
    average gap of Fan et al. (2024), SalUn, and Jia et al. (2023), Model Sparsity Can Simplify
    Machine Unlearning. :mod:`expunge.audit.gap` has the one without an attack over many requests.

    Raises:
        ExpungeError: no reading is given.
    """
    gaps = [reading.gap for reading in readings]
    if not gaps:
        raise ExpungeError(
            "The average gap got no reading; give those of unlearning, retain and test accuracy "
            "and of one membership attack."
        )
    return fmean(gaps)
