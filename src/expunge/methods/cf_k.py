"""CF-k: catastrophic forgetting in the last k blocks, by fine-tuning them on the retain set.

Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru (2022). Towards Adversarial Evaluations for Inexact
Machine Unlearning. Optimiser, schedule and length of Goel, Prabhu, Torr, Kumaraguru, Sanyal (2024),
Corrective Machine Unlearning: 1,000 iterations of 512 rows on CIFAR-10, of which whole passes over
45,000 rows make 880. Ours: two blocks where they take all by default, and the last iterate, since
they keep the one that is best on held-out rows, which no method sees here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, Linear
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import LastBlocks
from expunge.methods.presets import trained_on
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

PUBLISHED, FASTEST = 880, 0.1
"""Steps of the published setting, on the 45,000 rows of CIFAR-10; the largest rate of a preset."""


@dataclass(frozen=True)
class CfK(ByDescent):
    """Descent on the retain set in the last blocks; what lies before them is in evaluation mode.

    Args:
        k: number of blocks that train, counted from the output by the family's anatomy.
        epochs: passes over the retain set.
        learning_rate: of SGD at its peak; it rises for a hundredth of the steps and then falls
            along a line to a fifth.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "cf-k"
    paper: ClassVar[str] = (
        "Goel et al. 2022, Towards Adversarial Evaluations for Inexact Machine Unlearning"
    )
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 20),
    }
    preset_rule: ClassVar[str] = (
        "4 passes; the learning rate that leads as far in their steps as the published one in its "
        "880, 0.1 at most, less where the retain rows are lost"
    )

    k: int = 2
    epochs: int = 10
    learning_rate: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 512
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, with a rate that goes as far in them as the published one in its ten."""
        return trained_on(self, PUBLISHED, FASTEST, problem, run)

    def descent(self) -> Descent:
        """One player on the last blocks."""
        falling = Linear(warm_up=0.01, stretch=1.25)
        return Descent(
            Player(
                retain=Loss(),
                parameters=LastBlocks(self.k),
                optimiser=SGD(
                    self.learning_rate, self.momentum, self.weight_decay, schedule=falling
                ),
            ),
            length=Epochs(self.epochs, of=Role.RETAIN),
            batch_size=self.batch_size,
        )
