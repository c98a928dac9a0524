"""SalUn: random labels, moving only the weights with the largest forget-loss gradient.

Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn: Empowering Machine Unlearning via Gradient-based
Weight Saliency in Both Image Classification and Generation.

The weights outside the mask keep their bits. Until 2026 the released code set only their gradient
to zero, so that weight decay moved them; published figures are of that form (``as_published``).
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
from expunge.descent.selections import Saliency
from expunge.methods.presets import until_gone
from expunge.methods.protocol import ByDescent
from expunge.methods.random_label import REACH, RULE
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber
from expunge.problem import Problem
from expunge.run import Run


@dataclass(frozen=True)
class SalUn(ByDescent):
    """:class:`~expunge.methods.random_label.RandomLabel` on the most salient weights.

    Args:
        kept: share of the weights that may move, ranked over the whole model.
        epochs: each is one pass over the forget set and one over the retain set.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        retain_weight: factor of the loss on the retain set.
        as_published: only the gradient of the other weights is masked; decay moves them.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "salun"
    paper: ClassVar[str] = "Fan et al. 2024, SalUn"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 20),
        "kept": Uniform(0.1, 1.0),
    }
    preset_rule: ClassVar[str] = RULE

    kept: float = 0.5
    epochs: int = 10
    learning_rate: float = 0.013
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    retain_weight: float = 1.0
    as_published: bool = False
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, at the rate that leads as far as :data:`REACH` says, or higher where a class
        does not go."""
        return until_gone(self, REACH, problem, run)

    def descent(self) -> Descent:
        """One player on its salient weights, two terms in turns."""
        return Descent(
            Player(
                forget=NeutralTargets(),
                retain=Loss(self.retain_weight),
                parameters=Saliency(self.kept),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
                holds=not self.as_published,
            ),
            length=InTurns(self.epochs),
            batch_size=self.batch_size,
        )
