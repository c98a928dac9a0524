"""Optimisers and learning-rate schedules as data: what torch is told."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import nn


class Schedule(Protocol):
    """The learning rate over a descent, as a share of its peak."""

    def share(self, step: int, total: int) -> float:
        """Factor at ``step`` of ``total``."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    def share(self, step: int, total: int) -> float:
        """One."""
        return 1.0


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up over the share ``warm_up`` of all steps, then half a cosine to zero."""

    warm_up: float = 0.0

    def share(self, step: int, total: int) -> float:
        """Factor at ``step``."""
        rising = self.warm_up * total
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, total - rising)))


@dataclass(frozen=True)
class Linear:
    """Linear warm-up over the share ``warm_up`` of all steps, then a line that would reach zero
    after ``stretch`` times as many steps as there are."""

    warm_up: float = 0.0
    stretch: float = 1.0

    def share(self, step: int, total: int) -> float:
        """Factor at ``step``."""
        rising = self.warm_up * total
        if step < rising:
            return (step + 1) / (rising + 1)
        return max(0.0, 1 - (step - rising) / (self.stretch * total))


@dataclass(frozen=True)
class Stairs:
    """One in the first of ``epochs`` equal parts, and less by the same amount in each that follows;
    zero in the last ``free`` of them."""

    epochs: int
    free: int = 0

    def share(self, step: int, total: int) -> float:
        """Factor at ``step``."""
        return max(0.0, 1 - (step * self.epochs // total) / max(1, self.epochs - self.free))


@dataclass(frozen=True)
class Drops:
    """One in the first of ``parts`` equal parts, and ``factor`` times the rate before in each that
    follows."""

    parts: int
    factor: float = 0.1

    def share(self, step: int, total: int) -> float:
        """Factor at ``step``."""
        return self.factor ** (step * self.parts // max(1, total))


SCHEDULES: Mapping[str, type] = {"constant": Constant, "cosine": Cosine, "linear": Linear}
"""Those that a run file may name, in the recipe of a model."""


class Optimiser(Protocol):
    """Builds a torch optimiser."""

    @property
    def schedule(self) -> Schedule:
        """The rate over time."""
        ...

    def over(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of these parameters, at its peak rate."""
        ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent."""

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    schedule: Schedule = field(default_factory=Constant)
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {"schedule": SCHEDULES}

    def over(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser."""
        return torch.optim.SGD(
            parameters,
            self.learning_rate,
            self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay; without decay it is Adam (Kingma and Ba 2015)."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule = field(default_factory=Constant)
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {"schedule": SCHEDULES}

    def over(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser."""
        return torch.optim.AdamW(
            parameters, self.learning_rate, self.betas, self.epsilon, self.weight_decay
        )


@dataclass(frozen=True)
class SignSGD:
    """Every weight moves by the learning rate against the sign of its gradient; a gradient of zero
    moves nothing.

    Bernstein, Wang, Azizzadenesheli, Anandkumar (2018). signSGD: Compressed Optimisation for
    Non-Convex Problems.
    """

    learning_rate: float
    schedule: Schedule = field(default_factory=Constant)

    def over(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser."""
        return _SignDescent(parameters, {"lr": self.learning_rate})


class _SignDescent(torch.optim.Optimizer):
    """Keeps nothing between two steps."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad.sign(), alpha=group["lr"])
