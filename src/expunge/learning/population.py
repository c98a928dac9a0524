"""Populations: many models of one recipe on subsets of one set, trained the fastest way there is.

Shadow models, oracles and datamodels are such populations. Three engines make the same models up to
rounding: ``stacked`` trains many as one module under :func:`torch.vmap`, ``processes`` in processes
of one thread each, ``one by one`` in this one. Which is fastest depends on the model and the batch
(a stack of 64 small networks gains tenfold, a convolutional one may lose), so it is measured.

The initial weights of a member come from its own seed, the order of its rows too; the order in
which positions are drawn is the run's and common to all, so that they can be trained together.
"""

import hashlib
import multiprocessing.reduction
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.stacked import StackedFamily
from expunge.models.stacked import stacked, unstacked
from expunge.processes import one_threaded
from expunge.recipe import Recipe, Role
from expunge.run import Run

Engine = Literal["stacked", "processes", "one by one"]

AT_ONCE = 64
"""Models of a stack at most."""

FEW = 256
"""Rows at least that an engine is timed on, where there are as many."""

STARTING = 5.0
"""Seconds that a process takes to start and to import torch, about."""


@dataclass(frozen=True)
class Member:
    """One model of a population.

    Args:
        seed: of its initial weights, and of the order of its rows.
        rows: positions (n,) of its training rows.
    """

    seed: int
    rows: tuple[int, ...]

    def shuffled(self) -> Tensor:
        """Its rows (n,) in an order of its own."""
        mixed = hashlib.sha256(f"member:{self.seed}".encode()).digest()
        draws = torch.Generator().manual_seed(int.from_bytes(mixed[:8], "big") >> 1)
        return torch.tensor(self.rows)[torch.randperm(len(self.rows), generator=draws)]


def halves(models: int, rows: int, seed: int) -> Tensor:
    """Which of the rows each model is trained on: bool (models, rows).

    Every row is in exactly half of the models, and every model has half of the rows (one more for
    every other where their number is odd): model 2k has a random half, model 2k + 1 the other.

    Raises:
        ExpungeError: the number of models is odd, or there are fewer than two of anything.
    """
    if models < 2 or models % 2 or rows < 2:
        raise ExpungeError(
            f"Halves of {rows} rows for {models} models were asked for; an even number of models, "
            "at least 2, and at least 2 rows are expected, so that each row is in half of them."
        )
    draws = torch.Generator().manual_seed(seed)
    member = torch.zeros(models, rows, dtype=torch.bool)
    for pair in range(0, models, 2):
        order = torch.randperm(rows, generator=draws)
        member[pair, order[: rows // 2]] = True
        member[pair + 1] = ~member[pair]
    return member


def members(member: Tensor, first_seed: int = 0) -> list[Member]:
    """The members of a population by who is trained on what, bool (models, rows)."""
    return [
        Member(first_seed + place, tuple(rows.nonzero().reshape(-1).tolist()))
        for place, rows in enumerate(member)
    ]


@dataclass(frozen=True)
class Timing:
    """What the engines would take for a whole population, in seconds, and the one that was chosen.

    ``unfit`` says of the others why they cannot be used.
    """

    engine: Engine
    seconds: Mapping[Engine, float]
    unfit: Mapping[Engine, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """What was chosen, and what the others would have taken."""
        others = [f"{name} about {took:.0f} s" for name, took in self.seconds.items()]
        others += [f"{name} not possible: {why}" for name, why in self.unfit.items()]
        return f"trained {self.engine} ({'; '.join(others)})"


@dataclass(frozen=True, eq=False)
class Population:
    """How many models are trained.

    Args:
        recipe: of each; its seed is replaced by the members'.
        samples: rows that members are trained on parts of.
        run: device, and the order in which positions are drawn.
        processes: of the engine of that name; the cores of the machine by default.
    """

    recipe: Recipe
    samples: Samples
    run: Run
    processes: int = os.cpu_count() or 1

    def trained(
        self, wanted: Sequence[Member], engine: Engine | None = None
    ) -> Iterator[tuple[Member, nn.Module]]:
        """Every member with its model, in the order in which they are done.

        Args:
            wanted: the members.
            engine: how; the fastest by :meth:`timed` by default.

        Raises:
            ExpungeError: a member has no row, the engine cannot be used here, or training fails.
        """
        for one in wanted:
            if not one.rows:
                raise ExpungeError(
                    f"The member of seed {one.seed} has no training row; give it at least one."
                )
        if not wanted:
            return
        chosen = engine or self.timed(wanted).engine
        yield from {
            "stacked": self._stacked,
            "processes": self._in_processes,
            "one by one": self._one_by_one,
        }[chosen](wanted)

    def timed(self, wanted: Sequence[Member]) -> Timing:
        """What each engine would take, from a short training of each on a part of the rows.

        The first training does not count, since torch loads much of itself in it.
        """
        rehearsal, part, scale = self._rehearsal(wanted)
        stack = [one for one in part if len(one.rows) == len(part[0].rows)][:AT_ONCE]
        alone = _seconds(lambda: rehearsal._alone(part[0])) * scale
        seconds: dict[Engine, float] = {"one by one": alone * len(wanted)}
        unfit: dict[Engine, str] = {}
        if why := self._unstackable():
            unfit["stacked"] = why
        else:
            try:
                together = _seconds(lambda: rehearsal._together(stack)) * scale
                seconds["stacked"] = together * len(wanted) / len(stack)
            except RuntimeError as error:  # torch cannot map a layer
                unfit["stacked"] = str(error).splitlines()[0]
        if why := self._unsendable():
            unfit["processes"] = why
        else:
            with _one_thread() as fewer:
                single = _seconds(lambda: rehearsal._alone(part[0])) * scale if fewer else alone
            seconds["processes"] = STARTING + single * -(-len(wanted) // self.processes)
        return Timing(min(seconds, key=lambda name: seconds[name]), seconds, unfit)

    def _rehearsal(self, wanted: Sequence[Member]) -> tuple["Population", list[Member], float]:
        """The same in a single pass over a part of the rows, and how much longer the whole is."""
        whole = len(wanted[0].rows)
        few = min(whole, max(FEW, whole // 16))
        part = [replace(one, rows=one.rows[:few]) for one in wanted]
        learner: Any = self.recipe.learner
        if not hasattr(learner, "epochs"):
            return self, part, whole / few
        short = replace(self.recipe, learner=replace(learner, epochs=1))
        return replace(self, recipe=short), part, learner.epochs * whole / few

    def _alone(self, one: Member) -> nn.Module:
        data = {Role.TRAIN: self.samples.select(one.shuffled())}
        untrained = self.recipe.builder(one.seed)
        return self.recipe.learner.fit(untrained, self.recipe.family, data, self.run).model

    def _one_by_one(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, nn.Module]]:
        for one in wanted:
            yield one, self._alone(one)

    def _stacked(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, nn.Module]]:
        if why := self._unstackable():
            raise ExpungeError(f"These models cannot be trained as a stack: {why}.")
        in_order = sorted(wanted, key=lambda one: len(one.rows))
        for _, group in groupby(in_order, key=lambda one: len(one.rows)):
            alike = list(group)
            for start in range(0, len(alike), AT_ONCE):
                stack = alike[start : start + AT_ONCE]
                yield from zip(stack, self._together(stack), strict=True)

    def _together(self, stack: Sequence[Member]) -> list[nn.Module]:
        untrained = [self.recipe.builder(one.seed) for one in stack]
        rows = StackedSamples(self.samples, torch.stack([one.shuffled() for one in stack]))
        family: Family = StackedFamily(self.recipe.family)
        made = self.recipe.learner.fit(stacked(untrained), family, {Role.TRAIN: rows}, self.run)
        return unstacked(made.model, untrained[0])

    def _unstackable(self) -> str | None:
        if not getattr(self.recipe.learner, "stacks", False):
            return f"{type(self.recipe.learner).__name__} does not treat every weight by itself"
        drawing = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
        parts = self.recipe.builder(0).modules()
        if any(isinstance(part, drawing) and part.p > 0 for part in parts):
            return "dropout draws other random numbers in a stack"
        row = self.samples.batch(torch.tensor([0]))
        if self.recipe.family.draw(row, torch.Generator()) is not row:
            return "the family draws random numbers, which would be others in a stack"
        return None

    def _unsendable(self) -> str | None:
        if torch.device(self.run.device).type != "cpu":
            return "they would share one accelerator"
        try:
            multiprocessing.reduction.ForkingPickler.dumps((self.recipe, self.samples))
        except Exception as error:  # whatever a user's builder holds
            return f"the recipe cannot be sent to a process ({str(error).splitlines()[0]})"
        return None

    def _in_processes(self, wanted: Sequence[Member]) -> Iterator[tuple[Member, nn.Module]]:
        if why := self._unsendable():
            raise ExpungeError(f"These models cannot be trained in processes: {why}.")
        own = replace(self, run=replace(self.run, console=None))
        with one_threaded(min(self.processes, len(wanted)), (own,), _take) as pool:
            for one, arrays in zip(wanted, pool.map(_of_process, wanted), strict=True):
                tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
                model = self.recipe.builder(one.seed)
                model.load_state_dict(tensors)
                yield one, model


@dataclass(frozen=True, eq=False)
class StackedSamples:
    """Rows of N models side by side: row i holds each model's own i-th row.

    Args:
        samples: what the rows are taken from.
        positions: (N, n) positions among them.
    """

    samples: Samples
    positions: Tensor

    @property
    def ids(self) -> Sequence[str]:
        """Numbers: a row stands for N of them."""
        return [str(place) for place in range(len(self))]

    @property
    def subjects(self) -> Sequence[str]:
        """As the ids."""
        return self.ids

    @property
    def fields(self) -> frozenset[str]:
        """Those of the samples."""
        return self.samples.fields

    def __len__(self) -> int:
        return self.positions.shape[1]

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """Each field (B, N, ...) of the rows (B,), and ``row`` (B,)."""
        wanted = self.positions[:, rows]
        found = self.samples.batch(wanted.reshape(-1), fields)
        shaped = {  # each model's rows lie together, whatever the order of the dimensions
            name: tensor.reshape(*wanted.shape, *tensor.shape[1:]).transpose(0, 1)
            for name, tensor in found.items()
            if name != ROW
        }
        return {**shaped, ROW: rows}

    def select(self, rows: Tensor) -> "StackedSamples":
        """These rows of every model."""
        return StackedSamples(self.samples, self.positions[:, rows])


_given: list[Population] = []
"""In a process: the population that it trains members of."""


def _take(population: Population) -> None:
    _given[:] = [population]


def _of_process(one: Member) -> dict[str, Any]:
    """The tensors of a member as arrays: tensors would be sent as open files, one each."""
    return {name: t.numpy() for name, t in _given[0]._alone(one).state_dict().items()}


@contextmanager
def _one_thread() -> Iterator[bool]:
    """Inside, torch has one thread; says whether it had more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads > 1
    finally:
        torch.set_num_threads(threads)


def _seconds(train: Callable[[], object]) -> float:
    """The shorter of two trainings after a first one: what else the machine does only adds."""
    train()
    took = []
    for _ in range(2):
        start = time.perf_counter()
        train()
        took.append(time.perf_counter() - start)
    return min(took)
