"""Terms that keep what a model knows."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.families.abilities import HasLoss, able
from expunge.problem import Fields


@dataclass(frozen=True)
class Loss:
    """The family's own loss: mean over the units of each sample, then over the batch."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch."""
        return able(setting.family, HasLoss).losses(setting.model, batch).means().mean()
