"""Calibration: whether a model's confidence is the share of its answers that are right.

Expected calibration error: Naeini, Cooper, Hauskrecht (2015), Obtaining Well Calibrated
Probabilities Using Bayesian Binning; equal-mass bins: Nguyen, O'Connor (2015), Posterior
Calibration and Exploratory Analysis for Natural Language Processing Models. Brier (1950).
Verification of Forecasts Expressed in Terms of Probability.

Removal by lowering a confidence leaves a model that is right and does not know it, which accuracy
cannot show. On retained and test samples lower is better; on forgotten ones read all of these
beside the oracle's (:func:`~expunge.signals.reading.beside`).
"""

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import membership_features
from expunge.signals.metric import Metric
from expunge.signals.predictions import Predictions

CALIBRATION_ERROR = Metric(
    "calibration error, equal-width bins",
    "lower",
    "mean distance of confidence and accuracy over bins of equal width, 0 to 1",
)
CALIBRATION_ERROR_BY_MASS = Metric(
    "calibration error, equal-mass bins",
    "lower",
    "mean distance of confidence and accuracy over bins of equally many samples, 0 to 1",
)
OVERCONFIDENCE = Metric(
    "overconfidence",
    "closer to the oracle",
    "mean confidence minus accuracy, -1 to 1: above 0 too sure, below 0 not sure enough",
)
BRIER_SCORE = Metric(
    "Brier score",
    "lower",
    "mean squared distance of the probabilities from the label's, 0 to 2",
)
NEGATIVE_LOG_LIKELIHOOD = Metric(
    "negative log-likelihood", "lower", "mean cross-entropy of the label, in nats"
)

BINS = 15
"""As Guo, Pleiss, Sun, Weinberger (2017), On Calibration of Modern Neural Networks."""


def calibration_error(found: Predictions, bins: int = BINS) -> Tensor:
    """Expected calibration error over bins of equal width in confidence, (models,) in [0, 1].

    Bin b of B holds confidences in [b/B, (b+1)/B), the last one 1 as well.

    Raises:
        ExpungeError: no bin.
    """
    sure, right = _confidence(found, bins)
    return _error(sure, right, (sure * bins).long().clamp(max=bins - 1), bins)


def calibration_error_by_mass(found: Predictions, bins: int = BINS) -> Tensor:
    """Expected calibration error over bins of equally many samples, (models,) in [0, 1].

    Equal confidences stay in one bin, so that the order of the samples has no say. Where most
    answers are near certain, equal-width bins hold nearly all of them in one bin; these do not.

    Raises:
        ExpungeError: no bin, or more bins than samples.
    """
    sure, right = _confidence(found, bins)
    count = sure.shape[1]
    if bins > count:
        raise ExpungeError(
            f"Calibration got {bins} bins of equal mass for {count} samples; at most one bin a "
            "sample is expected. Ask for more samples, or fewer bins."
        )
    starts = torch.arange(1, bins) * count // bins
    edges = sure.sort(1).values[:, starts].contiguous()
    return _error(sure, right, torch.searchsorted(edges, sure, right=True), bins)


def overconfidence(found: Predictions) -> Tensor:
    """Mean confidence minus accuracy, (models,) in [-1, 1]: the sign says which way."""
    sure, right = _confidence(found, 1)
    return (sure - right).mean(1)


def brier_score(found: Predictions) -> Tensor:
    """Mean over samples of the sum over classes of (p - 1[label])², (models,) in [0, 2]."""
    p = found.probabilities()
    label = torch.nn.functional.one_hot(found.labels.long(), p.shape[2]).double()
    return (p - label).square().sum(2).mean(1)


def negative_log_likelihood(found: Predictions) -> Tensor:
    """Mean cross-entropy of the label in nats, (models,); infinite where a label is ruled out."""
    return membership_features.loss(found).squeeze(2).mean(1)


def _confidence(found: Predictions, bins: int) -> tuple[Tensor, Tensor]:
    """The probability of each answer, and 1 where it is right, (models, samples) float64 each."""
    if bins < 1:
        raise ExpungeError(f"Calibration got {bins} bins; at least one is expected.")
    sure = found.probabilities().amax(2)
    return sure, (found.answers() == found.labels).double()


def _error(sure: Tensor, right: Tensor, at: Tensor, bins: int) -> Tensor:
    """Sum over bins of abs(sum of confidences - number right), over the number of samples."""
    apart = torch.zeros(len(sure), bins, dtype=torch.float64).scatter_add_(1, at, sure - right)
    return apart.abs().sum(1) / sure.shape[1]
