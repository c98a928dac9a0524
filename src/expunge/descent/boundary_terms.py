"""Terms that move the decision boundary of forgotten rows.

Chen, Gao, Liu, Peng, Wang (2023). Boundary Unlearning: Rapid Forgetting of Deep Networks via
Shifting the Decision Boundary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.given_labels import loss_under
from expunge.descent.player import Setting
from expunge.descent.streams import reading
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits, HasLoss, able
from expunge.problem import Fields

LEVELS = 255
"""Grey levels of a picture: what a perturbed input is rounded to."""

READ_AT_ONCE = 256
"""Rows whose neighbours are looked for at a time."""


@dataclass(frozen=True)
class NeighbouringLabels:
    """The loss on rows under the label that the model at the start gives to a perturbed row.

    The perturbation is one step of ``step`` along the sign of the gradient of the loss (FGSM),
    clipped to the range of the inputs and rounded to 255 levels of it. The paper's inputs lie
    between 0 and 1; here the range is that of the rows themselves, so ``step`` is a share of it and
    normalised inputs are treated alike. Model and rows at the start are fixed, so the labels are
    found once.
    """

    step: float = 0.1
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss, HasLogits)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The label (n,) of each row's neighbour.

        Raises:
            ExpungeError: the inputs are not of real numbers, or no row has another neighbour.
        """
        ranges = _ranges(samples)
        found, own = [], []
        for raw in batches(samples, READ_AT_ONCE):
            batch = {key: tensor.to(setting.run.device) for key, tensor in raw.items()}
            found.append(self._neighbours(setting, batch, ranges).cpu())
            own.append(raw["label"])
        labels = torch.cat(found)
        if torch.equal(labels, torch.cat(own)):
            raise ExpungeError(
                f"A step of {self.step} of the inputs' range leads none of the {len(labels)} rows "
                "over a decision boundary, so nothing would be forgotten; give a larger step."
            )
        return labels

    def _neighbours(
        self, setting: Setting, batch: Batch, ranges: Mapping[str, tuple[float, float]]
    ) -> Tensor:
        reference = setting.reference()
        inputs = {name: batch[name].detach().requires_grad_(True) for name in ranges}
        with torch.enable_grad(), reading(batch):
            losses = able(setting.family, HasLoss).losses(reference, {**batch, **inputs})
            total = losses.means().sum()
            reached = total.requires_grad and inputs
            found = (
                torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
                if reached
                else ()
            )
        if all(gradient is None for gradient in found):
            raise ExpungeError(
                "Boundary shrinking moves inputs along the gradient of the loss, and no field of "
                f"real numbers of these rows ({', '.join(sorted(batch))}) has one; it needs "
                "pictures or other real inputs. For texts take `random-label` or `salun`."
            )
        moved = dict(batch)
        for (name, tensor), gradient in zip(inputs.items(), found, strict=True):
            if gradient is not None:
                low, high = ranges[name]
                unit = max(high - low, 1e-12)
                shifted = (tensor.detach() - low) / unit + self.step * gradient.sign()
                moved[name] = (shifted.clamp(0, 1) * LEVELS).round() / LEVELS * unit + low
        with torch.no_grad():
            return able(setting.family, HasLogits).logits(reference, moved).argmax(1)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under its neighbours' labels."""
        assert isinstance(prepared, Tensor)
        return loss_under(setting, batch, prepared[batch[ROW].cpu()])


def _ranges(samples: Samples) -> dict[str, tuple[float, float]]:
    """The smallest and largest value of each field of real numbers."""
    found: dict[str, tuple[float, float]] = {}
    for batch in batches(samples, READ_AT_ONCE):
        for name, tensor in batch.items():
            if tensor.is_floating_point() and name != "label":
                low, high = (float(v) for v in tensor.aminmax())
                before = found.get(name, (low, high))
                found[name] = min(before[0], low), max(before[1], high)
    return found


@dataclass(frozen=True)
class LastOutput:
    """Cross-entropy with the last output unit as the class of every row."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean over the batch."""
        logits = able(setting.family, HasLogits).logits(setting.model, batch)
        return -F.log_softmax(logits.float(), dim=1)[:, -1].mean()
