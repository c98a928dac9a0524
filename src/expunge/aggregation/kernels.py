"""How one slice of a delta enters the columns of a rule, and how the rule reads them.

Every step has a plain torch expression, which is its definition. Most also have a fused numba loop
(``compiled.py``) that gives the same bits and moves every byte once; where numba is missing or
cannot compile, the torch expression is used instead.
"""

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expunge.changes.slices import Piece

Loop = Callable[..., None]
Layout = Mapping[str, torch.dtype]


@dataclass(frozen=True)
class Absorb:
    """One step of ``add``.

    ``plain(values, *columns)`` updates flat columns (n,) in place with values (n,) that are already
    multiplied by the strength; ``layout`` has the columns in that order. ``loop`` names the fused
    loop, empty where torch is one pass itself.
    """

    plain: Callable[..., None]
    layout: Layout
    loop: str = ""

    def is_compiled(self) -> bool:
        """Whether the fused loops are at hand; compiles them at the first call."""
        return bool(self.loop) and None not in (self._dense(), self._sparse())

    def __call__(self, piece: Piece, factor: float, columns: Sequence[Tensor]) -> None:
        """Let one piece, times ``factor``, enter the flat ``columns`` of its tensor."""
        values, where = piece.values(), piece.where()
        dense, sparse = (self._dense(), self._sparse()) if self.loop else (None, None)
        if sparse is not None and isinstance(where, Tensor):
            held = [column.numpy() for column in columns]
            sparse(values.numpy(), np.float32(factor), where.numpy(), *held)
        elif dense is not None and isinstance(where, slice):
            dense(values.numpy(), np.float32(factor), *[c[where].numpy() for c in columns])
        elif isinstance(where, slice):
            self.plain(values * factor, *[column[where] for column in columns])
        else:
            gathered = [column[where] for column in columns]
            self.plain(values * factor, *gathered)
            for column, updated in zip(columns, gathered, strict=True):
                column[where] = updated

    def _dense(self) -> Loop | None:
        return compiled(self.loop, (torch.float32, None, *self.layout.values()))

    def _sparse(self) -> Loop | None:
        return compiled(
            f"{self.loop}_at", (torch.float32, None, torch.int64, *self.layout.values())
        )


@dataclass(frozen=True)
class Emit:
    """One step of ``combine``: ``plain(*columns)`` returns the combined values (n,)."""

    plain: Callable[..., Tensor]
    layout: Layout
    loop: str = ""

    def is_compiled(self) -> bool:
        """Whether the fused loop is at hand; compiles it at the first call."""
        return bool(self.loop) and self._fused() is not None

    def __call__(self, piece: Piece, columns: Sequence[Tensor]) -> None:
        """Write the combined values of one piece of the output, which is a view."""
        held = [column[piece.where()] for column in columns]
        fused = self._fused() if self.loop else None
        if fused is None:
            piece.view.copy_(self.plain(*held))
        else:
            fused(piece.view.numpy(), *[column.numpy() for column in held])

    def _fused(self) -> Loop | None:
        return compiled(self.loop, (torch.float32, *self.layout.values()))


@functools.cache
def compiled(loop: str, arguments: tuple[torch.dtype | None, ...]) -> Loop | None:
    """The fused loop of that name, compiled for flat tensors of these types.

    ``None`` among the types stands for a float32 number. It is tried on empty tensors first, so
    that a failure to compile shows before any state is touched.

    Returns:
        The loop, or None where numba is missing or cannot compile it here.
    """
    try:
        fused: Loop = getattr(importlib.import_module("expunge.aggregation.compiled"), loop)
        fused(
            *[
                np.float32(1.0) if dtype is None else torch.zeros(0, dtype=dtype).numpy()
                for dtype in arguments
            ]
        )
    except Exception as error:  # whatever keeps numba from working, torch gives the same bits
        warnings.warn(
            f"numba cannot compile the loop {loop} here ({error}); the slower torch form with the "
            "same result is used instead. `pip install --force-reinstall numba` may repair it.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return fused


def add_counted_votes(
    values: Tensor, positive: Tensor, negative: Tensor, ups: Tensor, downs: Tensor
) -> None:
    """Sums and counts of the positive values and of the magnitudes of the negative ones."""
    add_votes(values, positive, negative)
    ups.add_(values > 0)
    downs.add_(values < 0)


def add_votes(values: Tensor, positive: Tensor, negative: Tensor) -> None:
    """Sums of the positive values and of the magnitudes of the negative ones."""
    positive.add_(values.clamp(min=0))
    negative.sub_(values.clamp(max=0))


def add_votes_and_largest(
    values: Tensor, positive: Tensor, negative: Tensor, highest: Tensor, lowest: Tensor
) -> None:
    """Sums of both signs, and the largest magnitude of each sign."""
    add_votes(values, positive, negative)
    torch.maximum(highest, values.clamp(min=0), out=highest)
    torch.maximum(lowest, values.neg().clamp(min=0), out=lowest)


def add_values(values: Tensor, total: Tensor) -> None:
    """The sum of the values."""
    total.add_(values)


def write_first(values: Tensor, written: Tensor) -> None:
    """The first value that is not zero."""
    written.copy_(torch.where(written != 0, written, values))


def majority_mean(positive: Tensor, negative: Tensor, ups: Tensor, downs: Tensor) -> Tensor:
    """Where one sign outweighs the other, the mean of its values; elsewhere zero."""
    lost = torch.where(negative > positive, -negative / downs, 0.0)
    return torch.where(positive > negative, positive / ups, lost)


def majority_sum(positive: Tensor, negative: Tensor) -> Tensor:
    """Where one sign outweighs the other, the sum of its values; elsewhere zero."""
    return torch.where(
        positive > negative, positive, torch.where(negative > positive, -negative, 0.0)
    )


def majority_largest(positive: Tensor, negative: Tensor, highest: Tensor, lowest: Tensor) -> Tensor:
    """Where one sign outweighs the other, its value of largest magnitude; elsewhere zero."""
    return torch.where(positive > negative, highest, torch.where(negative > positive, -lowest, 0.0))


def unanimous_mean(positive: Tensor, negative: Tensor, ups: Tensor, downs: Tensor) -> Tensor:
    """The mean of the non-zero values where all have one sign; elsewhere zero."""
    agreed = (ups == 0) != (downs == 0)
    count = ups.float() + downs.float()
    return torch.where(agreed, (positive - negative) / count, 0.0)


COUNTED: Layout = {
    "positive": torch.float32,
    "negative": torch.float32,
    "ups": torch.int16,
    "downs": torch.int16,
}
SIGNED: Layout = {"positive": torch.float32, "negative": torch.float32}
LARGEST: Layout = {**SIGNED, "highest": torch.float32, "lowest": torch.float32}
TOTAL: Layout = {"total": torch.float32}
WRITTEN: Layout = {"written": torch.float32}

COUNTED_VOTES = Absorb(add_counted_votes, COUNTED, "counted_votes")
VOTES = Absorb(add_votes, SIGNED, "votes")
VOTES_AND_LARGEST = Absorb(add_votes_and_largest, LARGEST, "votes_and_largest")
VALUES = Absorb(add_values, TOTAL)
FIRST = Absorb(write_first, WRITTEN, "first")

MAJORITY_MEAN = Emit(majority_mean, COUNTED, "majority_mean")
MAJORITY_SUM = Emit(majority_sum, SIGNED, "majority_sum")
MAJORITY_LARGEST = Emit(majority_largest, LARGEST, "majority_largest")
UNANIMOUS_MEAN = Emit(unanimous_mean, COUNTED, "unanimous_mean")
