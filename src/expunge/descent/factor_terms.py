"""Terms on the low-rank factors that a model is trained by; they read no rows.

``others={"orthogonal": On(NoRows(), Orthogonality(earlier))}`` adds one to a player.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.problem import Fields

DOWN = ".lora_A."
"""What the name of a down-projection holds after the name of its layer."""


@dataclass(frozen=True)
class Orthogonality:
    """Sum over layers and earlier adapters of ||A_j A^T||_F^2, A the down-projection that moves.

    Wang, Chen, Ge, Xia, Bao, Zheng, Zhang, Gui, Huang (2023). Orthogonal Subspace Learning for
    Language Model Continual Learning.

    Args:
        earlier: down-projections A_j (r, in) by the name of their layer, one mapping an adapter.
        weight: factor of the sum.
        every: period in steps.
        batch_size: without meaning here.
        fields: none.
    """

    earlier: tuple[Mapping[str, Tensor], ...] = field(repr=False)
    weight: float = 0.1
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The sum.

        Raises:
            ExpungeError: the model has no low-rank layer that an earlier adapter has, too.
        """
        found = [
            (down.float() @ other[layer].to(down).float().T).square().sum()
            for layer, down in down_projections(setting.model)
            for other in self.earlier
            if layer in other
        ]
        if not found:
            raise ExpungeError(
                "The adapter has no layer in common with the earlier ones, so nothing is to be "
                "orthogonal; train it on the same layers."
            )
        return torch.stack(found).sum()


def down_projections(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The down-projection (r, in) of each low-rank layer, by the name of the layer."""
    for name, parameter in model.named_parameters():
        layer, marked, _ = name.partition(DOWN)
        if marked:
            yield layer, parameter
