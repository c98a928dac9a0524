"""The best iterate of a descent, by rows that it does not learn from.

``Descent(..., keep=BestOf(Role.VALIDATION, every=50))`` ends where the score on the validation set
was largest, as in Goel, Prabhu, Torr, Kumaraguru, Sanyal (2024), Corrective Machine Unlearning. The
set must not be what the result is reported on: the score of the best of many is optimistic.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples, batches
from expunge.descent.streams import reading
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLogits, HasLoss, able
from expunge.problem import Fields, Problem
from expunge.recipe import Role
from expunge.run import Run


class Score(Protocol):
    """What the best iterate has most of."""

    @property
    def fields(self) -> Fields:
        """The fields of the role that it reads; None for all."""
        ...

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the family must have."""
        ...

    def values(self, family: Family, model: nn.Module, batch: Batch) -> Tensor:
        """A number for each row (B,) of a drawn batch; higher is better."""
        ...


@dataclass(frozen=True)
class Accuracy:
    """1 for each row whose largest logit is that of its label, else 0."""

    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)

    def values(self, family: Family, model: nn.Module, batch: Batch) -> Tensor:
        """Whether each row is answered rightly."""
        return able(family, HasLogits).logits(model, batch).argmax(1) == batch["label"]


@dataclass(frozen=True)
class LowLoss:
    """Minus the family's own loss, for families without labels."""

    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def values(self, family: Family, model: nn.Module, batch: Batch) -> Tensor:
        """Minus the mean loss of each row's units."""
        return -able(family, HasLoss).losses(model, batch).means()


@dataclass(frozen=True)
class BestOf:
    """Keep the iterate with the largest mean score; of equal ones the first.

    Scored are the ends of steps every, 2 every, ... and of the last one; not the start, which has
    forgotten nothing.

    Args:
        role: the rows that are scored.
        every: steps between two scores.
        score: what is measured.
        batch_size: rows at a time.
    """

    role: Role = Role.VALIDATION
    every: int = 1
    score: Score = field(default_factory=Accuracy)
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ExpungeError(
                f"The best iterate was to be looked for every {self.every} steps; 1 is the least."
            )

    def mean(self, problem: Problem, model: nn.Module, run: Run, name: str) -> float:
        """The mean score of a model in evaluation mode, in double precision.

        Raises:
            ExpungeError: there is no row, or the score is not a number.
        """
        samples: Samples = problem.data[self.role]
        draws, found = run.generator(f"{name}/best"), []  # the same draws at each score
        with torch.no_grad():
            for raw in batches(samples, self.batch_size):
                drawn = problem.family.draw(raw, draws)
                batch = {key: tensor.to(run.device) for key, tensor in drawn.items()}
                with run.autocast(), reading(batch):
                    values = self.score.values(problem.family, model, batch)
                found.append(values.double().cpu())
        run.meter.touch(self.role.value, len(samples))
        mean = float(torch.cat(found).mean()) if found else float("nan")
        if math.isnan(mean):
            raise ExpungeError(
                f"The score of the {len(samples)} rows of the {self.role.value} set is not a "
                "number, so no iterate is the best; give rows, or lower the learning rate."
            )
        return mean


class Best:
    """The best iterate so far: its step, its score, and the tensors of its modules."""

    def __init__(self) -> None:
        self.step, self.score = 0, float("-inf")
        self.tensors: dict[str, Tensor] = {}

    def offer(self, step: int, score: float, modules: Mapping[str, nn.Module]) -> None:
        """Take an iterate in where its score is larger."""
        if score > self.score or not self.tensors:
            self.step, self.score = step, score
            self.tensors = {
                f"{name}/{key}": tensor.clone()
                for name, module in modules.items()
                for key, tensor in module.state_dict().items()
            }

    def put_into(self, modules: Mapping[str, nn.Module]) -> None:
        """Give the modules the tensors of the best iterate."""
        for name, module in modules.items():
            start = f"{name}/"
            module.load_state_dict(
                {k[len(start) :]: t for k, t in self.tensors.items() if k.startswith(start)}
            )
