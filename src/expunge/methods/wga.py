"""WGA: gradient ascent that pushes each token by its present probability.

Wang, Zhou, Zhou, Shin, Han, Weinberger (2025). Rethinking LLM Unlearning Objectives: A Gradient
Perspective and Go Beyond.
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
class WGA(TwoTerms):
    """Weighted ascent on the forget set and the loss on the retain set.

    Args:
        beta: exponent of the probability of a token.
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "wga"
    paper: ClassVar[str] = "Wang et al. 2025, Rethinking LLM Unlearning Objectives"
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 1.0}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "beta": LogUniform(0.1, 10.0),
        "retain_weight": LogUniform(0.1, 10.0),
    }

    epochs: int = 5
    batch_size: int = 16
    beta: float = 1.0
    retain_weight: float = 1.0
    retain_batch_size: int = 16

    def forget(self) -> Term:
        """The weighted ascent."""
        return TokenWeightedAscent(self.beta, weight=self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)
