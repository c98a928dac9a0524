"""How long a descent runs, and whose turn it is at each step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from expunge.descent.sources import Pool
from expunge.recipe import Role

Rows = Callable[[Role], int]
"""The number of rows of a role."""


class Length(Protocol):
    """The steps of a descent."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles whose rows it counts."""
        ...

    def steps(self, rows: Rows, batch_size: int) -> int:
        """How many there are."""
        ...

    def turn(self, step: int, rows: Rows, batch_size: int) -> Role | None:
        """The role whose terms act at a step; None where every term does."""
        ...


@dataclass(frozen=True)
class Steps:
    """A fixed number of steps."""

    count: int
    roles: ClassVar[tuple[Role, ...]] = ()

    def steps(self, rows: Rows, batch_size: int) -> int:
        """The count."""
        return self.count

    def turn(self, step: int, rows: Rows, batch_size: int) -> None:
        """Every term acts."""


@dataclass(frozen=True)
class Epochs:
    """Passes over one role, or over a pool of several; the streams of other roles go round."""

    count: int
    of: Role | Pool = Role.FORGET

    @property
    def roles(self) -> tuple[Role, ...]:
        """The role, or those of the pool."""
        return self.of.roles if isinstance(self.of, Pool) else (self.of,)

    def steps(self, rows: Rows, batch_size: int) -> int:
        """Steps of all passes."""
        return self.count * batches_of(sum(rows(role) for role in self.roles), batch_size)

    def turn(self, step: int, rows: Rows, batch_size: int) -> None:
        """Every term acts."""


@dataclass(frozen=True)
class Turn:
    """A pass over one role, in the first ``epochs`` epochs; in all of them where None."""

    of: Role
    epochs: int | None = None


@dataclass(frozen=True)
class InTurns:
    """Epochs that pass over one role after the other, with one optimiser throughout.

    At each step only the terms on the role whose turn it is act, and those on a source of their
    own. The batches are those of the descent's size, which the terms must not change.
    """

    count: int
    turns: tuple[Turn, ...] = (Turn(Role.FORGET), Turn(Role.RETAIN))

    @property
    def roles(self) -> tuple[Role, ...]:
        """The role of each turn."""
        return tuple(turn.of for turn in self.turns)

    def steps(self, rows: Rows, batch_size: int) -> int:
        """Steps of all passes."""
        return sum(
            (self.count if turn.epochs is None else min(turn.epochs, self.count))
            * batches_of(rows(turn.of), batch_size)
            for turn in self.turns
        )

    def turn(self, step: int, rows: Rows, batch_size: int) -> Role | None:
        """The role of the pass that the step is in."""
        end = 0
        for epoch in range(self.count):
            for turn in self.turns:
                if turn.epochs is None or epoch < turn.epochs:
                    end += batches_of(rows(turn.of), batch_size)
                    if step < end:
                        return turn.of
        return None


def batches_of(rows: int, size: int) -> int:
    """Batches of a pass of a :class:`~expunge.descent.streams.Stream`: a trailing single row is in
    the batch before it."""
    alone = size > 1 and rows > size and rows % size == 1
    return math.ceil(rows / size) - alone
