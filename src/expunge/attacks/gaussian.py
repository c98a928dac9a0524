"""Gaussian fits of the margins of one sample over models: what likelihood ratios are made of.

Carlini, Chien, Nasr, Song, Terzis, Tramèr (2022). Membership Inference Attacks From First
Principles, algorithm 1 and section VI-C: logit-scaled confidences of one sample are nearly normal
over models that trained on it, and over those that did not.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_DEVIATION = 1e-6
"""In nats: models that all say the same (a destroyed one, say) have a density too."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """One normal distribution for each sample and query.

    Args:
        centre: (samples, queries) in nats.
        deviation: (samples, queries), or (1, queries) for one over all samples; in nats.
    """

    centre: Tensor
    deviation: Tensor

    def standardised(self, margins: Tensor) -> Tensor:
        """Distance from the centre in standard deviations, (samples, queries)."""
        return (margins - self.centre) / self.deviation

    def log_density(self, margins: Tensor) -> Tensor:
        """Log of the density, (samples, queries)."""
        z = self.standardised(margins)
        return -z.square() / 2 - self.deviation.log() - math.log(2 * math.pi) / 2


Fit = Callable[[Tensor, Tensor], Gaussian]
"""From margins (models, samples, queries) and the chosen models (models, samples) to a fit."""


def fit_each(margins: Tensor, chosen: Tensor) -> Gaussian:
    """Median and standard deviation (n - 1) over the chosen models, for each sample and query.

    Args:
        margins: float64 (models, samples, queries).
        chosen: bool (models, samples), at least two models for each sample.
    """
    counts = chosen.sum(0).unsqueeze(-1)
    variance = _squares(margins, chosen) / (counts - 1)
    return Gaussian(_median(margins, chosen), variance.sqrt().clamp(min=LEAST_DEVIATION))


def fit_shared(margins: Tensor, chosen: Tensor) -> Gaussian:
    """Medians of each sample and one standard deviation for all samples of a query.

    The deviation is pooled over the samples' own spreads: differences between samples are no part
    of it. It is for few models (under 64), whose spread on one sample says little.

    Args:
        margins: float64 (models, samples, queries).
        chosen: bool (models, samples), at least two models for each sample.
    """
    counts = chosen.sum(0)
    variance = _squares(margins, chosen).sum(0, keepdim=True) / (counts - 1).sum()
    return Gaussian(_median(margins, chosen), variance.sqrt().clamp(min=LEAST_DEVIATION))


def _squares(margins: Tensor, chosen: Tensor) -> Tensor:
    """Sums of squares around the mean of the chosen models, (samples, queries)."""
    weights = chosen.unsqueeze(-1).double()
    mean = (margins * weights).sum(0) / weights.sum(0)
    return ((margins - mean).square() * weights).sum(0)


def _median(margins: Tensor, chosen: Tensor) -> Tensor:
    """Medians over the chosen models, the mean of the middle two for even counts."""
    ordered = margins.masked_fill(~chosen.unsqueeze(-1), torch.inf).sort(0).values
    counts = chosen.sum(0)[None, :, None].expand(1, *margins.shape[1:])
    middle = [ordered.gather(0, at).squeeze(0) for at in ((counts - 1) // 2, counts // 2)]
    return (middle[0] + middle[1]) / 2
