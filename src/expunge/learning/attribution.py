"""Attribution: what training rows add to a model's outputs, and its scale, from real leave-outs.

Where an attribution comes from is learning/datamodels.py and learning/trak.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.learning.population import Engine, Member, Population, members
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.attribution import agreement
from expunge.signals.outputs import outputs_of
from expunge.storage import Bundle


@runtime_checkable
class Attribution(Protocol):
    """A frozen dataclass that prepares once what it needs to answer any request."""

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the family must have."""
        ...

    @property
    def prepares_with(self) -> Access:
        """What :meth:`prepare` opens; never a request."""
        ...

    @property
    def preparation(self) -> object:
        """What the prepared depends on beside what is opened; it can be hashed."""
        ...

    def prepare(self, problem: Problem, run: Run) -> Bundle:
        """Work done once for a model and its training rows."""
        ...

    def presence(
        self, artifact: Bundle, problem: Problem, rows: Sequence[str], asked: Samples, run: Run
    ) -> Tensor:
        """What the training rows of these ids together add to the outputs on ``asked`` (n, ...).

        Raises:
            ExpungeError: the artifact knows nothing of a row.
        """
        ...


def places(artifact: Bundle, names: Sequence[str]) -> list[int]:
    """The positions of rows among those that an artifact was prepared on, under the fact ``ids``.

    Raises:
        ExpungeError: a row was not among them.
    """
    ids = artifact.facts["ids"]
    assert isinstance(ids, list)
    place = {name: at for at, name in enumerate(ids)}
    if unknown := [name for name in names if name not in place]:
        raise ExpungeError(
            f"The row {unknown[0]!r} is not among the {len(place)} that the attribution was "
            "prepared on, and nothing is known of it; prepare it again with this row."
        )
    return [place[name] for name in names]


def answers(
    population: Population,
    wanted: Sequence[Member],
    asked: Samples,
    engine: Engine | None = None,
) -> Iterator[tuple[Member, Tensor]]:
    """Each member with its outputs (n, ...) on ``asked``; no model is kept."""
    family, run = population.recipe.family, population.run
    for one, model in population.trained(wanted, engine):
        yield one, outputs_of(family, model, asked, run)


@dataclass(frozen=True)
class LeaveOuts:
    """Real trainings without a few rows, by which the scale of an attribution is found.

    A group is a random row and those whose outputs are nearest to its own: alike rows are what
    requests often name, and what hides in one another's presence.

    Args:
        groups: how many groups are left out, one after another.
        rows: of a group.
        models: trained without each group, and on all rows, with the same seeds.
        engine: as for :class:`HalfDataModels`.
    """

    groups: int = 8
    rows: int = 20
    models: int = 20
    engine: Engine | None = None

    prepares_with: ClassVar[Access] = Access.to(Role.TRAIN, recipe=True)

    def effects(self, problem: Problem, run: Run) -> list[tuple[Samples, Tensor]]:
        """The rows of each group with what they really add to their own outputs (rows, ...).

        Args:
            problem: with the training rows and the recipe.
            run: device and random numbers.

        Raises:
            ExpungeError: there are too few training rows.
        """
        train = problem.data[Role.TRAIN]
        if not (0 < self.rows < len(train) and self.groups > 0 and self.models > 0):
            raise ExpungeError(
                f"{self.groups} groups of {self.rows} of {len(train)} training rows were to be "
                f"left out of {self.models} models each; at least one of everything, and fewer "
                "rows than there are, are expected."
            )
        population = population_of(problem, run)
        first = int(torch.randint(2**31, (), generator=run.generator("leave-outs/seed")))
        groups = list(self._groups(problem, run))
        kept = torch.ones(1 + len(groups), len(train), dtype=torch.bool)
        for place, group in enumerate(groups, start=1):
            kept[place, group] = False
        teams = [members(one.expand(self.models, -1), first) for one in kept]
        wanted = [one for team in teams for one in team]
        answered = dict(answers(population, wanted, train, self.engine))
        whole, *without = (
            torch.stack([answered[one] for one in team]).double().mean(0) for team in teams
        )
        return [
            (train.select(group), (whole - other)[group])
            for group, other in zip(groups, without, strict=True)
        ]

    def _groups(self, problem: Problem, run: Run) -> Iterator[Tensor]:
        """Positions (rows,) of each group."""
        train = problem.data[Role.TRAIN]
        outputs = outputs_of(problem.family, problem.model, train, run).double().flatten(1)
        anchors = torch.randperm(len(train), generator=run.generator("leave-outs/groups"))
        for anchor in anchors[: self.groups]:
            distances = (outputs - outputs[anchor]).square().sum(1)
            yield distances.argsort(stable=True)[: self.rows]


Presence = Callable[[Sequence[str], Samples], Tensor]
"""What training rows of some ids together add to the outputs (n, ...) on other rows."""


def scale_of(presence: Presence, effects: Sequence[tuple[Samples, Tensor]]) -> float:
    """The factor by which predicted effects come nearest to those of :meth:`LeaveOuts.effects`.

    Raises:
        ExpungeError: nothing was predicted.
    """
    predicted = torch.cat([presence(list(group.ids), group) for group, _ in effects])
    return agreement(predicted, torch.cat([effect for _, effect in effects]))[1]


def population_of(problem: Problem, run: Run) -> Population:
    """The models that the problem's recipe makes of parts of its training rows."""
    assert problem.recipe is not None  # opened by the access
    return Population(problem.recipe, problem.data[Role.TRAIN], run)
