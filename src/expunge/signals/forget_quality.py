"""Forget quality: whether truth ratios of a model can be told from those of a retrained one.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs.
The p-value of the two-sample test of Kolmogorov and Smirnov on the truth ratios of the forgotten
questions. The test sees only the order of the numbers, so that R and 1/R give the same. Above 0.05
the two cannot be told apart; far below it, how far says little, and p-values of seeds are not to
be averaged: take their median.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

FORGET_QUALITY = Metric(
    "forget quality (log10 p)",
    "higher",
    "log10 of the p-value of KS, truth ratios on forgotten questions against the oracle's",
)

ALIKE = 0.05
"""The p-value above which two models are not told apart."""


@dataclass(frozen=True)
class ForgetQuality:
    """What the test says.

    Args:
        distance: largest distance of the two distribution functions, in [0, 1].
        p: the p-value; 0 where it is smaller than any float.
        log10_p: its logarithm, finite also there.
    """

    distance: float
    p: float
    log10_p: float


def forget_quality(found: Tensor, oracle: Tensor) -> ForgetQuality:
    """The test on truth ratios (n,) of a model and (m,) of an oracle.

    Raises:
        ExpungeError: a side is empty, of another shape, or holds NaN.
    """
    from scipy.stats import ks_2samp

    for side, values in (("the model", found), ("the oracle", oracle)):
        if values.dim() != 1 or len(values) < 1 or bool(values.isnan().any()):
            raise ExpungeError(
                f"Forget quality got truth ratios of shape {tuple(values.shape)} of {side}; (n,) "
                "numbers without NaN, at least one, are expected. The model may have diverged."
            )
    test = ks_2samp(found.double().numpy(), oracle.double().numpy())
    distance, p = float(test.statistic), float(test.pvalue)
    if p > 0:
        return ForgetQuality(distance, p, math.log10(p))
    n, m = len(found), len(oracle)  # the first term of Kolmogorov's series
    exponent = -2 * distance**2 * n * m / (n + m)
    return ForgetQuality(distance, p, (math.log(2) + exponent) / math.log(10))
