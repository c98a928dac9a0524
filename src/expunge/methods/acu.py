"""ACU: rows or classes taken from a ridge head as if they had never been learned.

Tang, Zhuang, Fang, Li, Han, Huang, Fan, Wang, Zhu, Zhang, Song, Liu (2025). ACU: Analytic Continual
Unlearning for Efficient and Exact Forgetting with Privacy Preservation.

The head was learned by :class:`~expunge.learning.supervised.ridge_head.RidgeHead`, whose record
says how it moves: by the paper's recursion, or from exact sums. No retained row is read. What comes
back is the head that learning from the other rows gives, in every bit before it is rounded to the
type of its layer where it was solved from the sums, and to the stated distance where the recursion
moved it; and the record without the rows, ready for the next request.

What is exact is the head on FIXED features. The layers below are as they were: where they were
trained on the rows, they hold them, and the deletion state says "edited".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from expunge.changes.deletion import BELOW, DELETION, STATE
from expunge.changes.kinds import Replacement
from expunge.families.abilities import HasLogits
from expunge.families.heads import head_of
from expunge.learning.supervised.last_layer import check_head
from expunge.learning.supervised.ridge import Solved
from expunge.learning.supervised.ridge_head import RidgeHead, RidgeRecord, kept_by
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class ACU:
    """Removal from a head that the learner ``RidgeHead`` trained. It has no field: ridge, solver
    and guards are the learner's, and the record names them."""

    name: ClassVar[str] = "acu"
    paper: ClassVar[str] = "Tang et al. 2025, ACU: Analytic Continual Unlearning"
    sequential: ClassVar[bool] = True
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET, record=True)
    of_learner: ClassVar[str] = RidgeHead.name
    search: ClassVar[Mapping[str, Range]] = {}  # what is exact is not tuned

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The head without the rows, its certificate in the facts, and the record without them.

        Raises:
            IntegrityError: the record belongs to another head.
            ExpungeError: the record is of no ridge head, a row is not in it, or the rows that would
                be left tell no head.
        """
        learner, kept = RidgeHead.of(problem.record), kept_by(problem.record)
        check_head(problem.model, kept.solved.head)
        rows = problem.data[Role.FORGET]
        left = learner.moved(kept, problem.model, problem.family, rows, run, -1)
        run.meter.touch(Role.FORGET.value, len(rows))
        trained = learner.trained(problem.model, left)
        facts: dict[str, object] = {
            "method": self.name,
            DELETION: STATE[learner.below].value,
            "certified": scope(problem.model, learner, left),
            "solver": learner.solver.name,
            "rows": len(left.rows),
        }
        new = replace(Replacement.of(trained.model, problem.model), facts=facts)
        return Outcome((new,), trained.record)


def scope(model: nn.Module, learner: RidgeHead, left: RidgeRecord) -> str:
    """What a certificate of this removal covers, how far, and what it leaves out."""
    return (
        f"the last linear layer ({head_of(model)[0]}) on fixed features, equal "
        f"{equality(left.solved)} to one learned from the {len(left.rows):,} rows left; the layers "
        f"below it are not covered ({BELOW[learner.below]})"
    )


def equality(solved: Solved) -> str:
    """How equal a head is to that of a training without the rows."""
    if solved.drift is not None:
        return f"to about {solved.drift:.0e} of its norm"
    return "in every bit" + (f" (solved anew: {solved.why})" if solved.why else "")
