"""Worst-case forget sets: the rows that are hardest to make a model forget, found by search.

Fan, Liu, Hero, Liu (2024). Challenging Forgets: Unveiling the Worst-Case Forget Sets in Machine
Unlearning. A bi-level problem: choose m rows so that a model that was fine-tuned without them still
has the lowest loss on them. The lower level takes steps of sign-SGD, through which no gradient with
respect to the choice flows, so that the upper level follows the losses themselves.

An audit of a method, not of a request: it says how a method fares where forgetting shows least.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.data.samples import Samples, all_but, batches
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SignSGD
from expunge.descent.player import On, Player
from expunge.descent.weighted import WeightedLoss
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLogits
from expunge.models.modes import evaluating
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import NO_REQUEST
from expunge.run import Run, on_device
from expunge.signals.ask import predict
from expunge.signals.gradients import losses_of

TOLERANCE, HALVINGS = 1e-5, 100
"""Where the bisection ends: the distance of the sum to the budget, and halvings at most."""

POSITIVE = ("iterations", "epochs", "learning_rate", "upper_step", "round_every", "batch_size")
"""Fields of a search that must be above 0."""

READ_AT_ONCE = 256
"""Rows whose loss is taken at a time."""


def projected(weights: Tensor, budget: float) -> Tensor:
    """The nearest point with entries in [0, 1] whose sum is ``budget``.

    It is ``clamp(weights - mu, 0, 1)``, with mu found by bisection between min(weights) - 1 and
    max(weights).

    Args:
        weights: (n,), of any values.
        budget: from 0 to n.

    Returns:
        (n,) float64.

    Raises:
        ExpungeError: the budget is below 0 or above n, or a weight is not finite.
    """
    values = weights.double()
    if not 0 <= budget <= len(values) or not bool(torch.isfinite(values).all()):
        raise ExpungeError(
            f"A sum of {budget:g} over {len(values)} weights from 0 to 1 was asked for; a budget "
            "from 0 to their number and finite weights are expected."
        )
    low, high = values.min() - 1, values.max()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        excess = (values - middle).clamp(0, 1).sum() - budget
        if abs(float(excess)) < TOLERANCE:
            break
        low, high = (middle, high) if excess > 0 else (low, middle)
    return (values - middle).clamp(0, 1)


def largest(scores: Tensor, budget: int) -> Tensor:
    """Positions (budget,), ascending, of the largest of scores (n,); of equals the first."""
    order = torch.sort(scores, descending=True, stable=True).indices
    return order[:budget].sort().values


class Goal(StrEnum):
    """Which end of the scale is looked for."""

    HARDEST = "hardest"
    """The rows that a model answers best although it unlearned them: the worst case."""
    EASIEST = "easiest"
    """The rows that it answers worst then."""


class Scale(Protocol):
    """How losses are measured before the upper level takes a step along them."""

    def of(self, losses: Tensor) -> Tensor:
        """Values (n,) for losses (n,)."""
        ...


@dataclass(frozen=True)
class UnitMaximum:
    """Losses as shares of the largest of them.

    The losses of a model that fits its rows are so small that the published steps along them cannot
    move a choice away from the random one it starts with.
    """

    def of(self, losses: Tensor) -> Tensor:
        """Values from 0 to 1."""
        return losses / losses.max().clamp(min=torch.finfo(losses.dtype).tiny)


@dataclass(frozen=True)
class Raw:
    """Losses as they are, as published."""

    def of(self, losses: Tensor) -> Tensor:
        """The losses."""
        return losses


class Start(Protocol):
    """The weights that a search begins with."""

    def weights(self, count: int, budget: int, generator: torch.Generator) -> Tensor:
        """Weights (count,) float64 whose sum is the budget."""
        ...


@dataclass(frozen=True)
class RandomStart:
    """A random choice, as published."""

    def weights(self, count: int, budget: int, generator: torch.Generator) -> Tensor:
        """Ones at random places."""
        found = torch.zeros(count, dtype=torch.float64)
        found[torch.randperm(count, generator=generator)[:budget]] = 1
        return found


@dataclass(frozen=True)
class EvenStart:
    """The same weight everywhere."""

    def weights(self, count: int, budget: int, generator: torch.Generator) -> Tensor:
        """The share of the budget."""
        return torch.full((count,), budget / count, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Searched:
    """What a search found among n rows or groups of rows.

    Args:
        chosen: (budget,) positions, ascending.
        random: (budget,) positions, ascending, of a random choice: the start, where that is random.
        history: weights (1 + iterations, n) float64: the start, and those after each iteration.
        start: the objective at the random choice: the mean loss on it, in the unit of the family's
            loss, of a model that unlearned it.
        end: the objective at the choice that was found.
    """

    chosen: Tensor
    random: Tensor
    history: Tensor
    start: float
    end: float

    @property
    def overlap(self) -> int:
        """How much of the random choice is in the one that was found."""
        return int(torch.isin(self.chosen, self.random).sum())

    @property
    def difficulty(self) -> Tensor:
        """The last weights (n,): a ranking, the largest first in the direction of the goal."""
        return self.history[-1]


@dataclass(frozen=True)
class WorstCase:
    """The search.

    Three fields deviate from the paper, whose released step of 0.01 on the losses as they are
    returns the random start: ``scale``, with it ``upper_step``, and ``start``. The last matters
    where a model has memorised its rows: then most losses are next to nothing in any unit, and a
    row that began as chosen stays so. :data:`AS_RELEASED` has the published values.

    Args:
        iterations: steps of the upper level.
        epochs: passes over all rows of every lower level.
        learning_rate: of sign-SGD: so far every weight of the model moves at every step.
        upper_step: factor of the losses, in their ``scale``, in a step of the upper level.
        penalty: factor of the squared norm of the weights.
        round_every: iterations between two roundings of the weights to a choice.
        batch_size: rows a step.
        goal: the hardest or the easiest rows.
        scale: how losses are measured in the upper level.
        start: the first weights.

    Raises:
        ExpungeError: a number is not positive (the penalty: negative).
    """

    iterations: int = 20
    epochs: int = 10
    learning_rate: float = 1e-3
    upper_step: float = 10.0
    penalty: float = 0.0
    round_every: int = 20
    batch_size: int = 256
    goal: Goal = Goal.HARDEST
    scale: Scale = field(default_factory=UnitMaximum)
    start: Start = field(default_factory=EvenStart)

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                raise ExpungeError(
                    f"`{name}` of the search is {getattr(self, name)}; a number above 0 is "
                    "expected."
                )
        if self.penalty < 0:
            raise ExpungeError(
                f"`penalty` of the search is {self.penalty}; 0 or a number above it is expected."
            )

    def search(
        self,
        model: nn.Module,
        family: Family,
        samples: Samples,
        budget: int,
        run: Run,
        groups: Tensor | None = None,
    ) -> Searched:
        """Choose ``budget`` of the rows, or of groups of rows, which may be classes or people.

        Args:
            model: trained on ``samples``; it stays as it is.
            family: what kind of model it is.
            samples: all rows it was trained on.
            budget: how many are chosen.
            run: where, and with which random numbers.
            groups: the group (rows,) of each row from 0; every row is one by default. Of a group
                the mean loss of its rows counts.

        Raises:
            ExpungeError: the budget leaves nothing or chooses nothing, or the family has no loss.
        """
        of_row = torch.arange(len(samples)) if groups is None else groups
        level = _LowerLevel(self, model, family, samples, of_row, run)
        count = int(of_row.max()) + 1 if len(of_row) else 0
        if not 0 < budget < count:
            raise ExpungeError(
                f"{budget} of {count} were asked for; at least 1 and fewer than all are expected."
            )
        weights = self.start.weights(count, budget, run.generator("worst-case/start"))
        random = random_choice(count, budget, run)
        start = float(level.losses(_choice(random, count))[random].mean())
        losses = level.losses(weights)
        history = [weights]
        with run.progress("worst-case search", self.iterations) as bar:
            for step in range(1, self.iterations + 1):
                history.append(self._moved(weights, losses, budget))
                weights = history[-1]
                if step % self.round_every == 0 or step == self.iterations:
                    weights = _choice(largest(weights, budget), count)
                losses = level.losses(weights)
                bar.advance()
        chosen = largest(weights, budget)
        return Searched(
            chosen,
            random,
            torch.stack(history),
            start,
            float(losses[chosen].mean()),
        )

    def losses_after(
        self,
        model: nn.Module,
        family: Family,
        samples: Samples,
        weights: Tensor,
        run: Run,
        groups: Tensor | None = None,
    ) -> Tensor:
        """The mean loss (n,) float64 of every row or group after the lower level unlearned a choice
        of weights (n,); the rest as for :meth:`search`."""
        of_row = torch.arange(len(samples)) if groups is None else groups
        return _LowerLevel(self, model, family, samples, of_row, run).losses(weights)

    def _moved(self, weights: Tensor, losses: Tensor, budget: int) -> Tensor:
        """One step of the upper level, and back to weights from 0 to 1 of the budget's sum."""
        sign = -1 if self.goal is Goal.HARDEST else 1
        slope = self.scale.of(losses) - sign * 2 * self.penalty * weights  # always pulled to zero
        return projected(weights + sign * self.upper_step * slope, budget)


BY_GROUP = WorstCase(epochs=1)
"""For groups of rows, such as classes: one lower epoch, as published for classes."""

AS_RELEASED = WorstCase(upper_step=1e-2, scale=Raw(), start=RandomStart())
"""The defaults of the released code."""


def random_choice(count: int, budget: int, run: Run) -> Tensor:
    """Positions (budget,), ascending, of the random choice that a search of this run knows."""
    drawn = RandomStart().weights(count, budget, run.generator("worst-case/start"))
    return largest(drawn, budget)


def _choice(positions: Tensor, count: int) -> Tensor:
    """Weights (count,) that are 1 at these positions."""
    found = torch.zeros(count, dtype=torch.float64)
    found[positions] = 1
    return found


@dataclass(frozen=True, eq=False)
class _LowerLevel:
    """A model that unlearns a weighted choice, again and again from the same start."""

    search: WorstCase
    model: nn.Module
    family: Family
    samples: Samples
    groups: Tensor
    run: Run

    def losses(self, weights: Tensor) -> Tensor:
        """The mean loss (groups,) float64 of every group after unlearning weights (groups,)."""
        rows = tuple((1 - weights[self.groups]).tolist())
        descent = Descent(
            Player(
                others={"all rows": On(Role.TRAIN, WeightedLoss(rows))},
                optimiser=SignSGD(self.search.learning_rate),
            ),
            length=Epochs(self.search.epochs, of=Role.TRAIN),
            batch_size=self.search.batch_size,
        )
        data = {Role.TRAIN: self.samples}
        problem = Problem(self.model, self.family, NO_REQUEST, data, History())
        quiet = replace(self.run, console=None)  # the bar is the upper level's
        model = descent.minimise(problem, quiet, "worst-case lower level").model
        found = row_losses(self.family, model, self.samples, self.run)
        return group_means(found, self.groups)


def row_losses(family: Family, model: nn.Module, samples: Samples, run: Run) -> Tensor:
    """The family's loss (rows,) float64 of every row, in evaluation mode and full precision.

    A family that draws noise draws the same for every model of one run.

    Raises:
        ExpungeError: the family has no loss, or a loss is not finite.
    """
    loss, draws = losses_of(family), run.generator("worst-case/losses")
    found = []
    with evaluating(on_device(model, run)) as asked, torch.inference_mode():
        for raw in batches(samples, READ_AT_ONCE):
            batch = {n: t.to(run.device) for n, t in family.draw(raw, draws).items()}
            found.append(loss(asked, batch).double().cpu())
    losses = torch.cat(found)
    if not bool(torch.isfinite(losses).all()):
        bad = int((~torch.isfinite(losses)).nonzero()[0])
        raise ExpungeError(
            f"The loss of the row {samples.ids[bad]!r} is {float(losses[bad])}; a finite number is "
            "expected. Lower the learning rate of the search, or look at the row."
        )
    return losses.clone()


@dataclass(frozen=True)
class CrossFitted:
    """The baseline without a search: each row's loss under a model that never saw it.

    Args:
        folds: parts of the rows; one model is trained without each.

    Raises:
        ExpungeError: there are fewer than two folds.
    """

    folds: int = 5

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ExpungeError(f"{self.folds} folds were given; at least 2 are expected.")

    def losses(
        self, recipe: Recipe, samples: Samples, run: Run, groups: Tensor | None = None
    ) -> Tensor:
        """Losses (rows,) or mean losses (groups,), float64.

        Args:
            recipe: how a model is trained.
            samples: the training rows.
            run: where, and with which random parts.
            groups: the group (rows,) of each row from 0. Parts are of rows all the same: a model
                that saw nothing of a class or a person would tell them all alike.

        Raises:
            ExpungeError: there are fewer rows than folds.
        """
        if len(samples) < self.folds:
            raise ExpungeError(
                f"There are {len(samples)} rows for {self.folds} folds; give more rows or fewer "
                "folds."
            )
        order = torch.randperm(len(samples), generator=run.generator("worst-case/folds"))
        found = torch.empty(len(samples), dtype=torch.float64)
        for held in torch.tensor_split(order, self.folds):
            seen = samples.select(all_but(len(samples), held))
            model = recipe.make({Role.TRAIN: seen}, run).model
            found[held] = row_losses(recipe.family, model, samples.select(held), run)
        return found if groups is None else group_means(found, groups)

    def chosen(self, losses: Tensor, budget: int, goal: Goal) -> Tensor:
        """Positions (budget,), ascending: the lowest losses are the hardest to forget."""
        return largest(-losses if goal is Goal.HARDEST else losses, budget)


def group_means(values: Tensor, groups: Tensor) -> Tensor:
    """Means (groups,) float64 of values (rows,) by the group (rows,) of each row, from 0."""
    total = torch.zeros(int(groups.max()) + 1, dtype=torch.float64)
    return total.index_add(0, groups, values.double()) / torch.bincount(groups)


def groups_of(values: Sequence[object]) -> tuple[Tensor, tuple[str, ...]]:
    """The group (rows,) int64 of each row of a column, and the names of the groups, sorted."""
    names = tuple(sorted({str(value) for value in values}))
    places = {name: place for place, name in enumerate(names)}
    return torch.tensor([places[str(value)] for value in values], dtype=torch.int64), names


@dataclass(frozen=True)
class Difficulty:
    """How rows are answered by the original, and by a model that was retrained without them.

    The losses are means over the rows in the unit of the family's loss; the shares of rows that are
    not answered with their own class (UA) are None for families without classes.
    """

    original_loss: float
    retrained_loss: float
    original_wrong: float | None
    retrained_wrong: float | None

    @classmethod
    def of(
        cls, recipe: Recipe, model: nn.Module, samples: Samples, chosen: Tensor, run: Run
    ) -> Self:
        """Retrain without some rows, and ask both models for them.

        Args:
            recipe: how the model was trained.
            model: the original.
            samples: the rows it was trained on.
            chosen: positions (m,) of some of them.
            run: where.
        """
        retain, forget = samples.select(all_but(len(samples), chosen)), samples.select(chosen)
        retrained = recipe.make({Role.TRAIN: retain}, run).model
        family, models = recipe.family, (model, retrained)
        first, second = (float(row_losses(family, m, forget, run).mean()) for m in models)
        if not isinstance(family, HasLogits):
            return cls(first, second, None, None)
        wrong = [1 - float(predict(family, m, forget, run).share_right()[0]) for m in models]
        return cls(first, second, wrong[0], wrong[1])
