"""When a descent is over before its last step: nothing is answered any more that is to go.

Which step that is depends on the model, the rows and the rate, so that no number of steps fits all;
the rows themselves say when it is enough. What is looked at counts among the rows that are touched.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, able
from expunge.models.modes import evaluating
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run, on_device

AT_ONCE = 256
"""Rows that a model is asked about at a time."""


@dataclass(frozen=True)
class Until:
    """End at the first step at which few forget rows are answered, and enough retain rows.

    A row is answered if each of its answer tokens is the most likely one, given those before it.

    Args:
        forgotten: share of the forget rows that may still be answered.
        kept: share of the retain rows that must be, of those that were at the start; None opens no
            retain row. A model that answered few of them from the first keeps those few.
        every: steps between two looks.
        rows: how many of either role are looked at, at most; drawn once.
    """

    forgotten: float = 0.03
    kept: float | None = 0.97
    every: int = 3
    rows: int = 128
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def __post_init__(self) -> None:
        shares = (self.forgotten, 0.0 if self.kept is None else self.kept)
        if not all(0 <= share <= 1 for share in shares) or self.every < 1 or self.rows < 1:
            raise ExpungeError(
                f"A descent was to end at shares of {self.forgotten} and {self.kept}, with "
                f"{self.rows} rows looked at every {self.every} steps; shares from 0 to 1, and at "
                "least one row and one step, are expected."
            )

    @property
    def access(self) -> Access:
        """The roles that are looked at."""
        roles = (Role.FORGET,) if self.kept is None else (Role.FORGET, Role.RETAIN)
        return Access(dict.fromkeys(roles))

    @property
    def missed(self) -> str:
        """What is not so, in words."""
        gone = f"more than {self.forgotten:g} of the forget rows were still answered"
        kept = f"fewer than {self.kept:g} of the retained that were at the start"
        return gone if self.kept is None else f"{gone}, or {kept}"

    def reached(self, problem: Problem, model: nn.Module, run: Run, name: str) -> bool:
        """Whether a model in evaluation mode is there."""
        if self._answered(Role.FORGET, problem, model, run, name) > self.forgotten:
            return False
        if self.kept is None:
            return True
        answered = self._answered(Role.RETAIN, problem, model, run, name)
        return answered >= self.kept or answered >= self.kept * self._before(problem, run, name)

    def _before(self, problem: Problem, run: Run, name: str) -> float:
        """Share of the retain rows that the model answered at the start; looked at only where fewer
        than ``kept`` of all are answered."""
        with evaluating(on_device(problem.model, run)) as start:
            return self._answered(Role.RETAIN, problem, start, run, name)

    def _answered(
        self, role: Role, problem: Problem, model: nn.Module, run: Run, name: str
    ) -> float:
        samples: Samples = problem.data[role]
        if len(samples) > self.rows:
            draws = run.generator(f"{name}/until/{role.value}")  # the same rows at each look
            samples = samples.select(torch.randperm(len(samples), generator=draws)[: self.rows])
        scorer, right = able(problem.family, HasAnswers), 0.0
        with torch.no_grad(), run.autocast():
            for raw in batches(samples, AT_ONCE):
                batch = {key: tensor.to(run.device) for key, tensor in raw.items()}
                tokens = scorer.answers(model, batch)
                misses = tokens.units((~tokens.hits()).float()).sums()
                right += float((misses == 0).sum())
        run.meter.touch(role.value, len(samples))
        return right / len(samples)
