"""Bad-T: an untrained teacher for the forget set, the model itself for the retain set.

Chundawat, Tarun, Mandal, Kankanhalli (2023). Can Bad Teaching Induce Forgetting? Unlearning in Deep
Networks Using an Incompetent Teacher. Settings of Goel, Prabhu, Torr, Kumaraguru, Sanyal (2024),
Corrective Machine Unlearning: 1,000 iterations of 512 rows on CIFAR-10, about 10 epochs.

The divergence is averaged over the rows of a batch; released code that averages over classes too
has a learning rate that depends on their number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.descent.distillation import TwoTeachers
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, Linear
from expunge.descent.player import On, Player
from expunge.descent.sources import Pool
from expunge.methods.presets import Reach, along_neutral
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run

TEACHER = "bad teacher"
"""The name of the companion that the method makes."""


REACH = Reach(classes=1.5, rows=0.6)
"""How far the preset's descent could lead; see methods/presets.py."""


@dataclass(frozen=True)
class BadTeacher(OverDescent):
    """Distillation from two teachers over both sets, shuffled into one stream.

    Args:
        epochs: passes over both sets together.
        temperature: of the divergence.
        learning_rate: of SGD at its peak; it rises for a hundredth of the steps and then falls
            along a line to a fifth.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "bad-teacher"
    paper: ClassVar[str] = "Chundawat et al. 2023, Can Bad Teaching Induce Forgetting?"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 20),
    }
    preset_rule: ClassVar[str] = (
        "4 passes; the learning rate at which the steps on the forget set could move the weights "
        "by 1.5 of their norm (0.6 where the classes stay) along the gradient of neutral labels"
    )

    epochs: int = 10
    temperature: float = 1.0
    learning_rate: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 512
    sequential: bool = False

    @property
    def unlearns_with(self) -> Access:
        """Both sets, and the recipe for an untrained model."""
        return super().unlearns_with | Access(recipe=True)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, at the rate that leads as far as :data:`REACH` says."""
        return along_neutral(self, REACH, problem, run)

    def descent(self) -> Descent:
        """One player, one term on the pool of both sets."""
        falling = Linear(warm_up=0.01, stretch=1.25)
        both = Pool((Role.FORGET, Role.RETAIN))
        return Descent(
            Player(
                others={"teachers": On(both, TwoTeachers(TEACHER, self.temperature))},
                optimiser=SGD(
                    self.learning_rate, self.momentum, self.weight_decay, schedule=falling
                ),
            ),
            length=Epochs(self.epochs, of=both),
            batch_size=self.batch_size,
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Make the untrained teacher and descend."""
        assert problem.recipe is not None  # opened by the access
        beside = {**problem.companions, TEACHER: problem.recipe.untrained(run)}
        after = descent.minimise(replace(problem, companions=beside), run).model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)
