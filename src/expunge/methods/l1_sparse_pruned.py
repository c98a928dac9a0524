"""l1-sparse, pruned: fine-tuning on the retain set while the smallest weights are taken away.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023). Model Sparsity Can Simplify Machine Unlearning.
The second form that was released: before every second of E epochs the smallest weights are pruned,
of all layers together, each time the share 1 - (1 - s)^(1/n) of those that are left, where n is
floor((E - 1) / 2) + 1. It has no penalty; "l1" is the norm by which single weights are ranked.

With an odd number of epochs the released code prunes once less and ends below s; here it ends at s.
It prunes convolutions alone, here linear layers count too. What was pruned stays 0, and each two
epochs start without momentum.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from expunge.changes.weights import parameters_of
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.learning.supervised.masks import (
    Matrices,
    all_kept,
    pruned,
    smallest_pruned,
    warn_of_emptied,
)
from expunge.methods.l1_sparse import FASTEST, PUBLISHED
from expunge.methods.presets import Grip, held_back, trained_on
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

STRETCH = 2
"""Epochs from one pruning to the next."""

PRUNING = Grip((1.0, 0.95, 0.85, 0.7, 0.5, 0.25), 0.95)
"""How the sparsity of the preset is held back where the retain rows are lost."""


@dataclass(frozen=True)
class L1SparsePruned(OverDescent):
    """Fine-tuning in stretches of two epochs, each after a pruning.

    Args:
        sparsity: share of the weights of convolutions and linear layers that are 0 in the end (s).
        epochs: passes over the retain set (E).
        learning_rate: of SGD.
        momentum: of SGD, within a stretch.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: the sparsity is not in [0, 1), or there is no epoch.
    """

    name: ClassVar[str] = "l1-sparse-pruned"
    paper: ClassVar[str] = "Jia et al. 2023, Model Sparsity Can Simplify Machine Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-3, 1e-1),
        "epochs": WholeNumber(1, 20),
        "sparsity": Uniform(0.1, 0.99),
    }
    preset_rule: ClassVar[str] = (
        "the learning rate of l1-sparse's preset, in 4 passes; the published sparsity of 0.95, "
        "less where the retain rows are lost"
    )

    sparsity: float = 0.95
    epochs: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    sequential: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1 or self.epochs < 1:
            raise ExpungeError(
                f"l1-sparse-pruned got a sparsity of {self.sparsity} after {self.epochs} epochs; a "
                "share of at least 0 and below 1, and at least one epoch, are expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes at the rate at which fine-tuning alone keeps the retain rows, and then the
        largest sparsity that does."""
        dense = trained_on(replace(self, sparsity=0.0), PUBLISHED, FASTEST, problem, run)
        sparse = replace(dense, sparsity=self.sparsity)
        return held_back(sparse, ("sparsity",), problem, run, PRUNING)

    def descent(self) -> Descent:
        """One player: the loss on the retain set, for the epochs of a stretch."""
        return Descent(
            Player(
                retain=Loss(),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=Epochs(STRETCH, of=Role.RETAIN),
            batch_size=self.batch_size,
        )

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Prune and descend, in turns."""
        model, masks = problem.model, _prunable(problem)
        beginnings = range(0, self.epochs, STRETCH)
        for count, epoch in enumerate(beginnings, start=1):
            weights = parameters_of(model)
            share = 1 - (1 - self.sparsity) ** (count / len(beginnings))
            fewer = smallest_pruned({n: weights[n].abs() for n in masks}, masks, share)
            masks = {n: mask & masks[n] for n, mask in fewer.items()}  # also if it was sparser
            part = copy.copy(descent)
            part.length = Epochs(min(STRETCH, self.epochs - epoch), of=Role.RETAIN)
            under = replace(
                problem, model=pruned(model, masks), support={**problem.support, **masks}
            )
            model = part.minimise(under, run, f"descent from epoch {epoch}").model
        warn_of_emptied(masks, run)
        return Outcome.of(model, problem.model, sequential=self.sequential, method=self.name)


def _prunable(problem: Problem) -> dict[str, Tensor]:
    """Masks of all weights that may be pruned; those that a pruned model lacks are out already.

    Raises:
        ExpungeError: there is none.
    """
    moving = {name for name, p in problem.model.named_parameters() if p.requires_grad}
    found = {n: mask for n, mask in all_kept(problem.model, Matrices()).items() if n in moving}
    if not found:
        raise ExpungeError(
            f"No weight of a convolution or linear layer of {type(problem.model).__name__} "
            "requires a gradient, so none can be pruned; let some."
        )
    return {n: mask & problem.support.get(n, mask).cpu() for n, mask in found.items()}
