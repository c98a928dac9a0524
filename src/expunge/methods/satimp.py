"""SatImp: gradient ascent that pushes neither tokens that are forgotten nor those that are certain.

Yang, Wang, Huang, Liu, Zhang, Han (2025). Exploring Criteria of Loss Reweighting to Enhance LLM
Unlearning. The factors are those of open-unlearning's configuration; the authors recommend them the
other way round, ``forget_weight=1.0, retain_weight=0.1``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.player import Term
from expunge.descent.retain_terms import Loss
from expunge.descent.weighted_ascent import TokenWeightedAscent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class SatImp(TwoTerms):
    """Weighted ascent on the forget set and the loss on the retain set.

    Args:
        saturation: exponent of the probability of a token (beta 1).
        importance: exponent of one minus the probability (beta 2).
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "satimp"
    paper: ClassVar[str] = "Yang et al. 2025, Exploring Criteria of Loss Reweighting"
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 30.0}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "forget_weight": LogUniform(0.01, 1.0),
        "saturation": LogUniform(0.5, 10.0),
        "importance": LogUniform(0.1, 3.0),
    }

    epochs: int = 5
    forget_weight: float = 0.1
    saturation: float = 5.0
    importance: float = 1.0
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """The weighted ascent."""
        return TokenWeightedAscent(self.saturation, self.importance, self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)
