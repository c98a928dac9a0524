"""Truth ratio: how likely wrong answers are beside a true one, in words that were not trained.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs.
The paper writes the arithmetic mean of the probabilities of the wrong answers; its released code
and open-unlearning average their LOSSES, which is the geometric mean. This is the form of the code,
since all published figures are of it. "Extent of knowledge" is the form of open-unlearning
(Dorna and others 2025), which stays in [0, 1].
"""

import torch
from torch import Tensor

from expunge.signals.metric import Metric
from expunge.signals.probability import check_wrong

TRUTH_RATIO_FORGET = Metric(
    "forget truth ratio",
    "closer to the oracle",
    "mean of min(R, 1/R), R = wrong / true probability per token; 1: equally likely",
    level=1.0,
)
TRUTH_RATIO_RETAIN = Metric(
    "truth ratio (utility)",
    "higher",
    "mean of max(0, 1 - R), R = wrong / true probability per token; 0: equally likely",
    level=0.0,
)
EXTENT_OF_KNOWLEDGE = Metric(
    "extent of knowledge",
    "closer to the oracle",
    "mean of the true answer's probability over it plus that of the wrong ones",
    level=0.5,
)


def truth_ratios(right: Tensor, wrong: Tensor) -> Tensor:
    """R of each question, (..., n) float64: the geometric mean over the wrong answers of their
    probabilities per token, divided by that of the true one.

    Args:
        right: losses (..., n) of the true answers: the paraphrases, where there are any.
        wrong: losses (..., n, k) of the wrong ones.

    Raises:
        ExpungeError: shapes do not fit, or there is no wrong answer.
    """
    check_wrong(right, wrong)
    return (right.double() - wrong.double().mean(-1)).exp()


def forget_truth_ratio(ratios: Tensor) -> Tensor:
    """Mean of min(R, 1/R) over the questions, (...) float64."""
    return torch.minimum(ratios, 1 / ratios).mean(-1)


def retain_truth_ratio(ratios: Tensor) -> Tensor:
    """Mean of max(0, 1 - R) over the questions, (...) float64."""
    return (1 - ratios).clamp(min=0).mean(-1)


def extent_of_knowledge(ratios: Tensor) -> Tensor:
    """Mean of P(true) / (P(true) + P(wrong)) = 1 / (1 + R) over the questions, (...) float64."""
    return (1 / (1 + ratios)).mean(-1)
