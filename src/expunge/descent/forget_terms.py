"""Terms that take knowledge away."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.descent.sources import PART
from expunge.families.abilities import HasLogits, HasLoss, HasNeutral, able
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


@dataclass(frozen=True)
class MixedTargets:
    """The family's loss on a pool, where the rows of the pool's first role have neutral targets.

    A batch holds the roles as they come, so that batch norm sees them together and the loss weighs
    them as many as they are. Targets are drawn where a row is read, which in a pass is once. For
    families of classes: an answer in tokens has no room beside one of another length.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss, HasNeutral, HasLogits)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under its targets."""
        neutral = able(setting.family, HasNeutral).neutral(batch, setting.generator())
        first = batch[PART] == 0
        mixed = {
            name: torch.where(first.view(-1, *[1] * (given.dim() - 1)), neutral[name], given)
            for name, given in batch.items()
        }
        return able(setting.family, HasLoss).losses(setting.model, mixed).means().mean()
