"""Gaussian amnesiac: learn random numbers for the forget rows, and the retain rows' own.

Tarun, Chundawat, Mandal, Kankanhalli (2023). Deep Regression Unlearning (ICML), Gaussian
fine-tuning: random labels (Graves, Nagisetty, Ganesh 2021) for targets that are numbers. The
defaults are those of their code for ages; for texts it takes 5 epochs.

The numbers are drawn with the mean and spread of ALL targets, so the forget rows are led to the
global mean, wherever a model that never saw them would be: past it on a tail of the targets, where
that model extrapolates, and short of it elsewhere (docs/regression.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.number_terms import DrawnNumbers
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.sources import Pool
from expunge.errors import ExpungeError
from expunge.methods.number_targets import batch_for, check, unusable
from expunge.methods.protocol import ByDescent, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Missing, Problem
from expunge.recipe import Role
from expunge.run import Run

PASSES = 5
"""Passes of the preset: the paper's for texts."""


@dataclass(frozen=True)
class GaussianAmnesiac(ByDescent):
    """Passes over both sets together, the forget rows with targets drawn once.

    Args:
        epochs: passes over both sets together.
        learning_rate: of Adam.
        batch_size: rows a step, of both sets.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: a number is below its least.
    """

    name: ClassVar[str] = "gaussian-amnesiac"
    paper: ClassVar[str] = "Tarun et al. 2023, Deep Regression Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-2),
        "epochs": WholeNumber(1, 20),
    }
    preset_rule: ClassVar[str] = (
        "5 passes at the published rate; batches of a 16th of the retain set, 16 to 256 rows"
    )

    epochs: int = 1
    learning_rate: float = 1e-3
    batch_size: int = 256
    sequential: bool = False

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or not self.learning_rate > 0:
            raise ExpungeError(
                f"{self.name} got {self.epochs} epochs of {self.batch_size} rows a step at the "
                f"rate {self.learning_rate:g}; at least 1 of both and a rate above 0 are expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Five passes, in batches that make enough steps of a small set."""
        return replace(self, epochs=PASSES, batch_size=batch_for(problem, self.batch_size))

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """Targets that are finite and differ."""
        return unusable(problem)

    def descent(self) -> Descent:
        """One player, one term on the pool of both sets."""
        both = Pool((Role.FORGET, Role.RETAIN))
        return Descent(
            Player(others={"drawn": On(both, DrawnNumbers())}, optimiser=AdamW(self.learning_rate)),
            length=Epochs(self.epochs, of=both),
            batch_size=self.batch_size,
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Descend.

        Raises:
            ExpungeError: a target is not finite, or all are the same.
        """
        check(problem)
        return super().follow(descent, problem, run)
