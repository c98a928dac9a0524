"""KL minimisation: gradient ascent beside the divergence from the model at the start.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs,
where it is a baseline. Ascent has no bound; the divergence holds only what the retain rows show.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.forget_terms import Ascent
from expunge.descent.player import Term
from expunge.descent.token_distillation import ReferenceDivergence
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class KLMinimisation(TwoTerms):
    """Ascent on the forget set and the divergence from the start on the retain set.

    Args:
        retain_weight: factor of the divergence on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "kl-minimisation"
    paper: ClassVar[str] = "Maini et al. 2024, TOFU"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "forget_weight": LogUniform(0.01, 1.0),
        "retain_weight": LogUniform(0.1, 10.0),
    }

    weight_decay: float = 0.01
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """Ascent."""
        return Ascent(self.forget_weight)

    def retain(self) -> Term:
        """The divergence."""
        return ReferenceDivergence(self.retain_weight, batch_size=self.retain_batch_size)
