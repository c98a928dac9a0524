"""Gradient ascent: raise the loss on the forget set.

Graves, Nagisetty, Ganesh (2021). Amnesiac Machine Learning, and Thudi, Deza, Chandrasekaran,
Papernot (2022). Unrolling SGD. The defaults are those of the baseline in Lin et al. (2026), CATA:
Adam at 1e-6, two epochs, gradient clipped to norm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.transforms import ClipNorm
from expunge.descent.until import Until
from expunge.methods.language_presets import answering, speaks
from expunge.methods.presets import CAREFUL, PASSES, Reach, climbed, forget_batch, passes
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

REACH = Reach(classes=0.05, rows=0.012)
"""How far the preset's descent could lead; see methods/presets.py."""


@dataclass(frozen=True)
class GradientAscent(ByDescent):
    """Ascent on the forget set alone.

    Args:
        epochs: passes over the forget set.
        learning_rate: of Adam.
        batch_size: rows a step.
        clip: largest norm of the gradient.
        sequential: start from the current model instead of the base.
        until: ends the descent before its last epoch is over; a preset's.
    """

    name: ClassVar[str] = "gradient-ascent"
    paper: ClassVar[str] = "Graves et al. 2021, Amnesiac Machine Learning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 10),
    }
    preset_rule: ClassVar[str] = (
        "4 passes, batches of a quarter of the forget set; of rising learning rates, each tried on "
        "the problem, the first that lifts the forget loss to that of guessing (where the "
        "classes stay: by 0.03 of the way there); language models: until no forgotten answer "
        "is given"
    )

    epochs: int = 2
    learning_rate: float = 1e-6
    batch_size: int = 64
    clip: float = 1.0
    sequential: bool = False
    until: Until | None = None

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, at the smallest rate around :data:`REACH` that lifts the loss enough; for
        language models the rule of methods/language_presets.py."""
        if speaks(problem):
            return answering(self, problem)
        size = forget_batch(problem, self.batch_size)
        steps = passes(problem, Role.FORGET, PASSES, size)
        rate = REACH.adam_rate(problem, steps)
        fitting = replace(self, epochs=PASSES, batch_size=size)
        return climbed(fitting, rate, CAREFUL, problem, run)

    def descent(self) -> Descent:
        """One player, one term."""
        return Descent(
            Player(forget=Ascent(), optimiser=AdamW(self.learning_rate)),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
            until=self.until,
        )
