"""IDK: learn to refuse where the answer was.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs,
where it is a baseline ("preference optimization"). A refusal is drawn for each row at every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.forget_terms import NeutralTargets
from expunge.descent.player import Term
from expunge.descent.retain_terms import Loss
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class IDK(TwoTerms):
    """The loss with neutral targets on the forget set and the loss on the retain set.

    Args:
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "idk"
    paper: ClassVar[str] = "Maini et al. 2024, TOFU"
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 1.0}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "forget_weight": LogUniform(0.1, 10.0),
        "retain_weight": LogUniform(0.1, 10.0),
    }

    weight_decay: float = 0.01
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """The loss with refusals."""
        return NeutralTargets(self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)
