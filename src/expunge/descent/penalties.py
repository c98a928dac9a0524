"""Penalties on the weights themselves; they read no rows.

``others={"l1": On(NoRows(), L1Norm(1e-3))}`` adds one to a player.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.optimisers import Constant, Schedule
from expunge.descent.player import Setting
from expunge.problem import Fields


@dataclass(frozen=True)
class L1Norm:
    """Sum of the magnitudes of ALL parameters of the model, biases and norms among them.

    ``schedule`` scales it over the descent as it would a learning rate.
    """

    weight: float = 1.0
    schedule: Schedule = field(default_factory=Constant)
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The norm, times the schedule's share of this step."""
        norm = torch.stack(
            [p.abs().sum(dtype=torch.float32) for p in setting.model.parameters()]
        ).sum()
        return norm * self.schedule.share(setting.step, setting.total)
