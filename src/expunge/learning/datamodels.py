"""Datamodels: what each training row adds to a model's outputs, from many models on half the rows.

Ilyas, Park, Engstrom, Leclerc, Madry (2022). Datamodels: Predicting Predictions from Training Data:
the outputs on a row are taken for a linear function of which rows were trained on. The estimates
are the difference of means (Feldman, Zhang 2020, What Neural Networks Memorize and Why) and ridge
regression. The sign is that of presence: what a row ADDS.

What is kept are the answers of the models, not the attributions: an estimate is a weighted sum over
models, so that the effect of any set of rows is found in one pass over the answers. It is the
effect at half the data; at all of it rows matter less, and
:class:`~expunge.learning.attribution.LeaveOuts` measures by how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import HasOutputs
from expunge.learning.attribution import answers, places, population_of
from expunge.learning.population import Engine, halves, members
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.storage import Bundle


@dataclass(frozen=True)
class DifferenceOfMeans:
    """Mean output of the models that were trained on a row, less that of the others."""

    def weights(self, member: Tensor, rows: Sequence[int]) -> Tensor:
        """What each model's output counts in the effect of all ``rows`` together, float64 (M,).

        Args:
            member: who was trained on what, bool (M, n).
            rows: positions.

        Raises:
            ExpungeError: a row was in every model, or in none.
        """
        inside = member[:, list(rows)].double()
        counts = inside.sum(0)
        if bool(((counts == 0) | (counts == len(member))).any()):
            raise ExpungeError(
                f"A row is in all of the {len(member)} models or in none; models with it and "
                "without it are expected. Train more of them on halves of the rows."
            )
        return (inside / counts - (1 - inside) / (len(member) - counts)).sum(1)


@dataclass(frozen=True)
class Ridge:
    """Least squares on which rows each model was trained on, with an intercept, and a penalty.

    Args:
        penalty: on the squares of the effects, as a share of the variance of being in times the
            number of models. The paper names none; effects shrink by about 1 / (1 + penalty).
    """

    penalty: float = 0.1

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise ExpungeError(
                f"A ridge penalty of {self.penalty:g} was given; a number above 0 is expected: "
                "halves of the rows all have the same size, so that there is no unique solution."
            )

    def weights(self, member: Tensor, rows: Sequence[int]) -> Tensor:
        """As for :class:`DifferenceOfMeans`."""
        inside = member.double()
        centred = inside - inside.mean(0)
        gram = centred.T @ centred
        gram += self.penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        wanted = torch.zeros(len(gram), 1, dtype=torch.float64)
        wanted[list(rows)] = 1.0
        found: Tensor = centred @ torch.linalg.solve(gram, wanted).squeeze(1)
        return found


@dataclass(frozen=True)
class HalfDataModels:
    """Attribution by models that are trained on halves of the rows.

    Args:
        models: M, an even number; the paper takes 1,000 to 20,000.
        estimate: :class:`DifferenceOfMeans` or :class:`Ridge`.
        engine: how they are trained; the fastest by a timed probe by default, which gives the same
            up to rounding.
    """

    models: int = 1000
    estimate: DifferenceOfMeans | Ridge = field(default_factory=DifferenceOfMeans)
    engine: Engine | None = None

    prepares_with: ClassVar[Access] = Access.to(Role.TRAIN, recipe=True)
    needs: ClassVar[tuple[type, ...]] = (HasOutputs,)

    @property
    def preparation(self) -> object:
        """What the kept answers depend on: not the estimate."""
        return type(self).__name__, self.models, self.engine

    def prepare(self, problem: Problem, run: Run) -> Bundle:
        """The answers of all models on all training rows.

        Raises:
            ExpungeError: the models cannot be trained.
        """
        train = problem.data[Role.TRAIN]
        population = population_of(problem, run)
        first = int(torch.randint(2**31, (), generator=run.generator("datamodels/seed")))
        member = halves(self.models, len(train), first)
        run.meter.touch(Role.TRAIN.value, self.models * len(train) // 2)
        wanted = members(member, first)
        answered = dict(answers(population, wanted, train, self.engine))
        return kept_answers(member, torch.stack([answered[one] for one in wanted]), train.ids)

    def presence(
        self, artifact: Bundle, problem: Problem, rows: Sequence[str], asked: Samples, run: Run
    ) -> Tensor:
        """What the training rows of these ids together add to the outputs on ``asked`` (n, ...).

        Raises:
            ExpungeError: a row was not among those that the models were trained on.
        """
        known, own = places(artifact, rows), places(artifact, asked.ids)
        weights = self.estimate.weights(artifact.tensors["member"], known)
        outputs = artifact.tensors["outputs"][:, own]
        added: Tensor = torch.tensordot(weights.to(outputs.dtype), outputs, dims=1)
        return added


def kept_answers(member: Tensor, outputs: Tensor, ids: Sequence[str]) -> Bundle:
    """What :class:`HalfDataModels` prepares, from answers that are there.

    Args:
        member: who was trained on what, bool (M, n).
        outputs: answers (M, n, ...) of every model on every row.
        ids: of the rows.

    Raises:
        ExpungeError: the numbers of models or rows differ.
    """
    if member.shape != outputs.shape[:2] or member.shape[1] != len(ids):
        raise ExpungeError(
            f"Answers of shape {tuple(outputs.shape)} were given for {tuple(member.shape)} models "
            f"and rows with {len(ids)} ids; (models, rows, ...) is expected."
        )
    return Bundle({"member": member, "outputs": outputs}, {"ids": list(ids)})
