"""DPO with refusals: prefer "I don't know" to the answer.

Rafailov, Sharma, Mitchell, Ermon, Manning, Finn (2023). Direct Preference Optimization: Your
Language Model is Secretly a Reward Model. As a baseline of unlearning (IdkDPO): Zhang, Lin, Bai,
Mei (2024). Negative Preference Optimization. One refusal for each row, drawn at the start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.player import Term
from expunge.descent.preference_terms import Preference
from expunge.descent.retain_terms import Loss
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class DPO(TwoTerms):
    """The preference for refusals on the forget set and the loss on the retain set.

    Args:
        beta: inverse temperature, of log-probabilities summed over an answer.
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "dpo"
    paper: ClassVar[str] = "Rafailov et al. 2023, Direct Preference Optimization"
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 1.0}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "beta": LogUniform(0.01, 1.0),
        "retain_weight": LogUniform(0.1, 10.0),
    }

    weight_decay: float = 0.01
    beta: float = 0.1
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """The preference."""
        return Preference(self.beta, weight=self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)
