"""S3T: a row is removed by deactivating the adapter groups that saw its slice, without training.

Basu Roy Chowdhury, Choromanski, Sehanobish, Dubey, Chaturvedi (2025). Towards Scalable Exact
Machine Unlearning Using Parameter-Efficient Fine-Tuning (ICLR). Code: brcsomnath/S3T.

The learner ``ShardedSlices`` trained every shard in several orders of its slices
(learning/sharded/slices.py). A request for rows of slice q leaves of each order what came before q:
those groups, and the head that was stored then. The longest of these serves the shard. What is
served was computed without the rows, bit for bit, and the record no longer holds anything that was
computed with them. No row is read and nothing is trained, so serving goes on meanwhile.

Once the first slice of every order of every shard was hit, nothing is left: that is when the model
has to be trained again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from expunge.changes.deletion import BELOW, DELETION, STATE
from expunge.changes.kinds import Replacement
from expunge.errors import ExpungeError
from expunge.learning.sharded.ensemble import tree_of
from expunge.learning.sharded.slices import ShardedSlices
from expunge.learning.sharded.tree import SliceTree
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.retrain import Retrain
from expunge.methods.search import Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run

SCOPE = "adapters and heads, equal in every bit to those trained without these rows; the backbone"


@dataclass(frozen=True)
class S3T:
    """Removal from a model that the learner ``ShardedSlices`` trained.

    Args:
        otherwise: what answers once no order of any shard is left; without it such a request is
            refused. Its access is opened beside that of the method.
    """

    name: ClassVar[str] = "s3t"
    paper: ClassVar[str] = "Basu Roy Chowdhury et al. 2025, Towards Scalable Exact Unlearning"
    sequential: ClassVar[bool] = True
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    of_learner: ClassVar[str] = ShardedSlices.name
    search: ClassVar[Mapping[str, Range]] = {}  # there is nothing to vary: nothing is trained

    otherwise: Retrain | None = None

    @property
    def unlearns_with(self) -> Access:
        """The ids of the forget set and the record; with ``otherwise`` what that opens, too."""
        own = Access({Role.FORGET: frozenset()}, record=True)
        return own if self.otherwise is None else own | self.otherwise.unlearns_with

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A Replacement with what is left of each shard, and the record without the rest.

        The fact ``deletion`` says what happened: ``exact`` where the backbone was declared never to
        have seen the rows, ``edited, base kept`` where that is unknown, or ``retrained`` by
        ``otherwise``.

        Raises:
            ExpungeError: the record or the model is of another learner, a row is not in the record,
                or nothing is left.
            IntegrityError: the record belongs to another model.
        """
        served, tree = tree_of(problem, self.of_learner)
        left = SliceTree(tree.without(problem.data[Role.FORGET].ids))
        if left.dead:
            return self._instead(problem, artifact, run)
        new = Replacement.of(
            served.serving(left),
            problem.model,
            method=self.name,
            certified=f"{SCOPE} below them is not covered ({BELOW[left.below]})",
            slices=[list(prefix) for prefix in left.served],
            orders_left=sum(len(prefix) == 1 for _, prefix in left.nodes),
            **{DELETION: STATE[left.below].value},
        )
        return Outcome((new,), left.record)

    def _instead(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        if self.otherwise is None:
            raise ExpungeError(
                f"The request {problem.request.name!r} hits the first slice of the last order that "
                "was left in any shard, so nothing is left to serve; retrain from the recipe "
                "(method `retrain`; `s3t-or-retrain` does so by itself). Nothing was changed."
            )
        outcome = self.otherwise.unlearn(problem, artifact, run)
        [change] = outcome.changes
        assert isinstance(change, Replacement)  # that is what Retrain returns
        why = {"method": self.name, "because": "no order of any shard was left"}
        return replace(outcome, changes=(replace(change, facts={**change.facts, **why}),))


@dataclass(frozen=True)
class S3TOrRetrain(S3T):
    """S3T for as long as something is left, and then training anew from the recipe."""

    name: ClassVar[str] = "s3t-or-retrain"

    otherwise: Retrain | None = field(default_factory=Retrain)
