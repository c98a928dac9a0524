"""NPO: negative preference optimisation, gradient ascent that lets go of what is forgotten.

Zhang, Lin, Bai, Mei (2024). Negative Preference Optimization: From Catastrophic Collapse to
Effective Unlearning. Alone, with the loss on retained rows (RT), and with the divergence from the
model at the start on them (KL). Weight decay is that of their code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.player import Term
from expunge.descent.retain_terms import Loss
from expunge.descent.sequence_terms import NegativePreference
from expunge.descent.token_distillation import ReferenceDivergence
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms

PAPER = "Zhang et al. 2024, Negative Preference Optimization"
SEARCH: Mapping[str, Range] = {
    "learning_rate": LogUniform(1e-6, 1e-2),
    "epochs": WholeNumber(1, 20),
    "beta": LogUniform(0.01, 1.0),
}
BESIDE: Mapping[str, Range] = {**SEARCH, "retain_weight": LogUniform(0.1, 10.0)}


@dataclass(frozen=True)
class Preferring(TwoTerms):
    """The preference term on the forget set; a leaf says what is beside it.

    Args:
        beta: inverse temperature, of log-probabilities summed over an answer.
    """

    paper: ClassVar[str] = PAPER

    weight_decay: float = 0.01
    beta: float = 0.1

    def forget(self) -> Term:
        """The preference term."""
        return NegativePreference(self.beta, self.forget_weight)


@dataclass(frozen=True)
class NPO(Preferring):
    """The preference term on the forget set alone.

    Args:
        beta: inverse temperature, of log-probabilities summed over an answer.
    """

    name: ClassVar[str] = "npo"
    search: ClassVar[Mapping[str, Range]] = SEARCH

    def retain(self) -> None:
        """None."""


@dataclass(frozen=True)
class NPORetain(Preferring):
    """The preference term on the forget set and the loss on the retain set.

    Args:
        beta: inverse temperature, of log-probabilities summed over an answer.
        retain_weight: factor of the loss on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "npo-rt"
    search: ClassVar[Mapping[str, Range]] = BESIDE

    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)


@dataclass(frozen=True)
class NPOKL(Preferring):
    """The preference term on the forget set and the divergence from the start on the retain set.

    Args:
        beta: inverse temperature, of log-probabilities summed over an answer.
        retain_weight: factor of the divergence on the retain set (alpha).
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "npo-kl"
    search: ClassVar[Mapping[str, Range]] = BESIDE

    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def retain(self) -> Term:
        """The divergence."""
        return ReferenceDivergence(self.retain_weight, batch_size=self.retain_batch_size)
