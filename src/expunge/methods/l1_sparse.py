"""l1-sparse: fine-tuning on the retain set under a penalty on the magnitude of the weights.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023). Model Sparsity Can Simplify Machine Unlearning.

The penalty falls over the epochs, gamma (1 - t / (E - E0)) in epoch t = 0, 1, ..., so that with
E0 = 0 the last epoch still has gamma / E. Nothing is pruned afterwards, as in the released form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, Stairs
from expunge.descent.penalties import L1Norm
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.descent.sources import NoRows
from expunge.errors import ExpungeError
from expunge.methods.presets import PASSES, trained_on
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

PUBLISHED, FASTEST = 1760, 0.03
"""Steps of the published setting, on the 45,000 rows of CIFAR-10; the largest rate of a preset."""


@dataclass(frozen=True)
class L1Sparse(ByDescent):
    """Fine-tuning towards few weights.

    Args:
        gamma: factor of the l1 norm of all parameters in the first epoch.
        epochs: passes over the retain set (E).
        free_epochs: the last of them, without penalty (E0), fewer than ``epochs``.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: gamma is negative, or every epoch is free of the penalty.
    """

    name: ClassVar[str] = "l1-sparse"
    paper: ClassVar[str] = "Jia et al. 2023, Model Sparsity Can Simplify Machine Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": WholeNumber(1, 20),
        "gamma": LogUniform(1e-5, 1e-2),
    }
    preset_rule: ClassVar[str] = (
        "4 passes; the learning rate that leads as far in their steps as the published one in its "
        "1,760, 0.03 at most, less where the retain rows are lost"
    )

    gamma: float = 1e-3
    epochs: int = 10
    free_epochs: int = 0
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.gamma < 0 or not 0 <= self.free_epochs < self.epochs:
            raise ExpungeError(
                f"l1-sparse got gamma {self.gamma} and {self.free_epochs} of {self.epochs} epochs "
                "without penalty; a gamma of at least 0 and fewer free epochs than epochs are "
                "expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, with a rate that goes as far in them as the published one in its ten."""
        shorter = replace(self, free_epochs=min(self.free_epochs, PASSES - 1), epochs=PASSES)
        return trained_on(shorter, PUBLISHED, FASTEST, problem, run)

    def descent(self) -> Descent:
        """One player: the loss on the retain set, and a penalty that reads no rows."""
        fading = L1Norm(self.gamma, Stairs(self.epochs, self.free_epochs))
        return Descent(
            Player(
                retain=Loss(),
                others={"l1": On(NoRows(), fading)},
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=Epochs(self.epochs, of=Role.RETAIN),
            batch_size=self.batch_size,
        )
