"""Sum: the plain sum of the task vectors.

Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi (2023). Editing Models with
Task Arithmetic.

The mean with its strength multiplied by the number of requests: nothing is diluted, and values of
opposite sign cancel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from expunge.aggregation.columns import Columns
from expunge.aggregation.kernels import TOTAL, VALUES, Emit
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta
from expunge.storage import Bundle

AS_SUMMED = Emit(torch.clone, TOTAL)


@dataclass(frozen=True)
class Sum:
    """The sum of all requests."""

    name: ClassVar[str] = "sum"
    properties: ClassVar[Properties] = Properties(
        streaming=True,
        flat_cost=True,
        order_independent=True,
        persistence="None where requests conflict: opposite values cancel.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Columns:
        """The state before any request."""
        return Columns.zeros(self.name, VALUES.layout, shapes, base)

    def add(self, state: Columns, delta: Delta, strength: float = 1.0) -> Columns:
        """Fold one request into the state, in place."""
        return state.added(delta, strength, VALUES)

    def combine(self, state: Columns) -> Delta:
        """The sum."""
        return state.combined(AS_SUMMED)

    def restore(self, bundle: Bundle) -> Columns:
        """The state that a bundle describes."""
        return Columns.restored(self.name, VALUES.layout, bundle)
