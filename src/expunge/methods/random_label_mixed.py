"""Random labels in one pass: both sets shuffled together, as for data sets of many classes.

Graves, Nagisetty, Ganesh (2021). Amnesiac Machine Learning. In the form that the code of Fan, Liu,
Zhang, Wong, Wei, Liu (2024), SalUn, takes for CIFAR-100 and Tiny ImageNet: in each epoch every
forget row gets another label, the two sets are concatenated and shuffled, and one pass reads each
row once. Where a class has few rows, a pass over forget rows alone would be a few large steps away
from everything else.

A row is read once an epoch, so its label is drawn as it is read. Labels are drawn among the other
classes, as in :mod:`~expunge.methods.random_label`; the code draws among all.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from expunge.descent.forget_terms import MixedTargets
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import On, Parameters, Player, Trainable
from expunge.descent.sources import Pool
from expunge.methods.presets import until_gone
from expunge.methods.protocol import ByDescent
from expunge.methods.random_label import REACH
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

RULE = (
    "4 passes; the learning rate at which the forget rows among them could move the weights by 0.4 "
    "of their norm (0.1 where the classes stay) along the gradient of neutral labels; 2 to 32 "
    "times that where a class does not go"
)


@dataclass(frozen=True)
class InOnePass(ByDescent):
    """Passes over both sets together; a leaf says which weights move.

    Args:
        epochs: passes over both sets together.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step, of both sets.
        sequential: start from the current model instead of the base.
    """

    preset_rule: ClassVar[str] = RULE

    epochs: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, at the rate that leads as far as :data:`REACH` says, or higher where a class
        does not go."""
        return until_gone(self, REACH, problem, run)

    @abstractmethod
    def moving(self) -> Parameters:
        """The weights that move."""

    def descent(self) -> Descent:
        """One player, one term on the pool of both sets."""
        both = Pool((Role.FORGET, Role.RETAIN))
        return Descent(
            Player(
                others={"labels": On(both, MixedTargets())},
                parameters=self.moving(),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=Epochs(self.epochs, of=both),
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class RandomLabelMixed(InOnePass):
    """Random labels in one pass over both sets, on all weights."""

    name: ClassVar[str] = "random-label-mixed"
    paper: ClassVar[str] = "Graves et al. 2021, Amnesiac Machine Learning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 20),
    }

    def moving(self) -> Trainable:
        """All that may."""
        return Trainable()
