"""The term that brings a model's outputs to given ones, and the penalty that keeps it near its
start.

Georgiev, Rinberg, Park, Garg, Ilyas, Madry, Neel (2024). Attribute-to-Delete: Machine Unlearning
via Datamodel Matching. Every output counts, all logits of a row; no label is read.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import HasOutputs, able
from expunge.problem import Fields


class Targets:
    """Outputs by the ids of rows.

    Args:
        ids: of the rows; where one comes twice, the last value counts.
        values: (n, ...).
    """

    def __init__(self, ids: Sequence[str], values: Tensor) -> None:
        if len(ids) != len(values):
            raise ExpungeError(
                f"{len(values)} targets were given for {len(ids)} rows; give one for each row."
            )
        self.values, self._place = values, {name: place for place, name in enumerate(ids)}

    def of(self, ids: Sequence[str]) -> Tensor:
        """Those of some rows, in their order.

        Raises:
            ExpungeError: a row has none.
        """
        if unknown := [name for name in ids if name not in self._place]:
            raise ExpungeError(
                f"There is no target for the row {unknown[0]!r}; give one for each of the "
                f"{len(ids)} rows."
            )
        return self.values[[self._place[name] for name in ids]]

    def __repr__(self) -> str:
        """By content, so that the stored state of a descent to others is known to be another."""
        sha = hashlib.sha256(repr(list(self._place)).encode())
        sha.update(self.values.detach().cpu().contiguous().numpy().tobytes())
        return f"Targets({sha.hexdigest()})"


@dataclass(frozen=True)
class MatchOutputs:
    """Mean over rows and outputs of the squared distance to the targets."""

    targets: Targets
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasOutputs,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The targets (n, ...) of the rows."""
        return self.targets.of(samples.ids)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The mean squared distance of the batch."""
        assert isinstance(prepared, Tensor)
        found = able(setting.family, HasOutputs).outputs(setting.model, batch)
        wanted = prepared[batch[ROW].cpu()].to(found.device)
        if found.shape != wanted.shape:
            raise ExpungeError(
                f"The targets of a batch have the shape {tuple(wanted.shape)} and the outputs "
                f"{tuple(found.shape)}; the same is expected. Make the targets from this family."
            )
        return (found.to(wanted.dtype) - wanted).square().mean()


@dataclass(frozen=True)
class Proximity:
    """Squared distance of all weights to those at the start; it reads no rows."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The sum over all weights."""
        before = dict(setting.reference().named_parameters())
        return torch.stack(
            [
                (weights.float() - before[name].float()).square().sum()
                for name, weights in setting.model.named_parameters()
            ]
        ).sum()
