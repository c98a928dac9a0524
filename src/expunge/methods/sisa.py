"""SISA: each shard goes back to its last checkpoint before the row, and learns the rest again.

Bourtoule, Chandrasekaran, Choquette-Choo, Jia, Travers, Zhang, Lie, Papernot (2021). Machine
Unlearning (IEEE S&P). The learner ``ShardedCheckpoints`` kept a checkpoint after each slice
(learning/sharded/checkpoints.py). Where a row's slice is the q-th, the checkpoint after the slices
before it never saw the row; slices from q on are learned again without it.

Rows are placed by their ids, and all random numbers are named after shard and slices: the model
that comes out is, bit for bit, the one that the recipe makes of the rows that are left. For that
the recipe and the rows have to be those of the record, which holds every field of the learner, the
digest of what training starts from, and one of every id. What lies below, the weights that training
starts from, is not covered; the learner was told whether they ever saw the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from expunge.changes.deletion import BELOW, DELETION, STATE
from expunge.changes.kinds import Replacement
from expunge.errors import ExpungeError
from expunge.learning.sharded.checkpoints import ShardedCheckpoints
from expunge.learning.sharded.ensemble import tree_of
from expunge.learning.sharded.tree import SliceTree, rows_of
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import Range
from expunge.problem import Access, Problem
from expunge.recipe import Recipe, Role
from expunge.run import Run

SCOPE = "all that the recipe trains, equal in every bit to a training without these rows"


@dataclass(frozen=True)
class SISA:
    """Removal from a model that the learner ``ShardedCheckpoints`` trained."""

    name: ClassVar[str] = "sisa"
    paper: ClassVar[str] = "Bourtoule et al. 2021, Machine Unlearning"
    sequential: ClassVar[bool] = True
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access(
        {Role.FORGET: frozenset(), Role.RETAIN: None}, recipe=True, record=True
    )
    of_learner: ClassVar[str] = ShardedCheckpoints.name
    search: ClassVar[Mapping[str, Range]] = {}  # the recipe is not the method's to vary

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A Replacement, and the record with the new checkpoints in the place of the old.

        Raises:
            ExpungeError: record, model or recipe are of another learner, the recipe or the rows
                that are left are not those of the record, or a row to remove is not in it.
            IntegrityError: the record belongs to another model.
        """
        _, tree = tree_of(problem, self.of_learner)
        recipe = problem.recipe
        assert recipe is not None  # opened by the access
        start = recipe.builder(recipe.seed)
        learner = _learner_of(recipe, start, tree)
        left = SliceTree(tree.without(problem.data[Role.FORGET].ids))
        _check_rows(problem.data[Role.RETAIN].ids, left)
        trained = learner.grown(
            start,
            recipe.family,
            problem.data[Role.RETAIN],
            replace(run, seed=recipe.seed),
            {node: left.own(node) for node in left.nodes},
        )
        new = Replacement.of(
            trained.model,
            problem.model,
            method=self.name,
            certified=f"{SCOPE}; the weights it starts from are not covered ({BELOW[left.below]})",
            trained_again=len(tree.nodes) - len(left.nodes),
            **{DELETION: STATE[left.below].value},
        )
        return Outcome((new,), trained.record)


def _learner_of(recipe: Recipe, start: nn.Module, tree: SliceTree) -> ShardedCheckpoints:
    """The learner of the recipe, known to be that of the record.

    Raises:
        ExpungeError: learner, seed or untrained model are another.
    """
    learner = recipe.learner
    if not isinstance(learner, ShardedCheckpoints):
        raise ExpungeError(
            f"The record is of the learner {tree.learner!r}, and the recipe has {learner}; give "
            "the recipe that the model was made with."
        )
    given = {**learner.told(start), "seed": recipe.seed}
    made = tree.record.facts
    if other := [name for name in given if name not in made or made[name] != given[name]]:
        differ = "; ".join(
            f"{name}: {given[name]} was given, {made.get(name, 'a record that says it')} is "
            "expected"
            for name in other
        )
        raise ExpungeError(
            f"The recipe is not the one of the record ({differ}). What was kept and what would be "
            "learned again would be of two trainings; give the recipe that the model was made "
            "with (`start` is the digest of its untrained model)."
        )
    return learner


def _check_rows(retain: Sequence[str], left: SliceTree) -> None:
    """Refuse other rows than those that the record has left: what is kept was learned from these.

    Raises:
        ExpungeError: there are others.
    """
    given, kept = (set(rows.ids.tolist()) for rows in (rows_of(retain), left.rows))
    if given != kept:
        raise ExpungeError(
            f"Of the {len(given)} retained rows the record lacks {len(given - kept)}, and it has "
            f"{len(kept - given)} that are neither retained nor to be removed, such as rows that a "
            "guard answers for; the retained rows must be those of the record. Withdraw the "
            "requests that left it as it was, or retrain."
        )
