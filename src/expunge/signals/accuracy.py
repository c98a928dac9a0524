"""Accuracy of models on samples, and intervals that say how well it is known.

Wilson (1927). Probable Inference, the Law of Succession, and Statistical Inference. The bootstrap
over clusters follows Davison, Hinkley (1997). Bootstrap Methods and their Application, chapter 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric

ACCURACY = Metric(
    "accuracy", "higher", "share of samples answered with their own class", 1, query="correct"
)
EXACT_ANSWERS = Metric(
    "exact-answer accuracy",
    "higher",
    "share of prompts answered exactly, token by token to the end of the answer",
    query="correct",
)
RETAINED_ACCURACY = Metric(
    "retained accuracy", "higher", "share of retained samples answered with their own class", 1
)
FORGOTTEN_ACCURACY = Metric(
    "forgotten accuracy",
    "closer to the oracle",
    "share of forgotten samples still answered with their own class",
    1,
)
RETAINED_TOP_5 = Metric(
    "retained top-5 accuracy",
    "higher",
    "share of retained samples with their class in the top 5",
    5,
)
FORGOTTEN_TOP_5 = Metric(
    "forgotten top-5 accuracy",
    "closer to the oracle",
    "share of forgotten samples with their class still in the top 5",
    5,
)
FORGOTTEN_MARGIN = Metric(
    "forgotten margin", "closer to the oracle", "mean log-odds of the true class, in nats"
)
FORGOTTEN_LOSS = Metric(
    "forgotten loss", "closer to the oracle", "mean cross-entropy of the true class, in nats"
)


@dataclass(frozen=True)
class Interval:
    """An interval that covers the true value in a share ``level`` of repetitions."""

    low: float
    high: float
    level: float


def accuracy(signals: Signals) -> Tensor:
    """Share of samples answered with their own class, (models,) float64."""
    return signals.query("correct").double().mean(1)


def top_k_accuracy(signals: Signals, k: int = 5) -> Tensor:
    """Share of samples whose class is among the ``k`` best scored, (models,) float64."""
    if k < 1:
        raise ExpungeError(f"Top-k accuracy got k = {k}; a positive whole number is expected.")
    return (signals.query("rank") < k).double().mean(1)


def mean_margin(signals: Signals) -> Tensor:
    """Mean log-odds of the true class in nats, (models,) float64."""
    return signals.query("margin").double().mean(1)


def mean_loss(signals: Signals) -> Tensor:
    """Mean cross-entropy in nats, (models,) float64."""
    return signals.query("loss").double().mean(1)


def accuracy_by_subject(signals: Signals) -> dict[str, Tensor]:
    """The accuracy on each subject, (models,) float64 each, subjects in order of appearance."""
    subjects = list(dict.fromkeys(signals.subjects))
    where = {subject: j for j, subject in enumerate(subjects)}
    at = torch.tensor([where[s] for s in signals.subjects])
    correct = signals.query("correct").double()
    sums = torch.zeros(len(signals.models), len(subjects), dtype=torch.float64)
    sums.index_add_(1, at, correct)
    shares = sums / at.bincount(minlength=len(subjects))
    return {subject: shares[:, j] for j, subject in enumerate(subjects)}


def binomial_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share of independent trials.

    It stays inside [0, 1] and keeps a width at 0 and at ``trials`` successes.

    Raises:
        ExpungeError: no trials, more successes than trials, or a level outside (0, 1).
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ExpungeError(
            f"A binomial interval got {successes} successes in {trials} trials; 0 <= successes <= "
            "trials and at least one trial are expected."
        )
    z = NormalDist().inv_cdf((1 + _checked(level)) / 2)
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = (z / (1 + spread)) * (share * (1 - share) / trials + spread / (4 * trials)) ** 0.5
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high, level)


def bootstrap_interval(
    values: Tensor | Sequence[float],
    groups: Sequence[str],
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean, drawing whole groups (subjects, concepts) with replacement.

    Augmented copies and several pictures of one concept are not independent, so the concept is the
    unit that is drawn. For the difference of two models give the differences sample by sample: the
    draws are then paired. Where all groups have the same mean (all wrong, say) the interval has no
    width; :func:`binomial_interval` over concepts then tells more.

    Args:
        values: (n,) one number per sample, such as ``signals.query("correct")[0]``.
        groups: n names.
        level: coverage in (0, 1).
        draws: number of bootstrap draws.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        ExpungeError: lengths differ, fewer than two groups, no draws, or a value is not finite.
    """
    numbers = torch.as_tensor(values).detach().double().cpu()
    names = list(dict.fromkeys(groups))
    if numbers.shape != (len(groups),):
        raise ExpungeError(
            f"The bootstrap got values of shape {tuple(numbers.shape)} and {len(groups)} groups; "
            "one value and one group per sample are expected."
        )
    if len(names) < 2 or draws < 1:
        raise ExpungeError(
            f"The bootstrap got {len(names)} groups and {draws} draws; at least 2 groups and "
            "1 draw are expected. For independent samples of one group use binomial_interval."
        )
    if not bool(numbers.isfinite().all()):
        raise ExpungeError(
            "The bootstrap got NaN or infinite values; finite numbers are expected. The model has "
            "probably diverged: lower the learning rate or the strength."
        )
    tail = (1 - _checked(level)) / 2
    where = {name: j for j, name in enumerate(names)}
    at = torch.tensor([where[g] for g in groups])
    sums = torch.zeros(len(names), dtype=torch.float64).index_add_(0, at, numbers)
    counts = at.bincount(minlength=len(names)).double()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(names), (draws, len(names)), generator=generator)
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(low, high, level)


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ExpungeError(f"An interval got the level {level}; a share in (0, 1) is expected.")
    return level
