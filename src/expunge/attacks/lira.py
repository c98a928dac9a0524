"""LiRA: the likelihood of a sample's margin under models that trained on it and that did not.

Carlini, Chien, Nasr, Song, Terzis, Tramèr (2022). Membership Inference Attacks From First
Principles, algorithm 1 (online), section VI-A (offline) and section VI-C (one variance for all
samples). The released code takes the variance of OUT models from IN margins and, offline, a density
that is high for margins far below the OUT models' too; both are the paper's here.
"""

import torch
from torch import Tensor

from expunge.attacks.gaussian import Fit, fit_each, fit_shared
from expunge.attacks.shadows import Shadows, Target


def lira_online(target: Target, shadows: Shadows) -> Tensor:
    """Log-likelihood ratio of IN and OUT, each sample with variances of its own.

    Args:
        target: the margins of the model attacked.
        shadows: at least 2 IN and 2 OUT models for each sample; under 64 in all
            :func:`lira_fixed_variance` is usually the stronger.

    Returns:
        (samples,) float64: log N(margin; IN) - log N(margin; OUT), mean over queries; larger =
        likelier member.

    Raises:
        ExpungeError: other samples than the shadows', or too few shadow models.
    """
    shadows.need("LiRA online", inside=2, outside=2)
    return _ratio(target, shadows, fit_each)


def lira_fixed_variance(target: Target, shadows: Shadows) -> Tensor:
    """Log-likelihood ratio of IN and OUT with one variance for all IN and one for all OUT fits.

    Args:
        target: the margins of the model attacked.
        shadows: at least 2 IN and 2 OUT models for each sample.

    Returns:
        (samples,) float64, mean over queries; larger = likelier member.

    Raises:
        ExpungeError: other samples than the shadows', or too few shadow models.
    """
    shadows.need("LiRA with fixed variance", inside=2, outside=2)
    return _ratio(target, shadows, fit_shared)


def lira_offline(target: Target, shadows: Shadows) -> Tensor:
    """How far a margin is above those of OUT models: minus the log of the chance to be above it.

    The paper's 1 - P(Z > margin) has the same order, but is 1 for all margins more than 8 standard
    deviations above; the logarithm tells them apart.

    Args:
        target: the margins of the model attacked.
        shadows: at least 2 OUT models for each sample; IN models are not looked at.

    Returns:
        (samples,) float64: -log P(Z > margin), at least 0, mean over queries; larger = likelier
        member.

    Raises:
        ExpungeError: other samples than the shadows', or too few shadow models.
    """
    shadows.check(target)
    shadows.need("LiRA offline", inside=0, outside=2)
    z = fit_each(shadows.margins, ~shadows.member).standardised(target.margins)
    above: Tensor = torch.special.log_ndtr(-z)
    return -above.mean(1)


def _ratio(target: Target, shadows: Shadows, fit: Fit) -> Tensor:
    shadows.check(target)
    inside = fit(shadows.margins, shadows.member).log_density(target.margins)
    outside = fit(shadows.margins, ~shadows.member).log_density(target.margins)
    return (inside - outside).mean(1)
