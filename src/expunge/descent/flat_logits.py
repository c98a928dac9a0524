"""A term that takes away every preference for a token: logits are made flat.

Entesari, Hatami, Khaziev, Ramakrishna, Fazlyab (2025). Constrained Entropic Unlearning: A
Primal-Dual Framework for Large Language Models (logit-margin flattening). Code in open-unlearning
takes the mean over the prompt and the padding, too; here it is over answer tokens alone.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.families.abilities import HasAnswers, able
from expunge.problem import Fields


@dataclass(frozen=True)
class FlatLogits:
    """``(max_v z - mean_v z)^2``, mean over the answer tokens of the batch; 0 where all are equal.

    It does not look at which token is the right one.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The flatness of the batch."""
        logits = able(setting.family, HasAnswers).answers(setting.model, batch).values.float()
        return (logits.amax(1) - logits.mean(1)).square().mean()
