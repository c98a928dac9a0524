"""IAM: where an unlearned model stands between a sample never seen and fully fitted.

Wang, Li, Xiang, Cao, Wang (2025). Towards Lifecycle Unlearning Commitment Management: Measuring
Sample-level Unlearning Completeness (interpolated approximate measurement). One OUT shadow model is
enough. The grid is the released code's: the distribution at each step weighs as the step above it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from expunge.attacks.shadows import Shadows, Target, check_same
from expunge.errors import ExpungeError

EULER = 0.5772156649015329
"""The mean of the standard Gumbel distribution."""


@dataclass(frozen=True)
class Interpolation:
    """The signal -log(eps1 - log(p + eps2)) of the true class's probability, and the grid.

    Args:
        eps1: bounds the signal of a certain model; 0.01 for images, 0.1 for language models.
        eps2: bounds the signal of a model that rules the class out.
        steps: points from never seen to fitted; 100 for images, 1,000 for language models.

    Raises:
        ExpungeError: a number outside its range.
    """

    eps1: float = 1e-2
    eps2: float = 1e-5
    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 2 or self.eps2 <= 0 or self.eps1 <= math.log1p(self.eps2):
            raise ExpungeError(
                f"IAM got {self.steps} steps, eps1 = {self.eps1:g} and eps2 = {self.eps2:g}; at "
                "least 2 steps, a positive eps2 and an eps1 above it are expected."
            )

    def signal(self, margins: Tensor) -> Tensor:
        """The signal of margins (...), float64; larger for surer models."""
        p = logsigmoid(margins.double()).exp()
        return -(self.eps1 - (p + self.eps2).log()).log()

    @property
    def bound(self) -> float:
        """The signal of a model that is certain of the true class."""
        return -math.log(self.eps1 - math.log1p(self.eps2))


def residual_membership(
    unlearned: Target,
    original: Target,
    shadows: Shadows,
    interpolation: Interpolation | None = None,
) -> Tensor:
    """Residual membership: 0 like never seen, 1 still fitted as by the original model.

    Completeness of unlearning is 1 minus it. Models that never saw a sample do not get 0: they
    stand in the middle of the first distributions. Read it beside the oracle's.

    Args:
        unlearned: margins of the unlearned model.
        original: margins of the model before unlearning, on the same samples.
        shadows: at least 1 OUT model for each sample, and 2 OUT margins in all.
        interpolation: signal and grid.

    Returns:
        (samples,) float64 in [0, 1], mean over queries; larger = likelier still a member.

    Raises:
        ExpungeError: other samples than the shadows', too few shadow models, or OUT signals without
            any spread.
    """
    found = interpolation or Interpolation()
    check_same(original, unlearned)
    return _residual(unlearned, found.signal(original.margins), shadows, found)


def residual_membership_without_original(
    unlearned: Target, shadows: Shadows, interpolation: Interpolation | None = None
) -> Tensor:
    """Residual membership where the original model is gone: it is taken to be certain throughout.

    Raises:
        ExpungeError: as for :func:`residual_membership`.
    """
    found = interpolation or Interpolation()
    fitted = torch.full_like(unlearned.margins, found.bound)
    return _residual(unlearned, fitted, shadows, found)


def _residual(
    unlearned: Target, fitted: Tensor, shadows: Shadows, interpolation: Interpolation
) -> Tensor:
    """The weighted mean over the grid of each distribution's share below the unlearned signal."""
    shadows.check(unlearned)
    shadows.need("IAM", inside=0, outside=1)
    signal, out = interpolation.signal(unlearned.margins), ~shadows.member
    unseen = interpolation.signal(shadows.margins)
    grid = torch.linspace(0, 1, interpolation.steps, dtype=torch.float64)
    below, weights = grid[:-1, None, None], grid[1:, None, None]
    mean = _mean_over_models(unseen, out)
    scale = _deviation(unseen, fitted, out, below) * math.sqrt(6) / math.pi
    location = mean + below * (fitted - mean) - EULER * scale
    shares = torch.exp(-torch.exp(-(signal - location) / scale))
    return ((weights * shares).sum(0) / weights.sum()).mean(1)


def _mean_over_models(unseen: Tensor, out: Tensor) -> Tensor:
    weights = out.unsqueeze(-1).double()
    return (unseen * weights).sum(0) / weights.sum(0)


def _deviation(unseen: Tensor, fitted: Tensor, out: Tensor, share: Tensor) -> Tensor:
    """Standard deviation of (1 - share) unseen + share fitted over all OUT margins of a query.

    One for all samples, since a single shadow model has no spread on one sample. It follows from
    the two variances and the covariance: (steps, 1, queries).
    """
    count = int(out.sum())
    x = unseen[out]  # (count, queries)
    y = fitted.expand_as(unseen)[out]
    dx, dy = x - x.mean(0), y - y.mean(0)
    xx, yy, xy = (v.sum(0) / count for v in (dx.square(), dy.square(), dx * dy))
    if not bool((xx > 0).all()):
        raise ExpungeError(
            f"IAM got {count} OUT margins that are all equal; at least 2 that differ are expected. "
            "Ask for more samples, or give shadow models that have learned."
        )
    variance = (1 - share).square() * xx + share.square() * yy + 2 * share * (1 - share) * xy
    return variance.clamp(min=torch.finfo(torch.float64).tiny).sqrt()
