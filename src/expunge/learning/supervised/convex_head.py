"""A convex head on fixed features, trained so that rows can be removed from it with a certificate.

Guo, Goldstein, Hannun, van der Maaten (2020). Certified Data Removal from Machine Learning Models
(Section 3, loss perturbation). One column of weights a class, one against the rest, minimises

    L_b(w) = sum_i loss(w^T x_i, y_i) + ridge n / 2 |w|^2 + b^T w,   b ~ N(0, noise^2 I),

with y = 1 for the class and -1 for all others; x is what the last linear layer reads, and 1. The
noise hides a gradient that is not quite zero: see :mod:`~expunge.methods.certified_removal`. What
lies below the last layer is taken as it is; nothing is promised about it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.learning.supervised.last_layer import read, width_of, with_head
from expunge.recipe import LEARNER, Record, Role, Trained
from expunge.run import Run

SETTLED = 1e-9
"""Gradient norm a row at which Newton's method has found the minimum, in double precision."""

MOST_STEPS = 100
"""Newton steps at most."""


class ConvexLoss(Protocol):
    """A loss of a score z = w^T x and a target y of 1 or -1, convex and twice differentiable."""

    @property
    def name(self) -> str:
        """Under which a record names it."""
        ...

    @property
    def steepest(self) -> float:
        """Largest slope of the second derivative, its Lipschitz constant in z."""
        ...

    def value(self, score: Tensor, target: Tensor) -> Tensor:
        """The loss, elementwise."""
        ...

    def first(self, score: Tensor, target: Tensor) -> Tensor:
        """Its derivative in the score."""
        ...

    def second(self, score: Tensor, target: Tensor) -> Tensor:
        """Its second derivative in the score."""
        ...


@dataclass(frozen=True)
class Logistic:
    """log(1 + exp(-y z)). The slope of its second derivative is 1 / (6 sqrt 3) at most (the paper
    uses 1/4)."""

    name: ClassVar[str] = "logistic"
    steepest: ClassVar[float] = 1 / (6 * math.sqrt(3))

    def value(self, score: Tensor, target: Tensor) -> Tensor:
        """The loss."""
        return F.softplus(-target * score)

    def first(self, score: Tensor, target: Tensor) -> Tensor:
        """Its derivative."""
        return -target * torch.sigmoid(-target * score)

    def second(self, score: Tensor, target: Tensor) -> Tensor:
        """Its second derivative."""
        return torch.sigmoid(score) * torch.sigmoid(-score)


@dataclass(frozen=True)
class Squared:
    """(z - y)^2 / 2: ridge regression on the targets. A Newton step on it is exact."""

    name: ClassVar[str] = "squared"
    steepest: ClassVar[float] = 0.0

    def value(self, score: Tensor, target: Tensor) -> Tensor:
        """The loss."""
        return (score - target).square() / 2

    def first(self, score: Tensor, target: Tensor) -> Tensor:
        """Its derivative."""
        return score - target

    def second(self, score: Tensor, target: Tensor) -> Tensor:
        """Its second derivative."""
        return torch.ones_like(score)


LOSSES: Mapping[str, type[Logistic] | type[Squared]] = {
    kind.name: kind for kind in (Logistic, Squared)
}
"""By the name that a record holds."""


@dataclass(frozen=True)
class Rows:
    """What a convex head sees of n rows: ``features`` (n, d) and ``targets`` (n, C), float64."""

    features: Tensor
    targets: Tensor

    @classmethod
    def of(cls, model: nn.Module, family: Family, samples: Samples, run: Run) -> "Rows":
        """The inputs of the last linear layer with a 1 beside them, and 1 or -1 for each class.

        Raises:
            ExpungeError: there are no rows, no labels, or the logits are not the answer of the last
                linear layer.
        """
        blocks = list(read(model, family, samples, run))
        hot = F.one_hot(torch.cat([b.labels for b in blocks]), width_of(model)[1]).double()
        return cls(torch.cat([b.features for b in blocks]), 2 * hot - 1)

    def gradient(self, weights: Tensor, loss: ConvexLoss, ridge: float) -> Tensor:
        """Gradient (d, C) of the sum of the losses and of ridge n / 2 |w|^2, without b."""
        slope = loss.first(self.features @ weights, self.targets)
        return self.features.T @ slope + ridge * len(self.features) * weights

    def hessian(self, weights: Tensor, loss: ConvexLoss, ridge: float) -> Tensor:
        """Second derivatives (C, d, d) of the same."""
        curve = loss.second(self.features @ weights, self.targets)
        parts = [self.features.T @ (one.unsqueeze(1) * self.features) for one in curve.unbind(1)]
        return torch.stack(parts) + ridge * len(self.features) * torch.eye(
            self.features.shape[1], dtype=torch.float64
        )


@dataclass(frozen=True)
class ConvexHead:
    """A learner of the last linear layer alone. Its record is what a certified removal needs.

    Args:
        loss: :class:`Logistic` or :class:`Squared`.
        ridge: lambda, strength of the regularisation a row, in squared units of the features.
        noise: sigma, standard deviation of b, in units of the features. The larger, the more
            removals are covered, and the less accurate the head.

    The paper has features of norm 1 and varies both. The defaults are ours, for the digits
    classifier, whose features have a norm of about 20: the ridge goes with its square, the noise
    with the norm itself.
    """

    name: ClassVar[str] = "convex-head"
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {"loss": LOSSES}

    loss: ConvexLoss = field(default_factory=Logistic)
    ridge: float = 1.0
    noise: float = 30.0

    def __post_init__(self) -> None:
        if not (self.ridge > 0 and self.noise >= 0):
            raise ExpungeError(
                f"A convex head got ridge {self.ridge:g} and noise {self.noise:g}; a ridge above 0 "
                "and a noise of at least 0 are expected."
            )

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """A copy of ``model`` with its last linear layer trained on the role ``train``."""
        rows = Rows.of(model, family, data[Role.TRAIN], run)
        run.meter.touch(Role.TRAIN.value, len(rows.features))
        shape = rows.features.shape[1], rows.targets.shape[1]
        generator = run.generator("convex-head/noise")
        noise = self.noise * torch.randn(shape, generator=generator, dtype=torch.float64)
        weights = minimised(rows, self.loss, self.ridge, noise)
        left = rows.gradient(weights, self.loss, self.ridge) + noise
        facts = {
            LEARNER: self.name,
            "loss": self.loss.name,
            "ridge": self.ridge,
            "noise": self.noise,
            "residual": float(left.norm()),
        }
        return Trained(with_head(model, weights), Record({"head": weights}, facts))


def minimised(rows: Rows, loss: ConvexLoss, ridge: float, noise: Tensor) -> Tensor:
    """The weights (d, C) at which L_b is smallest, by Newton's method with halved steps.

    Raises:
        ExpungeError: the minimum was not found.
    """
    count = len(rows.features)

    def objective(weights: Tensor) -> Tensor:
        losses = loss.value(rows.features @ weights, rows.targets).sum(0)
        return losses + (ridge * count / 2 * weights.square() + noise * weights).sum(0)

    weights = torch.zeros_like(noise)
    for _ in range(MOST_STEPS):
        gradient = rows.gradient(weights, loss, ridge) + noise
        if float(gradient.norm()) <= SETTLED * count:
            return weights
        step = newton(rows.hessian(weights, loss, ridge), gradient)
        before, length = objective(weights), torch.ones(noise.shape[1], dtype=torch.float64)
        promised = 1e-4 * (gradient * step).sum(0)
        while bool(
            (worse := objective(weights - length * step) > before - length * promised).any()
        ):
            length = torch.where(worse, length / 2, length)
            if float(length.min()) < 1e-6:
                break
        weights = weights - length * step
    raise ExpungeError(
        f"The convex head has a gradient of norm {float(gradient.norm()):.1g} after {MOST_STEPS} "
        "Newton steps; give it a larger ridge."
    )


def newton(hessian: Tensor, gradient: Tensor) -> Tensor:
    """The inverse of each class's matrix (C, d, d) times its column of the gradient (d, C)."""
    found: Tensor = torch.linalg.solve(hessian, gradient.T.unsqueeze(2)).squeeze(2).T
    return found
