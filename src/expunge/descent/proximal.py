"""Proximal steps: what pulls weights back to where a descent began, after each step of a player.

Parikh, Boyd (2014). Proximal Algorithms. A penalty with a kink, such as the l1 norm of the
displacement, is not descended but solved exactly after each step, so that weights rest at their
start instead of trembling about it.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from expunge.descent.optimisers import Linear, Schedule
from expunge.errors import ExpungeError


class Proximal(Protocol):
    """What follows each step of the optimiser."""

    def pull(self, weight: Tensor, start: Tensor, rate: float, step: int, total: int) -> None:
        """Move one tensor in place, where it may.

        Args:
            weight: as the optimiser left it.
            start: as it was before the first step.
            rate: the learning rate of this step.
            step: the present one of ``total``.
            total: of the descent.
        """
        ...


@dataclass(frozen=True)
class SoftThreshold:
    """Soft-thresholding of the displacement: the proximal step of ``penalty`` times its l1 norm.

    With w the weight after the step, w0 its start and t = penalty * rate * schedule, it becomes
    w0 + sign(w - w0) max(0, |w - w0| - t). From its start a weight without momentum moves only
    where its gradient is larger than the penalty. Weights within t get the bits of their start, and
    a threshold of zero touches nothing.

    Args:
        penalty: factor of the norm; in the unit of a gradient.
        schedule: scales it over the descent; by default a line that would reach zero after the
            last step.

    Raises:
        ExpungeError: the penalty is negative or not a number.
    """

    penalty: float
    schedule: Schedule = field(default_factory=Linear)

    def __post_init__(self) -> None:
        if not self.penalty >= 0:
            raise ExpungeError(
                f"A penalty of {self.penalty} on the displacement was given; a number of at least "
                "0 is expected."
            )

    @torch.no_grad()
    def pull(self, weight: Tensor, start: Tensor, rate: float, step: int, total: int) -> None:
        """Shorten the displacement by the threshold, to zero at least."""
        threshold = self.penalty * rate * self.schedule.share(step, total)
        if threshold > 0:
            displacement = weight - start
            rests = displacement.abs() <= threshold
            weight.sub_(displacement.clamp_(-threshold, threshold))
            weight.copy_(torch.where(rests, start, weight))
