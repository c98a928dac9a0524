"""LAF+R: forgetting without labels, and a head that is repaired on a few labelled rows.

Shen, Zhang, Zhao, Bialkowski, Chen, Xu (2024). Label-Agnostic Forgetting: A Supervision-Free
Unlearning in Deep Models: the semi-supervised form. How many rows, passes and at what rate is ours:
the released code makes a pass over as many retain rows as are forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import LastBlocks
from expunge.errors import ExpungeError
from expunge.families.abilities import HasEmbeddings, HasLoss
from expunge.methods.laf import LAF, ByRepresentations
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class LAFRepaired(ByRepresentations):
    """LAF, then cross-entropy on a few labelled retain rows, in the last block alone.

    Args:
        labelled: retain rows whose labels are read, drawn at random.
        target: the field that holds their label.
        repair_epochs: passes over them.
        repair_learning_rate: of Adam.
        repair_batch_size: rows a step.

    Raises:
        ExpungeError: no labelled row is asked for.
    """

    name: ClassVar[str] = "laf-repaired"
    paper: ClassVar[str] = LAF.paper
    needs: ClassVar[tuple[type, ...]] = (HasEmbeddings, HasLoss)
    search: ClassVar[Mapping[str, Range]] = {
        **LAF.search,
        "repair_learning_rate": LogUniform(1e-5, 1e-2),
        "repair_epochs": WholeNumber(1, 30),
    }
    preset_rule: ClassVar[str] = "as laf; the repair as it is"

    labelled: int = 100
    target: str = "label"
    repair_epochs: int = 10
    repair_learning_rate: float = 1e-3
    repair_batch_size: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labelled < 1:
            raise ExpungeError(
                f"{self.name} got {self.labelled} labelled rows; at least 1 is expected. `laf` "
                "does without any."
            )

    @property
    def unlearns_with(self) -> Access:
        """The inputs of both sets, and labels of the retain set, of which ``labelled`` are read."""
        return self.unlabelled().access | self.repair().access

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """These fields at the reach of LAF's preset; no label is read for it."""
        return self.at_reach(problem.opened(self._without_labels(problem)))

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Where the repair ends.

        Raises:
            IntegrityError: the artifact was prepared on another model or with other fields.
        """
        shut = problem.opened(self.unlabelled().access)
        after = self.extracted(shut, artifact, run)
        retain = problem.data[Role.RETAIN]
        drawn = torch.randperm(len(retain), generator=run.generator("laf-repaired/rows"))
        few = {Role.RETAIN: retain.select(drawn[: self.labelled])}
        shown = replace(problem, model=after, data=few)
        repaired = self.repair().minimise(shown, run, name="repair").model
        return Outcome.of(repaired, problem.model, sequential=self.sequential, method=self.name)

    def repair(self) -> Descent:
        """One player on the head."""
        return Descent(
            Player(
                retain=Loss(fields=frozenset({*self.inputs, self.target})),
                parameters=LastBlocks(1),
                optimiser=AdamW(self.repair_learning_rate),
            ),
            length=Epochs(self.repair_epochs, of=Role.RETAIN),
            batch_size=self.repair_batch_size,
        )

    def _without_labels(self, problem: Problem) -> Access:
        """What the steps without labels read, and the numbers of rows that the problem has."""
        counted = dict.fromkeys(problem.data, frozenset[str]())
        return self.unlabelled().access | Access(counted)
