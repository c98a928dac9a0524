"""EU-k: exact unlearning of the last k blocks, which are made anew and trained on the retain set.

Goel, Prabhu, Sanyal, Lim, Torr, Kumaraguru (2022). Towards Adversarial Evaluations for Inexact
Machine Unlearning. Optimiser, schedule, length, the number of blocks and the iterate that is kept
are those of :mod:`~expunge.methods.cf_k`, which says where they are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import nn

from expunge.changes.weights import buffers_of, parameters_of, with_weights
from expunge.descent.loop import Descent
from expunge.descent.selections import LastBlocks
from expunge.methods.cf_k import FASTEST, PUBLISHED, CfK
from expunge.methods.presets import trained_on
from expunge.methods.protocol import Outcome, OverDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Problem
from expunge.recipe import Recipe
from expunge.run import Run


@dataclass(frozen=True)
class EuK(OverDescent):
    """Fresh last blocks on a prefix in evaluation mode. The prefix has still seen the forget set.

    Args:
        k: number of blocks that are made anew, counted from the output by the family's anatomy.
        epochs: passes over the retain set.
        learning_rate: of SGD at its peak; it rises for a hundredth of the steps and then falls
            along a line to a fifth.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "eu-k"
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

    @property
    def unlearns_with(self) -> Access:
        """The retain set, and the recipe for the initial weights."""
        return super().unlearns_with | Access(recipe=True)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Four passes, with a rate that goes as far in them as the published one in its ten."""
        return trained_on(self, PUBLISHED, FASTEST, problem, run)

    def descent(self) -> Descent:
        """That of CF-k."""
        same = CfK(
            self.k,
            self.epochs,
            self.learning_rate,
            self.momentum,
            self.weight_decay,
            self.batch_size,
        )
        return same.descent()

    def follow(self, descent: Descent, problem: Problem, run: Run) -> Outcome:
        """Put initial weights into the last blocks and descend from there."""
        assert problem.recipe is not None  # opened by the access
        begun = replace(problem, model=self._renewed(problem, problem.recipe, run))
        after = descent.minimise(begun, run).model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)

    def _renewed(self, problem: Problem, recipe: Recipe, run: Run) -> nn.Module:
        """The model with the initial parameters and buffers of its last blocks."""
        fresh = recipe.untrained(run)
        last, weights = LastBlocks(self.k), parameters_of(fresh)
        moving = last.select(problem.model, problem, run)
        known = last.weightless(problem.model, problem)
        owners = {name.rpartition(".")[0] for name in moving}
        owners |= {name for name, belongs in known.items() if belongs}
        tensors = {name: weights[name] for name in moving}
        tensors |= {n: b for n, b in buffers_of(fresh).items() if n.rpartition(".")[0] in owners}
        return with_weights(problem.model, tensors)
