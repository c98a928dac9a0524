"""Fine-tuning on the retain set: forgetting by interference alone.

Golatkar, Achille, Soatto (2020). Eternal Sunshine of the Spotless Net (as a baseline). The defaults
are those of the baseline in Lin et al. (2026), CATA: Adam at 1e-6, two epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.methods.presets import (
    PASSES,
    TRAINING,
    held_back,
    passes,
    retain_batch,
    wandering_rate,
)
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

WANDERING = 0.5
"""How far the steps of the preset lead if each has a direction of its own, as a share."""


@dataclass(frozen=True)
class FineTune(ByDescent):
    """Descent on the retain set alone.

    Args:
        epochs: passes over the retain set.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "fine-tune"
    paper: ClassVar[str] = "Golatkar et al. 2020, Eternal Sunshine of the Spotless Net"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 10),
    }
    preset_rule: ClassVar[str] = (
        "4 passes; the learning rate at which their steps, in directions of their own, move the "
        "weights by 0.5 of their norm, less where the retain rows are lost"
    )

    epochs: int = 2
    learning_rate: float = 1e-6
    weight_decay: float = 0.0
    batch_size: int = 64
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, at the rate that leads as far as :data:`WANDERING` says."""
        size = retain_batch(problem, self.batch_size)
        steps = passes(problem, Role.RETAIN, PASSES, size)
        rate = wandering_rate(problem, WANDERING, steps)
        fitting = replace(self, epochs=PASSES, batch_size=size, learning_rate=rate)
        return held_back(fitting, ("learning_rate",), problem, run, TRAINING)

    def descent(self) -> Descent:
        """One player, one term."""
        return Descent(
            Player(
                retain=Loss(),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
            ),
            length=Epochs(self.epochs, of=Role.RETAIN),
            batch_size=self.batch_size,
        )
