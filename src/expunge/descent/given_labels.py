"""Terms that teach rows other labels than their own: labels given beforehand, or drawn anew."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, able
from expunge.problem import Fields


def loss_under(setting: Setting, batch: Batch, labels: Tensor) -> Tensor:
    """Mean loss of a batch with these labels (B,) in the place of its own."""
    relabelled = {**batch, "label": labels.to(batch["label"].device)}
    return able(setting.family, HasLoss).losses(setting.model, relabelled).means().mean()


@dataclass(frozen=True)
class GivenLabels:
    """The family's loss under one label for each row of the role.

    Args:
        labels: in the order of the rows. A tuple, so that a stored state of a descent under other
            labels is known to be another one.
    """

    labels: tuple[int, ...]
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The labels (rows,) int64.

        Raises:
            ExpungeError: there are more or fewer labels than rows.
        """
        if len(self.labels) != len(samples):
            raise ExpungeError(
                f"{len(self.labels)} labels were given for {len(samples)} rows; give one for each."
            )
        return torch.tensor(self.labels)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under its labels."""
        assert isinstance(prepared, Tensor)
        return loss_under(setting, batch, prepared[batch[ROW].cpu()])


@dataclass(frozen=True)
class LabelsAmong:
    """The family's loss under labels drawn at every step, uniformly among some classes.

    Args:
        classes: labels, none of which a row of the role has.
    """

    classes: tuple[int, ...]
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under the labels drawn."""
        size = (len(batch["label"]),)
        places = torch.randint(len(self.classes), size, generator=setting.generator())
        return loss_under(setting, batch, torch.tensor(self.classes)[places])
