"""TRAK: attribution from gradients at one model, or at a few.

Park, Georgiev, Ilyas, Leclerc, Madry (2023). TRAK: Attributing Model Behavior at Scale; see
signals/attribution.py. With one model, the one at hand, no recipe is needed. Its scale is that of a
logistic regression on gradients, which a network is not: fit the factor on real leave-outs where
there is a recipe.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.changes.weights import load_stored, stored_tensors
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import HasMargins, HasOutputs
from expunge.learning.attribution import places
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.attribution import MarginFeatures, Projection, derivative_along
from expunge.storage import Bundle


@dataclass(frozen=True)
class Trak:
    """Attribution by projected gradients of margins, un-normalised.

    Args:
        dimensions: of the projection; the paper takes 2,048 or more, for 50,000 rows.
        damping: lambda, added to the diagonal of the Gram matrix; needed where there are fewer rows
            than dimensions.
        further_models: trained from the recipe with other seeds, over which, with the model at
            hand, is averaged.
    """

    dimensions: int = 2048
    damping: float = 0.0
    further_models: int = 0

    needs: ClassVar[tuple[type, ...]] = (HasMargins, HasOutputs)

    def __post_init__(self) -> None:
        if self.dimensions < 1 or self.damping < 0 or self.further_models < 0:
            raise ExpungeError(
                f"TRAK got {self}; at least one dimension, and a damping and a number of further "
                "models of at least 0, are expected."
            )

    @property
    def prepares_with(self) -> Access:
        """The training rows; the recipe, too, for further models."""
        return Access.to(Role.TRAIN, recipe=self.further_models > 0)

    @property
    def preparation(self) -> object:
        """What the kept features depend on: not the damping."""
        return type(self).__name__, self.dimensions, self.further_models

    def prepare(self, problem: Problem, run: Run) -> Bundle:
        """Features of the training rows at every model, and the weights of the further ones.

        Raises:
            ExpungeError: the family has no margins, or a gradient is not finite.
        """
        train, tensors = problem.data[Role.TRAIN], {}
        for number, model in enumerate(self._models(problem, run)):
            projection = Projection(self.dimensions, number)
            features = MarginFeatures.of(problem.family, model, train, projection, run)
            run.meter.touch(Role.TRAIN.value, len(train))
            tensors[f"gradients/{number}"] = features.gradients
            tensors[f"doubt/{number}"] = features.doubt
            if number > 0:
                weights = stored_tensors(model).items()
                tensors |= {f"model/{number}/{n}": t.detach() for n, t in weights}
        return Bundle(tensors, {"ids": list(train.ids)})

    def presence(
        self, artifact: Bundle, problem: Problem, rows: Sequence[str], asked: Samples, run: Run
    ) -> Tensor:
        """What the training rows of these ids together add to the outputs on ``asked`` (n, ...).

        Raises:
            ExpungeError: a row was not among those that were prepared, or the Gram matrix has no
                inverse.
        """
        known, found = places(artifact, rows), []
        for number in range(1 + self.further_models):
            model = self._stored(artifact, problem, number)
            features = MarginFeatures(
                artifact.tensors[f"gradients/{number}"], artifact.tensors[f"doubt/{number}"]
            )
            step = features.presence(known, self.damping)
            moving = {n: p for n, p in model.named_parameters() if p.requires_grad}
            direction = Projection(self.dimensions, number).back(step, moving)
            found.append(derivative_along(direction, problem.family, model, asked, run))
        return torch.stack(found).mean(0)

    def _models(self, problem: Problem, run: Run) -> Iterator[nn.Module]:
        """The model at hand, then the further ones."""
        yield problem.model
        if self.further_models:
            assert problem.recipe is not None  # opened by the access
            data = {Role.TRAIN: problem.data[Role.TRAIN]}
            draws = run.generator("trak/seeds")
            for seed in torch.randint(2**31, (self.further_models,), generator=draws).tolist():
                yield problem.recipe.with_seed(seed).make(data, run).model

    def _stored(self, artifact: Bundle, problem: Problem, number: int) -> nn.Module:
        """The model of a number: that at hand, or a further one with its stored weights."""
        if number == 0:
            return problem.model
        start = f"model/{number}/"
        tensors = {
            name.removeprefix(start): artifact.tensors[name]
            for name in artifact.tensors
            if name.startswith(start)
        }
        return load_stored(problem.model, tensors, "The attribution")
