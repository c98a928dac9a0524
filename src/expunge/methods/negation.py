"""Task negation: learn the forget set better, then go the opposite way.

Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi (2023). Editing Models with
Task Arithmetic. As used for continual unlearning by Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA:
Continual Machine Unlearning via Conflict-Averse Task Arithmetic (Section on task vectors: fine-tune
on the forget set from the base, negate, keep the largest entries).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.changes.delta import Delta
from expunge.changes.trim import trimmed
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.methods.presets import CAREFUL, Reach, climbed, forget_batch, passes
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

REACH = Reach(classes=0.2, rows=0.08)
"""How far the preset's descent could lead; see methods/presets.py."""


@dataclass(frozen=True)
class Negation(OverDescent):
    """Fine-tune on the forget set, negate the displacement, trim it.

    Args:
        epochs: passes over the forget set.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled.
        batch_size: rows a step; the paper does not state it, the task-arithmetic code has 128.
        kept: share of the entries that is kept, by magnitude over the whole vector.
    """

    name: ClassVar[str] = "negation"
    paper: ClassVar[str] = "Ilharco et al. 2023, Editing Models with Task Arithmetic"
    sequential: ClassVar[bool] = False
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 10),
        "kept": Uniform(0.05, 1.0),
    }
    preset_rule: ClassVar[str] = (
        "batches of a quarter of the forget set; of rising learning rates, each tried on "
        "the problem, the first that lifts the forget loss to that of guessing (where the "
        "classes stay: by 0.03 of the way there)"
    )

    epochs: int = 4
    learning_rate: float = 1e-5
    weight_decay: float = 0.1
    batch_size: int = 128
    kept: float = 0.3

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Smaller batches, at the smallest rate around :data:`REACH` that lifts the loss enough."""
        size = forget_batch(problem, self.batch_size)
        steps = passes(problem, Role.FORGET, self.epochs, size)
        rate, fitting = REACH.adam_rate(problem, steps), replace(self, batch_size=size)
        return climbed(fitting, rate, CAREFUL, problem, run)

    def descent(self) -> Descent:
        """Descent of the loss on the forget set: learning it better."""
        return Descent(
            Player(
                forget=Loss(),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """The trimmed, negated task vector."""
        learned = descent.minimise(problem, run).model
        vector = Delta.between(learned, problem.model, method=self.name).negated()
        return Outcome((trimmed(vector, self.kept),))
