"""Averages of the weights over a descent; the average is what the descent returns."""

import math
from dataclasses import dataclass
from typing import Protocol

from expunge.errors import ExpungeError


class Average(Protocol):
    """A rule that takes the weights into their average, step by step."""

    def share(self, step: int, total: int) -> float:
        """How far the average goes towards the weights after ``step`` of ``total`` steps: 0 leaves
        it, 1 makes it the weights. Before the first step it is the weights at the start."""
        ...


@dataclass(frozen=True)
class MovingAverage:
    """Exponential moving average, from the weights at the start on."""

    decay: float = 0.999

    def share(self, step: int, total: int) -> float:
        """The same at every step."""
        return 1 - self.decay


@dataclass(frozen=True)
class MeanOfSamples:
    """The mean of the weights at every few steps of the last part of a descent.

    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson (2018). Averaging Weights Leads to Wider Optima
    and Better Generalization. The defaults are those of Fan et al. (2025), Towards LLM Unlearning
    Resilient to Relearning Attacks: every 5 steps from step 100 of 125 on.

    Args:
        start: share of all steps after which the first sample is taken.
        every: steps between two samples.

    Raises:
        ExpungeError: the share is not in [0, 1] or the period is below 1.
    """

    start: float = 0.8
    every: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1 or self.every < 1:
            raise ExpungeError(
                f"A mean of weights from {self.start} of the steps on, every {self.every} steps, "
                "was asked for; a share from 0 to 1 and a period of at least 1 are expected."
            )

    def share(self, step: int, total: int) -> float:
        """One over the number of samples so far where one is taken, else 0."""
        since = step - max(1, math.ceil(self.start * total))
        taken = since >= 0 and since % self.every == 0
        return 1 / (since // self.every + 1) if taken else 0.0
