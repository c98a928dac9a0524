"""A method of your own in one file: `expunge compare examples/digits.yaml examples/mine.py ...`.

Random labels: the forget rows are learned with labels drawn anew in every step, the retain rows
with their own. Graves, Nagisetty, Ganesh (2021). Amnesiac Machine Learning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player, Setting
from expunge.descent.retain_terms import Loss
from expunge.families.abilities import HasLoss, HasNeutral, able
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Fields


@dataclass(frozen=True)
class RandomLabels:
    """The loss on the forget rows under random labels: what the new method is about."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss, HasNeutral)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch, whose labels are drawn from the term's own random numbers."""
        relabelled = able(setting.family, HasNeutral).neutral(batch, setting.generator())
        return able(setting.family, HasLoss).losses(setting.model, relabelled).means().mean()


@dataclass(frozen=True)
class Relabelling(ByDescent):
    """Its fields are the hyper-parameters; `search` says which of them `expunge tune` varies."""

    name: ClassVar[str] = "random-labels"
    paper: ClassVar[str] = "Graves et al. 2021, Amnesiac Machine Learning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
    }

    epochs: int = 3
    learning_rate: float = 1e-4
    batch_size: int = 64
    sequential: bool = False

    def descent(self) -> Descent:
        """One player, two terms, in every step."""
        return Descent(
            Player(forget=RandomLabels(), retain=Loss(), optimiser=AdamW(self.learning_rate)),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )
