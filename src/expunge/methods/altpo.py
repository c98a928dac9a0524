"""AltPO: prefer plausible wrong answers, which the model itself gives, to the true one.

Mekala, Dorna, Dubey, Lalwani, Koleczek, Rungta, Hasan, Lobo (2024). Alternate Preference
Optimization for Unlearning Factual Knowledge in Large Language Models. The range of what is tuned
is that of the authors' page in open-unlearning. How the answers are sampled from models that follow
no instructions is OUR READING (descent/alternatives.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.alternatives import Sampled
from expunge.descent.player import Term
from expunge.descent.preference_terms import Preference
from expunge.descent.retain_terms import Loss
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class AltPO(TwoTerms):
    """The preference for sampled answers on the forget set and the loss on the retain set.

    Args:
        beta: inverse temperature, of log-probabilities summed over an answer.
        count: answers sampled for each row; a step draws one of them.
        temperature: of the sampling.
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "altpo"
    paper: ClassVar[str] = "Mekala et al. 2024, Alternate Preference Optimization"
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 0.1, "temperature": 0.3}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "beta": LogUniform(0.05, 0.5),
        "temperature": LogUniform(0.1, 1.0),
        "retain_weight": LogUniform(0.1, 10.0),
    }

    beta: float = 0.1
    count: int = 5
    temperature: float = 1.0
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """The preference."""
        return Preference(self.beta, Sampled(self.count, self.temperature), self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)
