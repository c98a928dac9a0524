"""Deterministic stratified splits of small labelled tables.

The split of a row follows from its id alone, through SHA-256, and not from a random generator, so
that it is the same on every machine and with every library version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

TRAIN, VALIDATION, TEST = "train", "validation", "test"
NAMES = (TRAIN, VALIDATION, TEST)
TRAIN_SHARE, VALIDATION_SHARE = 0.6, 0.2  # the rest is the test split
HELD_OUT_EVERY = 6
"""Of a source's own training rows, in their order, one in so many is for validation."""


def stratified(ids: Sequence[str], labels: Sequence[int]) -> list[str]:
    """Splits every class 60/20/20, up to rounding, in the order of the SHA-256 of the ids.

    Args:
        ids: one stable id a row.
        labels: the class of each row.

    Returns:
        The name of the split of each row.
    """
    members: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        members.setdefault(label, []).append(row)
    split = [TEST] * len(ids)
    for rows in members.values():
        rows.sort(key=lambda row: hashlib.sha256(ids[row].encode()).digest())
        first = round(TRAIN_SHARE * len(rows))
        second = round((TRAIN_SHARE + VALIDATION_SHARE) * len(rows))
        for row in rows[:first]:
            split[row] = TRAIN
        for row in rows[first:second]:
            split[row] = VALIDATION
    return split


def of_source(part: str, position: int) -> str:
    """The split of a row of a source that comes in two parts, training and test.

    Args:
        part: "train" or "test".
        position: of the row in its part, from 0.
    """
    held = part == TRAIN and position % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return VALIDATION if held else part
