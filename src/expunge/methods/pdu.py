"""PDU: forgetting under a bound on the retain loss, by primal and dual steps.

Entesari, Hatami, Khaziev, Ramakrishna, Fazlyab (2025). Constrained Entropic Unlearning: A
Primal-Dual Framework for Large Language Models. The logits of forget rows are made flat; what that
costs on retain rows has a price, which rises until the bound is kept. Defaults are those of the
method in open-unlearning. There the bound has to be given, and the price has no upper end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.flat_logits import FlatLogits
from expunge.descent.multipliers import BoundedLoss
from expunge.descent.player import Term
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.methods.two_terms import TwoTerms


@dataclass(frozen=True)
class PDU(TwoTerms):
    """Flat logits on the forget set, a bounded loss on the retain set.

    Args:
        retain_bound: largest retain loss in nats that is accepted; None for 1.05 times that of the
            model at the start, plus 0.01 (OUR READING).
        retain_weight: the price at the start; 50 to 100 is recommended.
        dual_rate: step of the price, by the excess of a batch.
        dual_warm_up: passes over the forget set before the price moves.
        largest_weight: above which the price does not rise.
        retain_batch_size: rows of the retain set a step.
    """

    name: ClassVar[str] = "pdu"
    paper: ClassVar[str] = "Entesari et al. 2025, Constrained Entropic Unlearning"
    preset_weights: ClassVar[Mapping[str, float]] = {}
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "retain_weight": LogUniform(1.0, 200.0),
        "dual_rate": LogUniform(0.01, 100.0),
    }

    retain_bound: float | None = None
    retain_weight: float = 50.0
    dual_rate: float = 1.0
    dual_warm_up: int = 5
    largest_weight: float = 1000.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """Flat logits."""
        return FlatLogits(self.forget_weight)

    def retain(self) -> Term:
        """The bounded loss."""
        return BoundedLoss(
            self.retain_bound,
            multiplier=self.retain_weight,
            dual_rate=self.dual_rate,
            waiting=min(1.0, self.dual_warm_up / self.epochs),
            largest=self.largest_weight,
            batch_size=self.retain_batch_size,
        )
