"""Gradient ascent with a weight for every answer token, by its present probability.

Wang, Zhou, Zhou, Shin, Han, Weinberger (2025). Rethinking LLM Unlearning Objectives: A Gradient
Perspective and Go Beyond (WGA). Yang, Wang, Huang, Liu, Zhang, Han (2025). Exploring Criteria of
Loss Reweighting to Enhance LLM Unlearning (SatImp).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, UnitLosses, able
from expunge.problem import Fields


@dataclass(frozen=True)
class TokenWeightedAscent:
    """Minus the mean over all answer tokens of ``p^saturation (1 - p)^importance`` times their
    loss, ``p = exp(-loss)``.

    The weight is held fixed in the gradient: differentiated, it could turn its sign. Over all
    tokens, long answers count more; gradient ascent by rows is
    :class:`~expunge.descent.forget_terms.Ascent`.

    Args:
        saturation: tokens that are already unlikely are pushed less, the larger it is.
        importance: tokens that are next to certain are pushed less, the larger it is; the weight is
            largest at ``p = saturation / (saturation + importance)``.

    Raises:
        ExpungeError: an exponent is below 0.
    """

    saturation: float = 1.0
    importance: float = 0.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def __post_init__(self) -> None:
        if not min(self.saturation, self.importance) >= 0:
            raise ExpungeError(
                f"The exponents of p and 1 - p are {self.saturation} and {self.importance}; two "
                "numbers of 0 or more are expected. Below 0, forgotten tokens would be pushed most."
            )

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of the batch."""
        losses = able(setting.family, HasLoss).losses(setting.model, batch)
        p = (-losses.values.detach()).exp()
        weights = p**self.saturation * (1 - p).clamp(min=0) ** self.importance
        return -UnitLosses(weights * losses.values, losses.mask).mean()
