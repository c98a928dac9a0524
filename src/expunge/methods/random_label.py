"""Random labels: learn the forget set with wrong labels, and the retain set with its own.

Graves, Nagisetty, Ganesh (2021). Amnesiac Machine Learning. In the form of Fan, Liu, Zhang, Wong,
Wei, Liu (2024). SalUn, whose baseline RL it is: each epoch passes over the forget set, with labels
drawn anew among the other classes, and then over the retain set.

Their released code draws among all classes, the row's own among them, and for data sets of many
classes shuffles both sets into one pass; this is the paper's text and its form for ten classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from expunge.descent.forget_terms import NeutralTargets
from expunge.descent.length import InTurns
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.methods.presets import Reach, until_gone
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.run import Run

REACH = Reach(classes=0.4, rows=0.1)
"""How far the preset's descent could lead; see methods/presets.py."""

RULE = (
    "4 passes; the learning rate at which the steps on the forget set could move the weights by "
    "0.4 of their norm (0.1 where the classes stay) along the gradient of neutral labels; 2 to 32 "
    "times that where a class does not go"
)


@dataclass(frozen=True)
class RandomLabel(ByDescent):
    """Passes over the forget set with neutral targets and over the retain set, in turns.

    Args:
        epochs: each is one pass over either set.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        retain_weight: factor of the loss on the retain set.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "random-label"
    paper: ClassVar[str] = "Graves et al. 2021, Amnesiac Machine Learning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 20),
    }
    preset_rule: ClassVar[str] = RULE

    epochs: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    retain_weight: float = 1.0
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, at the rate that leads as far as :data:`REACH` says, or higher where a class
        does not go."""
        return until_gone(self, REACH, problem, run)

    def descent(self) -> Descent:
        """One player, two terms in turns."""
        return Descent(
            Player(
                forget=NeutralTargets(),
                retain=Loss(self.retain_weight),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=InTurns(self.epochs),
            batch_size=self.batch_size,
        )
