"""What a regressor was trained to minimise: squared errors, absolute errors, or quantiles.

Koenker, Bassett (1978). Regression Quantiles, for the last. A loss compares the numbers that a
model answers with goals of the same shape, so that a target, a drawn number or another model's
answer can be the goal.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from expunge.errors import ExpungeError


@runtime_checkable
class NumberLoss(Protocol):
    """A loss of numbers."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def answers(self) -> int:
        """How many numbers a model answers for each target."""
        ...

    def goals(self, targets: Tensor) -> Tensor:
        """What answers (B, D * answers) are compared with, from targets (B, D)."""
        ...

    def points(self, answers: Tensor) -> Tensor:
        """The one number (B, D) for each target that answers (B, D * answers) come down to."""
        ...

    def apart(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Losses (B,) of answers (B, A) against goals (B, A)."""
        ...


@dataclass(frozen=True)
class SquaredLoss:
    """Squared error, mean over the targets: answers are means."""

    name: Literal["squared"] = "squared"

    @property
    def answers(self) -> int:
        """One."""
        return 1

    def goals(self, targets: Tensor) -> Tensor:
        """The targets."""
        return targets

    def points(self, answers: Tensor) -> Tensor:
        """The answers."""
        return answers

    def apart(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Mean squared distance (B,)."""
        return (answers - goals).square().mean(1)


@dataclass(frozen=True)
class AbsoluteLoss:
    """Absolute error (L1), mean over the targets: answers are medians."""

    name: Literal["absolute"] = "absolute"

    @property
    def answers(self) -> int:
        """One."""
        return 1

    def goals(self, targets: Tensor) -> Tensor:
        """The targets."""
        return targets

    def points(self, answers: Tensor) -> Tensor:
        """The answers."""
        return answers

    def apart(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Mean distance (B,)."""
        return (answers - goals).abs().mean(1)


@dataclass(frozen=True)
class QuantileLoss:
    """Quantile (pinball) loss, mean over targets and levels; a forecast with its uncertainty.

    A model answers the quantiles of the first target, then those of the second, and so on.

    Args:
        levels: of the quantiles, rising, the median among them: it is what errors are taken of.

    Raises:
        ExpungeError: they do not rise within (0, 1), or lack the median.
    """

    levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    name: Literal["quantile"] = "quantile"

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in pairwise((0.0, *self.levels, 1.0)))
        if not rising or 0.5 not in self.levels:
            raise ExpungeError(
                f"The quantile loss got the levels {self.levels}; numbers that rise between 0 and "
                "1 with 0.5 among them are expected, such as (0.1, 0.5, 0.9)."
            )

    @property
    def answers(self) -> int:
        """As many as there are levels."""
        return len(self.levels)

    def goals(self, targets: Tensor) -> Tensor:
        """Each target once for every level."""
        return targets.repeat_interleave(self.answers, dim=1)

    def points(self, answers: Tensor) -> Tensor:
        """The medians."""
        return answers[:, self.levels.index(0.5) :: self.answers]

    def apart(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Mean over targets and levels of max(q e, (q - 1) e), e = goal - answer: (B,)."""
        under = goals - answers
        level = torch.tensor(self.levels, dtype=under.dtype, device=under.device)
        level = level.repeat(under.shape[1] // self.answers)
        return torch.maximum(level * under, (level - 1) * under).mean(1)
