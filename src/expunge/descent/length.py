"""How long a descent runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from expunge.recipe import Role


@dataclass(frozen=True)
class Steps:
    """A fixed number of steps."""

    count: int

    def steps(self, rows: Callable[[Role], int], batch_size: int) -> int:
        """The count."""
        return self.count


@dataclass(frozen=True)
class Epochs:
    """Passes over one role; the streams of other roles go round."""

    count: int
    of: Role = Role.FORGET

    def steps(self, rows: Callable[[Role], int], batch_size: int) -> int:
        """Steps of all passes."""
        return self.count * batches_of(rows(self.of), batch_size)


def batches_of(rows: int, size: int) -> int:
    """Batches of a pass of a :class:`~expunge.descent.streams.Stream`: a trailing single row is in
    the batch before it."""
    alone = size > 1 and rows > size and rows % size == 1
    return math.ceil(rows / size) - alone
