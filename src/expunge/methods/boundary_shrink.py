"""Boundary shrink: give forgotten rows to the class across their nearest decision boundary.

Chen, Gao, Liu, Peng, Wang (2023). Boundary Unlearning: Rapid Forgetting of Deep Networks via
Shifting the Decision Boundary. It reads the forget set alone.
"""

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch

from expunge.descent.boundary_terms import NeighbouringLabels
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player, Setting
from expunge.errors import ExpungeError
from expunge.methods.presets import LOOKED_AT, Reach, climbed, forget_batch, passes
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

CROSSING, WIDEST = 0.5, 0.8
"""Share of the rows that the preset's step leads over a boundary, and the largest such step."""

REACH = Reach(classes=0.15, rows=0.03)
"""How far the preset's descent could lead; see methods/presets.py."""

RISE = Reach(classes=0.5, rows=0.03)
"""How far its loss on the forget set is to rise: rows that cross no boundary keep their labels, so
that it does not go far up."""


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
    preset_rule: ClassVar[str] = (
        "as boundary-expand, half of the way to guessing; before that the step is doubled until "
        "half of the rows cross a boundary"
    )

    step: float = 0.1
    epochs: int = 10
    learning_rate: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    sequential: bool = False

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Smaller batches, a step that leads over boundaries, and the rate of :data:`REACH`."""
        size = forget_batch(problem, self.batch_size)
        steps = passes(problem, Role.FORGET, self.epochs, size)
        rate = REACH.sgd_rate(problem, steps, self.momentum, run)
        fitting = replace(self, step=self._crossing(problem, run), batch_size=size)
        return climbed(fitting, rate, RISE, problem, run)

    def _crossing(self, problem: Problem, run: Run) -> float:
        """The smallest of the step, twice the step ... that leads half of the rows elsewhere."""
        forget = problem.data[Role.FORGET]
        rows = torch.randperm(len(forget), generator=run.generator("preset/step"))[:LOOKED_AT]
        samples = forget.select(rows)
        own = samples.batch(torch.arange(len(samples)), {"label"})["label"]
        model = copy.deepcopy(problem.model).to(run.device).eval()
        setting = Setting(problem, {"model": model}, lambda: model, run)
        step = self.step
        while 2 * step <= WIDEST:
            with suppress(ExpungeError):  # no row crosses a boundary yet
                labels = NeighbouringLabels(step).start(setting, samples)
                if float((labels != own).double().mean()) >= CROSSING:
                    break
            step *= 2
        return step

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
