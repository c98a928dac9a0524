"""The family of a stack of models: the loss of every one on rows of its own.

A batch holds (B, N, ...) of every field: row b of model m. The loss of a row is the sum over the
models, so that the gradient of each is that of its own mean loss, and an optimiser that treats
every weight by itself (SGD, Adam) moves each as if it were alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from expunge.data.samples import ROW, Batch
from expunge.families.abilities import Anatomy, Family, HasLoss, UnitLosses, able


@dataclass(frozen=True)
class StackedFamily:
    """Family of modules that :func:`~expunge.models.stacked.stacked` made.

    Args:
        one: the family of one model; it has losses.
        name: under which errors know it.
    """

    one: Family
    name: str = "stacked"

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing: families that draw random numbers are not stacked (learning/population.py)."""
        return batch

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Sum over the models of each row's loss (B, 1).

        Raises:
            RuntimeError: a layer draws random numbers (dropout), or cannot be mapped by torch.
        """
        asked = _Loss(model, self.one)
        tensors = {**dict(asked.named_parameters()), **dict(asked.named_buffers())}
        fields = {name: tensor for name, tensor in batch.items() if name != ROW}

        def of_one(own: Mapping[str, Tensor], rows: Batch) -> Tensor:
            found: Tensor = functional_call(asked, dict(own), (rows,))
            return found

        each = torch.vmap(of_one, in_dims=(0, 1), randomness="error")(tensors, fields)
        return UnitLosses.per_sample(each.sum(0))

    def anatomy(self, model: nn.Module) -> Anatomy:
        """That of one model: the names are the same."""
        return self.one.anatomy(model)


class _Loss(nn.Module):
    """A model with its loss: what is called with the tensors of one of the stack."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        super().__init__()
        self.model, self._family = model, family
        self.training = model.training

    def forward(self, batch: Batch) -> Tensor:
        """Losses (B,)."""
        return able(self._family, HasLoss).losses(self.model, batch).means()
