"""Unlearning on a pruned model: any method, with the mask held fixed.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023). Model Sparsity Can Simplify Machine Unlearning:
prune first, then unlearn. Fewer active weights tighten the bound on how far an approximate method
ends from retraining. The default is fine-tuning for 10 epochs, as in the paper (there SGD at 0.01,
here Adam).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Change, Replacement
from expunge.errors import ExpungeError
from expunge.learning.supervised.masks import Masks, masks_of, pruned, strays
from expunge.learning.supervised.same_mask import Pruning, SameMask
from expunge.methods.fine_tune import FineTune
from expunge.methods.presets import preset_of
from expunge.methods.protocol import (
    Artifact,
    Method,
    Outcome,
    Suppresses,
    learner_of,
    preparation_of,
    unreadable,
)
from expunge.methods.search import Range
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Recipe
from expunge.run import Run


@dataclass(frozen=True)
class PruneThenUnlearn:
    """Let a method unlearn on a pruned model; weights that are exactly 0 stay exactly 0.

    The masks are those that the pruning learner kept in the record; they are the support of the
    problem that the method gets, so that no step of any of its descents regrows a weight. What a
    method does beside its descents is cut to the mask at the end, which leaves what selects or
    dampens weights as it is. Retraining is of the same sparse model, from the initial weights of
    the recipe: the reference of the paper.

    New weights bring the record along, whose masks are theirs as well; a Delta leaves it with the
    base that it starts from.

    Args:
        method: the method that unlearns. It sees what it declares; the masks are read beside it.

    Raises:
        ExpungeError: the method reads the record of a learner of its own, or changes no weight.
    """

    name: ClassVar[str] = "prune-then-unlearn"
    paper: ClassVar[str] = "Jia et al. 2023, Model Sparsity Can Simplify Machine Unlearning"
    preset_rule: ClassVar[str] = "that of the inner method"
    search: ClassVar[Mapping[str, Range]] = {}  # the inner method is tuned before it is put here

    method: Method = field(default_factory=lambda: FineTune(10, 1e-3))

    def __post_init__(self) -> None:
        if wanted := learner_of(self.method):
            raise ExpungeError(
                f"{self.method.name} was given to unlearn on a pruned model, and it reads the "
                f"training record of the learner {wanted!r}; take a method that reads no record: "
                "`expunge methods` lists them."
            )
        if isinstance(self.method, Suppresses):
            raise ExpungeError(
                f"{self.method.name} was given to unlearn on a pruned model, and it leaves the "
                "weights as they are; use it by itself."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The inner method at its preset."""
        return replace(self, method=preset_of(self.method, self._inner(problem), run))

    @property
    def needs(self) -> tuple[type, ...]:
        """What the inner method needs."""
        return self.method.needs

    @property
    def sequential(self) -> bool:
        """As the inner method."""
        return self.method.sequential

    @property
    def prepares_with(self) -> Access:
        """As the inner method."""
        return self.method.prepares_with

    @property
    def unlearns_with(self) -> Access:
        """What the inner method opens, and the record with the masks."""
        return self.method.unlearns_with | Access(record=True)

    @property
    def preparation(self) -> object:
        """That of the inner method."""
        return preparation_of(self.method)

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """That the record has no masks, and what the rows lack for the inner method."""
        try:
            masks_of(problem.record)
        except ExpungeError as error:
            return (Missing("needs the training record of a pruned model", str(error)),)
        return unreadable(self.method, problem)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """What the inner method prepares."""
        return self.method.prepare(problem, run)

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The inner method's changes, within the mask.

        Raises:
            ExpungeError: the record has no masks or those of another model, the recipe trains
                without pruning, or a change is of a kind that has no weights of its own.
        """
        inner = self._inner(problem)
        opened = inner.opened(self.method.unlearns_with)
        outcome = self.method.unlearn(opened, artifact, run)
        changes = tuple(_within(c, problem.model, inner.support) for c in outcome.changes)
        new = any(isinstance(change, Replacement) for change in changes)
        record = outcome.record or (problem.record if new else None)
        return replace(outcome, changes=changes, record=record)

    def _inner(self, problem: Problem) -> Problem:
        """The problem of the sparse model."""
        masks = masks_of(problem.record)
        _check(problem.model, masks)
        recipe = None if problem.recipe is None else _under(problem.recipe, masks)
        return replace(problem, recipe=recipe, support=masks)


def _check(model: nn.Module, masks: Masks) -> None:
    weights = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in weights or weights[name].shape != mask.shape:
            raise ExpungeError(
                f"The record holds a mask of {name!r} in the shape {tuple(mask.shape)}, which this "
                "model does not have; give the record that was made with the model."
            )
    if count := strays(model, masks):
        raise ExpungeError(
            f"{count} weights of this model are not 0 though the record's masks prune them; give "
            "the record that was made with the model, or the model as it was pruned."
        )


def _under(recipe: Recipe, masks: Masks) -> Recipe:
    """The recipe of the sparse model: an untrained model, a teacher or a fresh block is sparse."""
    learner = recipe.learner
    if not isinstance(learner, Pruning):
        raise ExpungeError(
            f"The recipe trains with {type(learner).__name__}, which prunes nothing, so the sparse "
            "model cannot be retrained with it; give the recipe of the pruned model."
        )
    return replace(
        recipe,
        builder=lambda seed: pruned(recipe.builder(seed), masks),
        learner=SameMask(learner.training, masks, learner.name),
    )


def _within(change: Change, model: nn.Module, masks: Masks) -> Change:
    if not isinstance(change, Delta | Replacement):
        raise ExpungeError(
            f"The method answered with a {type(change).__name__}, which has no weights that a mask "
            "could hold; take a method that changes weights: `expunge methods` lists them."
        )
    after = change.applied_to(model)
    if not strays(after, masks):
        return change
    if isinstance(change, Delta):
        return Delta.between(pruned(after, masks), model, **change.facts)
    cut = Replacement.of(pruned(after, masks), model)
    return replace(cut, family=change.family, builder=change.builder, facts=change.facts)
