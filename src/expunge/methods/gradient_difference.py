"""Gradient difference: raise the loss on the forget set while keeping it low on the retain set.

Liu, Liu, Stone (2022). Continual Learning and Private Unlearning. Known as GradDiff in the language
literature and as NegGrad+ in the vision literature (Kurmanji et al. 2023), where the two losses are
mixed with weights that add to one.

The paper fixes no defaults that would fit every model. Ours are those of GradDiff in
open-unlearning (learning rate 1e-5, weight decay 0.01, 10 epochs); the clipping norm of 1 is our
own choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.descent.transforms import ClipNorm
from expunge.descent.until import Until
from expunge.methods.language_presets import RULE, STRIDE, answering, speaks
from expunge.methods.presets import BOLD, Reach, climbed, forget_batch, passes
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

REACH = Reach(classes=0.08, rows=0.03)
"""How far the preset's descent could lead; see methods/presets.py."""


@dataclass(frozen=True)
class GradientDifference(ByDescent):
    """Ascent on the forget set, descent on the retain set, in every step.

    Args:
        epochs: passes over the forget set.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled.
        batch_size: rows of the forget set a step.
        retain_batch_size: rows of the retain set a step.
        forget_weight: factor of the forget term.
        retain_weight: factor of the retain term.
        clip: largest norm of the gradient.
        sequential: start from the current model instead of the base.
        until: ends the descent before its last epoch is over; a preset's.
    """

    name: ClassVar[str] = "gradient-difference"
    paper: ClassVar[str] = "Liu et al. 2022, Continual Learning and Private Unlearning"
    preset_stride: ClassVar[float] = STRIDE / 2  # ascent has no lower bound
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "forget_weight": LogUniform(0.01, 1.0),
    }
    preset_rule: ClassVar[str] = (
        "batches of a quarter of the forget set; of rising learning rates, each tried on "
        "the problem, the first that lifts the forget loss to twice that of guessing (where the "
        "classes stay: by 0.03 of the way there); " + RULE
    )

    epochs: int = 10
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    retain_batch_size: int = 32
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    clip: float = 1.0
    sequential: bool = False
    until: Until | None = None

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Smaller batches, at the smallest rate around :data:`REACH` that lifts the loss enough;
        for language models the rule of methods/language_presets.py."""
        if speaks(problem):
            return answering(self, problem, self.preset_stride, forget_weight=0.3)
        size = forget_batch(problem, self.batch_size)
        steps = passes(problem, Role.FORGET, self.epochs, size)
        rate, fitting = REACH.adam_rate(problem, steps), replace(self, batch_size=size)
        return climbed(fitting, rate, BOLD, problem, run)

    def descent(self) -> Descent:
        """One player, two terms."""
        return Descent(
            Player(
                forget=Ascent(self.forget_weight),
                retain=Loss(self.retain_weight, batch_size=self.retain_batch_size),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
            until=self.until,
        )
