"""Boundary shrink: give forgotten rows to the class across their nearest decision boundary.

Chen, Gao, Liu, Peng, Wang (2023). Boundary Unlearning: Rapid Forgetting of Deep Networks via
Shifting the Decision Boundary. It reads the forget set alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.boundary_terms import NeighbouringLabels
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber


@dataclass(frozen=True)
class BoundaryShrink(ByDescent):
    """Descent on the forget set under the labels of perturbed rows.

    Args:
        step: of the perturbation, as a share of the range of the inputs (1 where they lie between
            0 and 1).
        epochs: passes over the forget set.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "boundary-shrink"
    paper: ClassVar[str] = "Chen et al. 2023, Boundary Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-8, 1e-1),
        "epochs": WholeNumber(1, 20),
        "step": Uniform(0.02, 0.5),
    }

    step: float = 0.1
    epochs: int = 10
    learning_rate: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    sequential: bool = False

    def descent(self) -> Descent:
        """One player, one term."""
        return Descent(
            Player(
                forget=NeighbouringLabels(self.step),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )
