"""Streams: endless shuffled batches of one role, with a generator of their own.

Each pass visits every row once in a new order; the last batch of a pass may be smaller. A last
batch of one row is added to the batch before it, where there is one: a single row has no variance,
which batch norm needs. A set of one row is a batch of one. The state is two tensors and a position,
so a resumed descent sees the batches it would have seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.errors import ExpungeError
from expunge.problem import Fields


class Stream:
    """Batches of ``size`` rows of ``samples``, shuffled by ``generator``."""

    def __init__(
        self, samples: Samples, size: int, fields: Fields, generator: torch.Generator
    ) -> None:
        self.samples, self.size, self.fields, self.generator = samples, size, fields, generator
        self.order = torch.empty(0, dtype=torch.int64)
        self.position = 0

    def next(self) -> Batch:
        """The next batch."""
        if self.position >= len(self.order):
            self.order = torch.randperm(len(self.samples), generator=self.generator)
            self.position = 0
        stop = self.position + self.size
        if self.size > 1 and stop == len(self.order) - 1:
            stop += 1
        rows = self.order[self.position : stop]
        self.position = stop
        return self.samples.batch(rows, self.fields)

    def state(self) -> dict[str, Tensor]:
        """Everything that the next batches depend on."""
        return {
            "order": self.order,
            "position": torch.tensor(self.position),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a stored state."""
        self.order, self.position = state["order"], int(state["position"])
        self.generator.set_state(state["generator"])


@contextmanager
def reading(batch: Batch) -> Iterator[None]:
    """Inside, a field that the batch lacks is said as an error of the user's data.

    Raises:
        ExpungeError: a field was read that is missing, or shut to the method.
    """
    try:
        yield
    except KeyError as error:
        held = ", ".join(sorted(set(batch) - {ROW})) or "none"
        raise ExpungeError(
            f"The field {error} of the rows is needed here, and these have {held}; give it with "
            "the data, or take a method that does without it."
        ) from None
