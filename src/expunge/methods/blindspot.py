"""Blindspot: the forget rows are taught by a model that never saw them, the retain rows as before.

Tarun, Chundawat, Mandal, Kankanhalli (2023). Deep Regression Unlearning (ICML). The teacher, a
partially exposed model, is made new and trained on the retain set for a few passes only; it says
what somebody who never saw the forget rows would answer. Defaults are those of their code for ages;
for texts the teacher takes 10 passes and the student 5.

The paper weighs the losses of both parts of a batch by their shares of it, which is the mean loss
over its rows. The student is the last iterate, as in the code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import nn

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.number_terms import OtherTeacher
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.sources import Pool
from expunge.errors import ExpungeError
from expunge.learning.supervised.plain import Plain
from expunge.methods.number_targets import batch_for, check, unusable
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Role
from expunge.run import Run

TEACHER = "partially exposed model"
"""The name of the companion that the method makes."""

TEACHER_PASSES, PASSES = 8, 5
"""Passes of the preset's teacher and student."""


@dataclass(frozen=True)
class Blindspot(OverDescent):
    """Passes over both sets together, the forget rows with the teacher's answers for targets.

    Args:
        teacher_epochs: passes of the teacher over the retain set.
        teacher_learning_rate: of its Adam.
        epochs: passes of the student over both sets together.
        learning_rate: of its Adam.
        attention: factor of the distance of the layers' maps on the forget rows; without it the
            teacher is asked once, before the first step.
        batch_size: rows a step, of teacher and student.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: a number is below its least.
    """

    name: ClassVar[str] = "blindspot"
    paper: ClassVar[str] = "Tarun et al. 2023, Deep Regression Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "epochs": WholeNumber(1, 20),
        "teacher_learning_rate": LogUniform(1e-3, 3e-2),
        "teacher_epochs": WholeNumber(1, 40),
    }
    preset_rule: ClassVar[str] = (
        "a teacher of 8 passes and 5 of the student at the published rates; batches of a 16th of "
        "the retain set, 16 to 256 rows"
    )

    teacher_epochs: int = 2
    teacher_learning_rate: float = 0.01
    epochs: int = 1
    learning_rate: float = 1e-3
    attention: float = 50.0
    batch_size: int = 256
    sequential: bool = False

    def __post_init__(self) -> None:
        counts = self.teacher_epochs, self.epochs, self.batch_size
        rates = self.teacher_learning_rate, self.learning_rate
        if min(counts) < 1 or not all(rate > 0 for rate in rates) or not self.attention >= 0:
            raise ExpungeError(
                f"{self.name} got {self.teacher_epochs} epochs of the teacher at the rate "
                f"{rates[0]:g}, {self.epochs} of the student at {rates[1]:g}, {self.batch_size} "
                f"rows a step and an attention of {self.attention:g}; at least 1 epoch of both and "
                "1 row, rates above 0 and an attention of at least 0 are expected."
            )

    @property
    def unlearns_with(self) -> Access:
        """Both sets, and the recipe for an untrained model."""
        return super().unlearns_with | Access(recipe=True)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Eight passes and five, in batches that make enough steps of a small set."""
        size = batch_for(problem, self.batch_size)
        return replace(self, teacher_epochs=TEACHER_PASSES, epochs=PASSES, batch_size=size)

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """Targets that are finite and differ."""
        return unusable(problem)

    def descent(self) -> Descent:
        """One player, one term on the pool of both sets."""
        both = Pool((Role.FORGET, Role.RETAIN))
        return Descent(
            Player(
                others={"taught": On(both, OtherTeacher(TEACHER, self.attention))},
                optimiser=AdamW(self.learning_rate),
            ),
            length=Epochs(self.epochs, of=both),
            batch_size=self.batch_size,
        )

    def teacher(self, problem: Problem, run: Run) -> nn.Module:
        """The partially exposed model: new weights, and a few passes over the retain set."""
        assert problem.recipe is not None  # opened by the access
        learner = Plain(self.teacher_epochs, self.batch_size, AdamW(self.teacher_learning_rate))
        rows = {Role.TRAIN: problem.data[Role.RETAIN]}
        return learner.fit(problem.recipe.untrained(run), problem.family, rows, run).model

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Make the teacher and descend.

        Raises:
            ExpungeError: a target is not finite, or all are the same.
        """
        check(problem)
        beside = {**problem.companions, TEACHER: self.teacher(problem, run)}
        after = descent.minimise(replace(problem, companions=beside), run).model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)
