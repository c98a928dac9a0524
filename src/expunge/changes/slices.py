"""Slices of the entries of a delta, so that no rule needs a second copy of a tensor in memory.

A slice is ``SLICE`` coordinates of float32 (4 MiB). The torch expressions of the rules work on
quarter slices: their temporaries, eight at most, then stay within two slices.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.changes.delta import Delta, Entry, Sparse
from expunge.errors import ExpungeError, IntegrityError

SLICE = 1 << 20
QUARTER = SLICE // 4


@dataclass(frozen=True)
class Piece:
    """Some coordinates of one tensor in canonical order.

    They are ``start``, ``start + 1``, ... of the flat tensor, or ``indices`` (n,) where given.
    """

    start: int
    view: Tensor
    indices: Tensor | None = None

    def values(self) -> Tensor:
        """The values (n,), float32 on the CPU: a view where the entry is that already."""
        return self.view.detach().reshape(-1).to("cpu", torch.float32)

    def where(self) -> slice | Tensor:
        """What selects these coordinates in a flat tensor of the same shape."""
        if self.indices is None:
            return slice(self.start, self.start + self.view.numel())
        return self.indices


def pieces_of(entry: Entry, size: int) -> Iterator[Piece]:
    """The coordinates of one entry in canonical order, at most ``size`` at a time.

    Nothing is copied here; a tensor that is not contiguous is copied piece by piece when the values
    are asked for. Of a sparse entry only the stored coordinates appear.
    """
    if isinstance(entry, Sparse):
        for start in range(0, len(entry.values), size):
            stop = start + size
            indices = entry.indices[start:stop].to("cpu", torch.int64).contiguous()
            yield Piece(start, entry.values[start:stop], indices)
    else:
        yield from _dense_pieces(entry, size, 0)


def _dense_pieces(tensor: Tensor, size: int, offset: int) -> Iterator[Piece]:
    if tensor.is_contiguous():
        flat = tensor.view(-1)
        for start in range(0, flat.numel(), size):
            yield Piece(offset + start, flat[start : start + size])
        return
    row = tensor[0].numel()
    if row > size:
        for number, part in enumerate(tensor):
            yield from _dense_pieces(part, size, offset + number * row)
        return
    rows = size // row
    for first in range(0, len(tensor), rows):
        yield Piece(offset + first * row, tensor[first : first + rows])


def is_direct(entry: Entry) -> bool:
    """Whether the stored values can be read in place: contiguous float32 on the CPU."""
    values = entry.values if isinstance(entry, Sparse) else entry
    return values.dtype == torch.float32 and values.device.type == "cpu" and values.is_contiguous()


def admitted(delta: Delta, strength: float, base: str, shapes: Mapping[str, torch.Size]) -> float:
    """Check that a delta may enter a fold over ``base`` and ``shapes``.

    Returns:
        The strength as the float32 number that multiplies the delta.

    Raises:
        IntegrityError: another base, an unknown parameter, or another shape.
        ExpungeError: the strength is not a finite float32 number.
    """
    if delta.base != base:
        raise IntegrityError(
            f"The change was made for the base {delta.base[:12]}, and this history belongs to "
            f"{base[:12]}; make the change again from the base of the history."
        )
    for name, entry in delta.entries.items():
        if name not in shapes:
            raise IntegrityError(
                f"The change names {name!r}, which the state of this history does not have; "
                "start the state with the shapes of every parameter that a request may change."
            )
        if torch.Size(entry.shape) != shapes[name]:
            raise IntegrityError(
                f"{name!r} has shape {tuple(entry.shape)} in the change and {tuple(shapes[name])} "
                "in the state; the shapes must be equal. Make the change from the same base."
            )
    factor = float(torch.tensor(strength, dtype=torch.float32))
    if not math.isfinite(factor):
        raise ExpungeError(
            f"The strength is {strength}; a finite number is expected, for example 1.0."
        )
    return factor
