"""Plain: minimise the family's own loss over the training rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from expunge.changes.history import History
from expunge.data.samples import Samples
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, AdamW, Optimiser
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.families.abilities import Family, HasLoss, able
from expunge.problem import Problem
from expunge.recipe import Role, Trained
from expunge.requests import NO_REQUEST
from expunge.run import Run


@dataclass(frozen=True)
class Plain:
    """A learner that keeps no record.

    Args:
        epochs: passes over the training rows.
        batch_size: rows a step.
        optimiser: how the weights move.
    """

    epochs: int = 20
    batch_size: int = 64
    optimiser: Optimiser = field(default_factory=lambda: AdamW(1e-3))
    stacks: ClassVar[bool] = True
    """Every weight moves by itself: many models can be trained as one (learning/population.py)."""
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "optimiser": {"adamw": AdamW, "sgd": SGD}
    }

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """Train a copy of ``model`` on the role ``train``."""
        able(family, HasLoss)
        descent = Descent(
            Player(others={"train": On(Role.TRAIN, Loss())}, optimiser=self.optimiser),
            length=Epochs(self.epochs, of=Role.TRAIN),
            batch_size=self.batch_size,
        )
        problem = Problem(model, family, NO_REQUEST, data, History())
        return Trained(descent.minimise(problem, run, name="training").model)
