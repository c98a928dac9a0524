"""Averaged: minimise the family's loss for a number of steps and end at a mean of the weights.

How denoisers are trained: Adam, a clipped gradient, an exponential moving average (Ho, Jain, Abbeel
2020, Denoising Diffusion Probabilistic Models, Appendix B).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from expunge.changes.history import History
from expunge.data.samples import Samples
from expunge.descent.averages import Average, MeanOfSamples, MovingAverage
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, AdamW, Optimiser
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.descent.transforms import ClipNorm
from expunge.families.abilities import Family, HasLoss, able
from expunge.problem import Problem
from expunge.recipe import Role, Trained
from expunge.requests import NO_REQUEST
from expunge.run import Run


@dataclass(frozen=True)
class Averaged:
    """A learner that keeps no record.

    Args:
        steps: of the optimiser.
        batch_size: rows a step.
        optimiser: how the weights move.
        average: where the training ends.
        clip: largest norm of a gradient.
    """

    steps: int = 3000
    batch_size: int = 128
    optimiser: Optimiser = field(default_factory=lambda: AdamW(1e-3))
    average: Average = field(default_factory=lambda: MovingAverage(0.999))
    clip: float = 1.0
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "optimiser": {"adamw": AdamW, "sgd": SGD},
        "average": {"moving": MovingAverage, "mean": MeanOfSamples},
    }

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """Train a copy of ``model`` on the role ``train``."""
        able(family, HasLoss)
        descent = Descent(
            Player(others={"train": On(Role.TRAIN, Loss())}, optimiser=self.optimiser),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
            average=self.average,
        )
        problem = Problem(model, family, NO_REQUEST, data, History())
        return Trained(descent.minimise(problem, run, name="training").model)
