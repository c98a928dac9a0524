"""SimNPO: negative preference without a reference, of the loss per token.

Fan, Liu, Lin, Jia, Zhang, Mei, Liu (2024). Simplicity Prevails: Rethinking Negative Preference
Optimization for LLM Unlearning. The factors are those of open-unlearning.

With ``delta`` 0 it stops pushing only where the mean loss is about ``1 / beta`` and more; nothing
ties it to the model at the start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.player import Term
from expunge.descent.retain_terms import Loss
from expunge.descent.sequence_terms import SimpleNegativePreference
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class SimNPO(TwoTerms):
    """The preference term on the forget set and the loss on the retain set.

    Args:
        beta: inverse temperature, of the mean loss of an answer's tokens.
        delta: mean loss in nats that an answer is pushed past.
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "simnpo"
    paper: ClassVar[str] = "Fan et al. 2024, Simplicity Prevails"
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 1.0}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "beta": LogUniform(0.5, 10.0),
        "forget_weight": LogUniform(0.01, 1.0),
    }

    forget_weight: float = 0.125
    beta: float = 4.5
    delta: float = 0.0
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """The preference term."""
        return SimpleNegativePreference(self.beta, self.delta, self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)
