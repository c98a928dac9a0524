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
        return self.count * math.ceil(rows(self.of) / batch_size)
