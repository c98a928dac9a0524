"""Terms that take knowledge away."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.families.abilities import HasLoss, HasNeutral, able
from expunge.problem import Fields


@dataclass(frozen=True)
class Ascent:
    """The family's loss with its sign turned: descending it is gradient ascent.

    It has no lower bound; see :class:`~expunge.descent.transforms.ClipNorm`.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Minus the mean loss of the batch."""
        return -able(setting.family, HasLoss).losses(setting.model, batch).means().mean()


@dataclass(frozen=True)
class NeutralTargets:
    """The family's loss with targets that teach nothing, drawn anew at every step.

    Graves, Nagisetty, Ganesh (2021). Amnesiac Machine Learning (random labels).
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss, HasNeutral)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under its neutral targets."""
        neutral = able(setting.family, HasNeutral).neutral(batch, setting.generator())
        return able(setting.family, HasLoss).losses(setting.model, neutral).means().mean()
