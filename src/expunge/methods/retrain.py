"""Retraining from the recipe on everything that is not forgotten: the oracle.

The reference that every approximate method is held against (Cao and Yang 2015, Towards Making
Systems Forget with Machine Unlearning). Exact for the part that the recipe trains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.changes.deletion import DeletionState
from expunge.changes.kinds import Replacement
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import Range
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class Retrain:
    """Make the model again without the forget set, from the recipe's own seed.

    The problem's retain set leaves out every earlier forget set too, so the new model has seen none
    of them. It takes the place of the current one.
    """

    name: ClassVar[str] = "retrain"
    paper: ClassVar[str] = (
        "Cao and Yang 2015, Towards Making Systems Forget with Machine Unlearning"
    )
    sequential: ClassVar[bool] = True
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access.to(Role.RETAIN, recipe=True)
    search: ClassVar[Mapping[str, Range]] = {}  # the recipe is not the method's to vary

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A Replacement, and the new record where the learner keeps one."""
        assert problem.recipe is not None  # opened by the access
        trained = problem.recipe.make({Role.TRAIN: problem.data[Role.RETAIN]}, run)
        new = Replacement.of(
            trained.model, problem.model, method=self.name, deletion=DeletionState.RETRAINED.value
        )
        return Outcome((new,), trained.record)
