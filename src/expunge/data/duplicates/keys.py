"""Rows of tables that agree on identifying columns, or on all their numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from expunge.data.duplicates.found import (
    Match,
    Nearest,
    Positions,
    matches_by_parts,
    nearest_by_parts,
)
from expunge.data.duplicates.normal import normalised, words

ADDRESS = re.compile(r"([^\s@<>()\[\],;:\"']+)@([^\s@<>()\[\],;:\"']+)")
AT_ONCE = 64
"""Queries that are compared with all rows at a time."""


def key_of(value: object) -> str:
    """A value as it is compared: equal for two ways to write one name, address or date.

    An e-mail address loses its case and what follows ``+``. Of anything else the words are sorted,
    so that "Lovelace, Ada" is "Ada Lovelace" and 10.12.1815 is 1815-12-10; numbers lose leading
    zeros. Day and month are therefore not told apart, which other columns have to do.
    """
    if value is None:
        return ""
    plain = normalised(str(value))
    address = ADDRESS.fullmatch(plain)
    if address:
        return f"{address[1].partition('+')[0]}@{address[2]}"
    return " ".join(sorted(str(int(w)) if w.isdecimal() else w for w in words(plain)))


@dataclass(frozen=True)
class Keys:
    """Identifying columns: ``values`` (n, k) holds the normalised values, empty where missing."""

    values: npt.NDArray[np.str_]

    @classmethod
    def of(cls, columns: Sequence[Sequence[object]]) -> Keys:
        """Keys from k columns of n values."""
        normal = [[key_of(value) for value in column] for column in columns]
        return cls(np.array(normal, dtype=np.str_).reshape(len(columns), -1).T)

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: Sequence[int]) -> Keys:
        """The rows at these positions."""
        return Keys(self.values[np.array(rows, np.int64)])


@dataclass(frozen=True)
class KeyAgreement:
    """Rows with the same values in all identifying columns.

    Args:
        threshold: least share of the columns that agree; a missing value agrees with nothing.
    """

    name: ClassVar[str] = "same keys"

    threshold: float = 1.0

    def matches(self, queries: Keys, rows: Keys) -> list[Match]:
        """Every row that agrees with a query in enough columns."""
        shares = partial(self._shares, queries, rows)
        return matches_by_parts(len(queries), AT_ONCE, shares, self.threshold)

    def nearest(self, queries: Keys, rows: Keys, own: Positions | None = None) -> Nearest:
        """The row that agrees in most columns."""
        shares = partial(self._shares, queries, rows)
        return nearest_by_parts(len(queries), AT_ONCE, shares, own)

    def _shares(self, queries: Keys, rows: Keys, part: slice) -> npt.NDArray[np.float64]:
        values = queries.values[part]
        shares = np.zeros((len(values), len(rows)))
        for asked, held in zip(values.T, rows.values.T, strict=True):
            shares += (asked[:, None] == held) & (asked != "")[:, None]
        return np.asarray(shares / max(values.shape[1], 1), np.float64)


@dataclass(frozen=True)
class Numbers:
    """Columns of numbers: ``values`` (n, k) float64, NaN where missing."""

    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: Sequence[int]) -> Numbers:
        """The rows at these positions."""
        return Numbers(self.values[np.array(rows, np.int64)])


@dataclass(frozen=True)
class NumbersAgree:
    """Rows whose numbers are nearly equal.

    Similarity is the share of the columns in which two rows agree. Where columns hold few different
    values, unrelated rows agree too: the rank of the nearest row says how much that tells.

    Args:
        threshold: least share of the columns that agree.
        tolerance: two numbers agree where they differ by at most this share of the column's
            standard deviation over the searched rows.
    """

    name: ClassVar[str] = "same numbers"

    threshold: float = 1.0
    tolerance: float = 0.001

    def matches(self, queries: Numbers, rows: Numbers) -> list[Match]:
        """Every row that agrees with a query in enough columns."""
        shares = partial(self._shares, queries, rows)
        return matches_by_parts(len(queries), AT_ONCE, shares, self.threshold)

    def nearest(self, queries: Numbers, rows: Numbers, own: Positions | None = None) -> Nearest:
        """The row that agrees in most columns."""
        shares = partial(self._shares, queries, rows)
        return nearest_by_parts(len(queries), AT_ONCE, shares, own)

    def _shares(self, queries: Numbers, rows: Numbers, part: slice) -> npt.NDArray[np.float64]:
        values = queries.values[part]
        shares = np.zeros((len(values), len(rows)))
        for asked, held in zip(values.T, rows.values.T, strict=True):
            known = held[np.isfinite(held)]
            allowed = self.tolerance * (float(known.std()) if len(known) else 0.0)
            shares += np.abs(asked[:, None] - held) <= allowed
        return np.asarray(shares / max(values.shape[1], 1), np.float64)
