"""SalUn-soft: random labels under a penalty on how far weights go, in the place of a mask.

Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn: Empowering Machine Unlearning via Gradient-based
Weight Saliency in Both Image Classification and Generation.

This is our reading of an idea of its appendix: after each step the displacement from the weights at
the start is soft-thresholded, and the threshold falls along a line to zero. So which weights may
move is not decided once, before the first step. The released code takes the threshold from a share
of the smallest displacements, which falls to zero, and measures them from each epoch's start.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.descent.forget_terms import NeutralTargets
from expunge.descent.length import InTurns
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.descent.proximal import SoftThreshold
from expunge.descent.retain_terms import Loss
from expunge.methods.presets import typical_gradient, until_gone
from expunge.methods.protocol import ByDescent
from expunge.methods.random_label import REACH
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.run import Run

PENALTY = 1.0
"""The preset's penalty, in units of a typical entry of the gradient of neutral labels."""


@dataclass(frozen=True)
class SalUnSoft(ByDescent):
    """:class:`~expunge.methods.random_label.RandomLabel`, each step pulled back to the start.

    Args:
        penalty: factor of the l1 norm of the displacement at the first step, in the unit of a
            gradient; the threshold is this times the learning rate. 0 is random label. No value is
            published: this one is ours.
        epochs: each is one pass over the forget set and one over the retain set.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        retain_weight: factor of the loss on the retain set.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "salun-soft"
    paper: ClassVar[str] = "Fan et al. 2024, SalUn (appendix, our reading)"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 20),
        "penalty": LogUniform(1e-5, 1.0),
    }
    preset_rule: ClassVar[str] = (
        "the rule of random-label's learning rate, in 4 passes; a penalty as large as a typical "
        "entry of the gradient of neutral labels"
    )

    penalty: float = 1e-3
    epochs: int = 10
    learning_rate: float = 0.013
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    retain_weight: float = 1.0
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, at the rate that leads as far as :data:`REACH` says without the penalty, or
        higher where a class does not go."""
        penalty = PENALTY * typical_gradient(problem, run)
        return until_gone(replace(self, penalty=penalty), REACH, problem, run)

    def descent(self) -> Descent:
        """One player, two terms in turns, and what pulls it back."""
        return Descent(
            Player(
                forget=NeutralTargets(),
                retain=Loss(self.retain_weight),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
                proximal=SoftThreshold(self.penalty),
            ),
            length=InTurns(self.epochs),
            batch_size=self.batch_size,
        )
