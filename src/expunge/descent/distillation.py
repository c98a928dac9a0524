"""Terms that pull a model's answers towards those of frozen teachers, or push them away.

Hinton, Vinyals, Dean (2015). Distilling the Knowledge in a Neural Network: the divergence of class
probabilities at a temperature. Teachers are asked once, before the first step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.player import Setting
from expunge.descent.sources import PART
from expunge.families.abilities import HasLogits, able
from expunge.problem import Fields

ASKED_AT_ONCE = 256
"""Rows that a teacher is asked about at a time."""


def answers(teachers: Sequence[nn.Module], setting: Setting, samples: Samples) -> Tensor:
    """Logits (n, C) of frozen teachers in evaluation mode, float32 on the CPU.

    The rows of a pool's i-th role are answered by the i-th teacher, all others by the first.
    """
    family, found = able(setting.family, HasLogits), []
    with torch.no_grad(), setting.run.autocast():
        for raw in batches(samples, ASKED_AT_ONCE):
            batch = {key: tensor.to(setting.run.device) for key, tensor in raw.items()}
            logits = family.logits(teachers[0], batch).float()
            for i, teacher in enumerate(teachers[1:], start=1):
                mine = batch[PART] == i
                if bool(mine.any()):
                    own = {key: tensor[mine] for key, tensor in batch.items()}
                    logits[mine] = family.logits(teacher, own).float()
            found.append(logits.cpu())
    return torch.cat(found)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(teacher || student)`` at temperature T from logits (B, C), mean over the batch.

    The sum over classes is not divided by their number: the divergence does not depend on it.
    """
    towards = F.log_softmax(teacher / temperature, dim=1)
    found = F.log_softmax(student.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(found, towards, reduction="batchmean", log_target=True)


@dataclass(frozen=True)
class Divergence:
    """Divergence from the model as it was at the start, and cross-entropy with the labels.

    A negative ``weight`` pushes the model away; it has no lower bound then.

    Args:
        weight: factor of the whole.
        temperature: of the divergence.
        divergence_weight: factor of the divergence.
        label_weight: factor of the cross-entropy of the same batch; labels are read where it is
            not zero.
    """

    weight: float = 1.0
    temperature: float = 1.0
    divergence_weight: float = 1.0
    label_weight: float = 0.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The logits (n, C) of the model at the start."""
        return answers([setting.reference()], setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The weighted sum of both."""
        assert isinstance(prepared, Tensor)
        logits = able(setting.family, HasLogits).logits(setting.model, batch)
        teacher = prepared[batch[ROW].cpu()].to(logits.device)
        found = self.divergence_weight * divergence(logits, teacher, self.temperature)
        if self.label_weight:
            labels = batch["label"]
            found = found + self.label_weight * F.cross_entropy(logits.float(), labels)
        return found


@dataclass(frozen=True)
class TwoTeachers:
    """Divergence from two teachers, on a pool of two roles.

    Chundawat, Tarun, Mandal, Kankanhalli (2023). Can Bad Teaching Induce Forgetting? The companion
    ``bad`` teaches the rows of the pool's first role, the model as it was at the start the others.
    """

    bad: str
    temperature: float = 1.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The logits (n, C) of each row's teacher."""
        return answers([setting.modules[self.bad], setting.reference()], setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The divergence of the batch."""
        assert isinstance(prepared, Tensor)
        logits = able(setting.family, HasLogits).logits(setting.model, batch)
        teacher = prepared[batch[ROW].cpu()].to(logits.device)
        return divergence(logits, teacher, self.temperature)
