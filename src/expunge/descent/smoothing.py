"""Smoothing: some terms of a descent are minimised where the weights around are counted, too.

What was forgotten comes back in a few steps of training where the loss on it is low at one point
and high beside it. Fan, Jia, Zhang, Ramakrishna, Hong, Liu (2025). Towards LLM Unlearning Resilient
to Relearning Attacks: A Sharpness-Aware Minimization Perspective and Beyond. The terms that are not
named keep their gradient at the weights themselves, and entries that a mask holds stay where they
are in every look.

The released code turns the norms of the two penalties into plain numbers, so that they have no
gradient; here they have the one of the formula. The formulas of the penalties are our reading.
Batch norm in training mode takes its statistics at every look.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.descent.player import StepGradients, Transform
from expunge.descent.transforms import norm
from expunge.errors import ExpungeError

TINY = 1e-12
"""The length below which a gradient has no direction."""


class Smoothing(ABC):
    """A transform of the sum of some terms, which leaves the others as they are."""

    terms: tuple[str, ...]  # a field of each leaf

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether it is in its limit, where the gradient is the plain one."""

    @abstractmethod
    def smooth(self, at: StepGradients) -> list[Tensor]:
        """The gradient of the smoothed sum of all terms of ``at``."""

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """The gradient of all terms; the plain one where none of the named terms acts."""
        return self.smoothed(at).total()

    def smoothed(self, at: StepGradients) -> StepGradients:
        """The terms with the smoothed ones in their place, for a transform that comes after."""
        chosen = at.only(self.terms)
        # the plain sum is one backward pass: apart and added up, a weight that a term uses twice
        # (tied embeddings) would differ in its last bit
        if self.idle or not chosen.values:
            return at
        return at.instead(chosen.values, self.smooth(chosen))


@dataclass(frozen=True)
class Chained:
    """A transform of what a smoothing gives: its gradient is clipped, for example."""

    first: Smoothing
    then: Transform

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """Those of the second."""
        return self.then.gradients(self.first.smoothed(at))


@dataclass(frozen=True)
class SharpnessAware(Smoothing):
    """The gradient at the point at distance ``rho`` where the terms are about as high as there.

    ``min_w max_{|d| <= rho} L(w + d)``, with ``d = rho g / |g|`` of the gradient ``g`` over all
    moving parameters together. Foret, Kleiner, Mobahi, Neyshabur (2021). Sharpness-Aware
    Minimization for Efficiently Improving Generalization. Two backward passes of the terms.

    Args:
        rho: distance in the space of the weights.
        terms: names of those that are smoothed.

    Raises:
        ExpungeError: the distance is negative.
    """

    rho: float = 0.01
    terms: tuple[str, ...] = ("forget",)

    def __post_init__(self) -> None:
        _check("rho", self.rho, self.rho >= 0, "a distance of 0 or more")

    @property
    def idle(self) -> bool:
        """Whether ``rho`` is 0."""
        return self.rho == 0

    def smooth(self, at: StepGradients) -> list[Tensor]:
        """The gradient there."""
        uphill = at.total()
        with at.moved(uphill, self.rho / max(TINY, float(norm(uphill)))):
            return at.total()


@dataclass(frozen=True)
class RandomisedSmoothing(Smoothing):
    """The mean gradient at weights with normal noise, drawn anew at every step.

    Args:
        sigma: standard deviation of the noise on every weight.
        draws: points; a backward pass of the terms at each.
        terms: names of those that are smoothed.

    Raises:
        ExpungeError: the deviation is negative, or there is no draw.
    """

    sigma: float = 1e-4
    draws: int = 3
    terms: tuple[str, ...] = ("forget",)

    def __post_init__(self) -> None:
        _check("sigma", self.sigma, self.sigma >= 0, "a deviation of 0 or more")
        _check("draws", self.draws, self.draws >= 1, "at least 1 draw")

    @property
    def idle(self) -> bool:
        """Whether ``sigma`` is 0."""
        return self.sigma == 0

    def smooth(self, at: StepGradients) -> list[Tensor]:
        """The mean over the draws."""
        generator, mean = at.generator(), list[Tensor]()
        for count in range(1, self.draws + 1):
            noise = [
                torch.randn(p.shape, generator=generator, device=generator.device).to(p)
                for p in at.parameters
            ]
            with at.moved(noise, self.sigma):
                found = at.total()
            # a running mean: equal gradients have themselves as their mean, bit for bit
            mean = [m + (g - m) / count for m, g in zip(mean or found, found, strict=True)]
        return mean


@dataclass(frozen=True)
class GradientPenalty(Smoothing):
    """``L + strength * |grad L|``, of the weighted terms and the norm over all moving parameters.

    Its gradient needs a product with the Hessian, which is taken by central differences of
    gradients: no second-order graph, and no kernel that lacks a second derivative, is in the way.

    Args:
        strength: factor of the norm.
        radius: how far in the space of the weights the differences look. In float32 1e-3 is above
            rounding; with forward passes in bfloat16 it has to be larger.
        terms: names of those that are smoothed.

    Raises:
        ExpungeError: the strength is negative or the radius not positive.
    """

    strength: float = 10.0
    radius: float = 1e-3
    terms: tuple[str, ...] = ("forget",)

    def __post_init__(self) -> None:
        _check("strength", self.strength, self.strength >= 0, "a factor of 0 or more")
        _check("radius", self.radius, self.radius > 0, "a distance above 0")

    @property
    def idle(self) -> bool:
        """Whether ``strength`` is 0."""
        return self.strength == 0

    def smooth(self, at: StepGradients) -> list[Tensor]:
        """``g + strength * H g / |g|``."""
        plain = at.total()
        return _plus(plain, self.strength, _curved(at, _direction(plain), self.radius))


@dataclass(frozen=True)
class CurvatureRegularisation(Smoothing):
    """``L + strength * |grad L(w + mu v) - grad L(w)|`` with ``v = grad L(w) / |grad L(w)|``.

    After Moosavi-Dezfooli, Fawzi, Uesato, Frossard (2019), Robustness via Curvature Regularization,
    and Vice Versa, in the space of the weights. ``v`` follows the weights, and its own derivative
    is part of the gradient. Six backward passes of the terms.

    Args:
        strength: factor of the norm.
        mu: how far along the gradient the second one is taken; the paper gives no figure, and this
            is the distance of its sharpness-aware form.
        radius: as in :class:`GradientPenalty`.
        terms: names of those that are smoothed.

    Raises:
        ExpungeError: the strength is negative, or a distance is not positive.
    """

    strength: float = 10.0
    mu: float = 0.01
    radius: float = 1e-3
    terms: tuple[str, ...] = ("forget",)

    def __post_init__(self) -> None:
        _check("strength", self.strength, self.strength >= 0, "a factor of 0 or more")
        for name, value in (("mu", self.mu), ("radius", self.radius)):
            _check(name, value, value > 0, "a distance above 0")

    @property
    def idle(self) -> bool:
        """Whether ``strength`` is 0."""
        return self.strength == 0

    def smooth(self, at: StepGradients) -> list[Tensor]:
        """With ``w`` the direction of the difference, ``H'`` and ``H`` the Hessians at the two
        points: ``g + strength * (H' w + H (mu (I - v v^T) H' w / |g| - w))``."""
        plain = at.total()
        along = _direction(plain)
        with at.moved(along, self.mu):
            difference = _direction(_plus(at.total(), -1.0, plain))
            there = _curved(at, difference, self.radius)
        across = _plus(there, -float(_dot(along, there)), along)
        share = self.mu / max(TINY, float(norm(plain)))
        turned = _plus([share * a for a in across], -1.0, difference)
        return _plus(plain, self.strength, _plus(there, 1.0, _curved(at, turned, self.radius)))


def _check(name: str, value: float, holds: bool, expected: str) -> None:
    if not holds:
        raise ExpungeError(f"A smoothing was given {name} = {value}; {expected} is expected.")


def _plus(one: Sequence[Tensor], times: float, other: Sequence[Tensor]) -> list[Tensor]:
    return [a.add(b, alpha=times) for a, b in zip(one, other, strict=True)]


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    pairs = zip(one, other, strict=True)
    return torch.stack([torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in pairs]).sum()


def _direction(gradient: Sequence[Tensor]) -> list[Tensor]:
    """Of length one; zero where the gradient is."""
    length = float(norm(gradient))
    return [g / length if length > TINY else torch.zeros_like(g) for g in gradient]


def _curved(at: StepGradients, direction: Sequence[Tensor], radius: float) -> list[Tensor]:
    """The Hessian at the present weights times a direction: the change of the gradient along it."""
    length = float(norm(direction))
    if length <= TINY:
        return [torch.zeros_like(d) for d in direction]
    reach = radius / length
    with at.moved(direction, reach):
        ahead = at.total()
    with at.moved(direction, -reach):
        behind = at.total()
    return [(a - b) / (2 * reach) for a, b in zip(ahead, behind, strict=True)]
