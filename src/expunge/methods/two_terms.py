"""Methods that minimise a term on forget rows, and mostly one on retain rows beside it.

Most losses for language models are of this form, ``gamma L_f + alpha L_r``. What they share here
are the defaults of open-unlearning, which compares them: AdamW at 1e-5, batches of 32, 10 epochs,
the rate rising over the first and falling in a line to zero after it, gradients clipped to norm 1.
Each step reads as many retain rows as forget rows, where nothing else is said.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW, Linear
from expunge.descent.player import Player, Term
from expunge.descent.transforms import ClipNorm
from expunge.descent.until import Until
from expunge.methods.language_presets import RULE, STRIDE, answering, speaks
from expunge.methods.protocol import ByDescent
from expunge.problem import Problem
from expunge.run import Run


@dataclass(frozen=True)
class TwoTerms(ByDescent):
    """One player; a leaf gives its terms.

    Args:
        epochs: passes over the forget set.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW, decoupled.
        batch_size: rows of the forget set a step.
        warm_up: epochs over which the rate rises to its peak.
        clip: largest norm of the gradient.
        forget_weight: factor of the forget term (gamma).
        sequential: start from the current model instead of the base.
        until: ends the descent before its last epoch is over; a preset's.
    """

    preset_rule: ClassVar[str] = RULE
    preset_weights: ClassVar[Mapping[str, float]] = {"forget_weight": 0.1}
    """The weights of the preset for language models."""
    preset_stride: ClassVar[float] = STRIDE
    """How far its steps lead; see methods/language_presets.py."""

    epochs: int = 10
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    batch_size: int = 32
    warm_up: float = 1.0
    clip: float = 1.0
    forget_weight: float = 1.0
    sequential: bool = False
    until: Until | None = None

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The rule for language models; for others the published fields, which nobody has yet
        found better ones than."""
        if not speaks(problem):
            return self
        return answering(self, problem, self.preset_stride, **self.preset_weights)

    @abstractmethod
    def forget(self) -> Term:
        """The term on the forget set."""

    @abstractmethod
    def retain(self) -> Term | None:
        """The term on the retain set, which is not opened where its weight is 0."""

    def descent(self) -> Descent:
        """One player, both terms in every step."""
        rising = min(1.0, self.warm_up / max(1, self.epochs))
        schedule = Linear(rising, 1 - rising)
        return Descent(
            Player(
                forget=self.forget(),
                retain=self.retain(),
                optimiser=AdamW(
                    self.learning_rate, weight_decay=self.weight_decay, schedule=schedule
                ),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
            until=self.until,
        )
