"""Schedules of the original trainings: steps down at milestones, and one part of a whole."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from expunge.descent.optimisers import Optimiser, Schedule


@dataclass(frozen=True)
class Milestones:
    """The rate times ``factor`` after each of the shares ``at`` of all steps."""

    at: tuple[float, ...]
    factor: float = 0.1

    def share(self, step: int, total: int) -> float:
        """Factor at ``step``."""
        return self.factor ** sum(step >= share * total for share in self.at)


@dataclass(frozen=True)
class Decay:
    """The rate times ``factor`` after each of ``epochs`` equal parts."""

    factor: float
    epochs: int

    def share(self, step: int, total: int) -> float:
        """Factor at ``step``."""
        return self.factor ** (step * self.epochs // total)


@dataclass(frozen=True)
class WarmUp:
    """A line up to the whole rate over ``steps`` steps, whatever their total, then constant."""

    steps: int

    def share(self, step: int, total: int) -> float:
        """Factor at ``step``."""
        return min(1.0, (step + 1) / (self.steps + 1))


@dataclass(frozen=True)
class Part:
    """What ``whole`` does between two shares of its steps: training goes on where it was left."""

    whole: Schedule
    first: float = 0.0
    last: float = 1.0

    def share(self, step: int, total: int) -> float:
        """Factor at ``step`` of the ``total`` steps of this part."""
        all_steps = round(total / (self.last - self.first))
        return self.whole.share(step + round(self.first * all_steps), all_steps)


@dataclass(frozen=True)
class Scheduled:
    """An optimiser with another schedule than its own."""

    optimiser: Optimiser
    schedule: Schedule

    def over(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser, at its peak rate."""
        return self.optimiser.over(parameters)
