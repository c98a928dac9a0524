"""SISA: each shard goes back to its last checkpoint before the row, and learns the rest again.

Bourtoule, Chandrasekaran, Choquette-Choo, Jia, Travers, Zhang, Lie, Papernot (2021). Machine
Unlearning (IEEE S&P). The learner ``ShardedCheckpoints`` kept a checkpoint after each slice
(learning/sharded/checkpoints.py). Where a row's slice is the q-th, the checkpoint after the slices
before it never saw the row; slices from q on are learned again without it.

Rows are placed by their ids, and all random numbers are named after shard and slices: the model
that comes out is, bit for bit, the one that the recipe makes of the rows that are left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from expunge.changes.deletion import DELETION, DeletionState
from expunge.changes.kinds import Replacement
from expunge.errors import ExpungeError
from expunge.learning.sharded.checkpoints import ShardedCheckpoints
from expunge.learning.sharded.tree import SliceTree
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.s3t import tree_of
from expunge.methods.search import Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run

SCOPE = "all that the recipe trains; the weights it starts from must be free of these rows"


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
            ExpungeError: record, model or recipe are of another learner.
            IntegrityError: the record belongs to another model.
        """
        _, tree = tree_of(problem, self.of_learner)
        recipe = problem.recipe
        assert recipe is not None  # opened by the access
        learner, seed = recipe.learner, recipe.seed
        if not isinstance(learner, ShardedCheckpoints) or learner.layout(seed) != tree.layout:
            raise ExpungeError(
                f"The record is of {tree.layout.shards} shards of {tree.layout.slices} slices with "
                f"seed {tree.layout.seed}, and the recipe has {learner} with seed {seed}; "
                "give the recipe that the model was made with."
            )
        left = SliceTree(tree.pruned(tree.slices_of(problem.data[Role.FORGET].ids)))
        trained = learner.grown(
            recipe.builder(seed),
            recipe.family,
            problem.data[Role.RETAIN],
            replace(run, seed=seed),
            {node: left.own(node) for node in left.nodes},
        )
        new = Replacement.of(
            trained.model,
            problem.model,
            method=self.name,
            certified=SCOPE,
            trained_again=len(tree.nodes) - len(left.nodes),
            **{DELETION: DeletionState.EXACT.value},
        )
        return Outcome((new,), trained.record)
