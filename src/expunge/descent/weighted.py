"""The family's loss with a weight for every row: the lower level of a bi-level search over rows."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, able
from expunge.problem import Fields


@dataclass(frozen=True)
class WeightedLoss:
    """The mean over the batch of each row's loss times the row's own weight.

    Args:
        row_weights: one number for each row of the role, in its order. A tuple, so that a stored
            state of a descent under other weights is known to be another one.

    Raises:
        ExpungeError: there are more or fewer weights than rows.
    """

    row_weights: tuple[float, ...]
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The weights (rows,) float32 on the device of the run."""
        if len(self.row_weights) != len(samples):
            raise ExpungeError(
                f"{len(self.row_weights)} weights were given for {len(samples)} rows; give one for "
                "each row."
            )
        return torch.tensor(self.row_weights, dtype=torch.float32, device=setting.run.device)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The weighted mean of the losses of the batch."""
        assert isinstance(prepared, Tensor)
        losses = able(setting.family, HasLoss).losses(setting.model, batch).means()
        return (prepared[batch[ROW]] * losses).mean()
