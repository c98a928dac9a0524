"""UNDIAL: learn the distribution that the model had, with the logit of the answer lowered.

Dong, Lin, Belkin, Huerta, Vulić (2024). UNDIAL: Self-Distillation with Adjusted Logits for Robust
Unlearning in Large Language Models. It reads no retain rows unless ``retain_weight`` is above 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.player import Term
from expunge.descent.retain_terms import Loss
from expunge.descent.token_distillation import LoweredTarget
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class UNDIAL(TwoTerms):
    """Distillation to the lowered target on the forget set.

    Args:
        beta: what is taken from the logit of the answer; the paper tries 3 to 30.
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "undial"
    paper: ClassVar[str] = "Dong et al. 2024, UNDIAL"
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 1.0}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "beta": LogUniform(3.0, 30.0),
    }

    learning_rate: float = 1e-4
    batch_size: int = 16
    beta: float = 10.0
    retain_weight: float = 0.0
    retain_batch_size: int = 16

    def forget(self) -> Term:
        """The distillation."""
        return LoweredTarget(self.beta, self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)
