"""Trim: keep exactly the k coordinates of largest magnitude of a whole task vector.

Yadav, Tam, Choshen, Raffel, Bansal (2023). TIES-Merging: Resolving Interference When Merging
Models. Step 3 of Lin, Dong, Chen, Zhang, Xu, Chen (2026), CATA.

The k-th magnitude is found without sorting or joining the tensors: the bits of a non-negative
float32 order as the number does, so one pass counts the upper 15 bits of all magnitudes, and a
second the lower 16 of those that share the upper bits of the k-th. Of equal magnitudes, those first
in canonical order (names sorted, then flat index) are kept.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.changes.delta import Delta, Entry, Sparse
from expunge.changes.slices import QUARTER, pieces_of
from expunge.errors import ExpungeError

MAGNITUDE = 0x7FFF_FFFF
LOW_BITS = 16

Bits = NDArray[np.int32]
Counts = NDArray[np.int64]


def trimmed(delta: Delta, fraction: float) -> Delta:
    """The delta with only its k largest coordinates, k = max(1, round(fraction * d)).

    d counts the coordinates of all entries of the delta; a parameter that did not move is no entry.
    Python's ``round`` takes the even number of two equally near. Fewer than k coordinates remain
    only where fewer are not zero. Beyond the delta and the result this takes two slices of memory.

    Args:
        delta: the task vector; its buffers belong to the whole displacement and are dropped.
        fraction: the share to keep, above 0 and at most 1; 1 keeps every coordinate.

    Returns:
        The trimmed delta; an entry is sparse where that takes less room.

    Raises:
        ExpungeError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ExpungeError(
            f"The kept fraction is {fraction}; a number above 0 and at most 1 is expected, for "
            "example 0.3."
        )
    total = sum(shape.numel() for shape in delta.shapes().values())
    threshold, ties = _threshold(delta, max(1, round(fraction * total)))
    entries: dict[str, Entry] = {}
    for name in sorted(delta.entries):
        entries[name], ties = _cut(delta.entries[name], threshold, ties)
    facts = {**delta.facts, "kept_fraction": fraction}
    return replace(delta, entries=entries, buffers={}, facts=facts)


def _threshold(delta: Delta, keep: int) -> tuple[int, int]:
    """The bits of the ``keep``-th magnitude, and how many of that magnitude are kept.

    Zeros are never counted: (0, 0) where at most ``keep`` coordinates are not zero.
    """
    upper = np.zeros(1 << (31 - LOW_BITS), dtype=np.int64)
    zeros = 0
    for bits in _magnitudes(delta):
        upper += np.bincount(bits >> LOW_BITS, minlength=len(upper))
        zeros += len(bits) - int(np.count_nonzero(bits))
    upper[0] -= zeros
    if upper.sum() <= keep:
        return 0, 0
    high, rest = _bin_of(upper, keep)
    lower = np.zeros(1 << LOW_BITS, dtype=np.int64)
    for bits in _magnitudes(delta):
        inside = bits[bits >> LOW_BITS == high]
        lower += np.bincount(inside & ((1 << LOW_BITS) - 1), minlength=len(lower))
    if high == 0:
        lower[0] = 0
    low, ties = _bin_of(lower, rest)
    return (high << LOW_BITS) | low, ties


def _bin_of(histogram: Counts, rank: int) -> tuple[int, int]:
    """The bin of the ``rank``-th largest number, and its rank (from 1) inside that bin."""
    at_least = histogram[::-1].cumsum()
    place = int(np.searchsorted(at_least, rank))
    above = int(at_least[place - 1]) if place else 0
    return len(histogram) - 1 - place, rank - above


def _magnitudes(delta: Delta) -> Iterator[Bits]:
    for entry in delta.entries.values():
        for piece in pieces_of(entry, QUARTER):
            yield _bits(piece.values())


def _bits(values: Tensor) -> Bits:
    bits: Bits = values.numpy().view(np.int32) & MAGNITUDE
    return bits


def _cut(entry: Entry, threshold: int, ties: int) -> tuple[Entry, int]:
    """One trimmed entry, and the ties that remain for the entries after it."""
    count, left = 0, ties
    for piece in pieces_of(entry, QUARTER):
        mask, left = _mask(piece.values(), threshold, left)
        count += int(np.count_nonzero(mask))
    sparse = 3 * count < entry.shape.numel()
    indices = torch.empty(count if sparse else 0, dtype=torch.int64)
    kept = torch.empty(count) if sparse else torch.zeros(entry.shape)
    end = 0
    for piece in pieces_of(entry, QUARTER):
        values = piece.values()
        mask, ties = _mask(values, threshold, ties)
        at = np.flatnonzero(mask)
        place = at + piece.start if piece.indices is None else piece.indices.numpy()[at]
        if sparse:
            indices.numpy()[end : end + len(at)] = place
            kept.numpy()[end : end + len(at)] = values.numpy()[at]
            end += len(at)
        else:
            kept.view(-1).numpy()[place] = values.numpy()[at]
    shape = torch.Size(entry.shape)
    return (Sparse(indices, kept, shape) if sparse else kept), ties


def _mask(values: Tensor, threshold: int, ties: int) -> tuple[NDArray[np.bool_], int]:
    """Which of these values stay, and the ties that remain for those after them."""
    bits = _bits(values)
    mask = bits > threshold
    equal = np.flatnonzero(bits == threshold)[:ties]
    mask[equal] = True
    return mask, ties - len(equal)
