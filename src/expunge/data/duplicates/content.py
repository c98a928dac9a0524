"""A table as it is searched: its ids, what each column holds, and what of it is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import numpy.typing as npt
from PIL import Image

from expunge.data.duplicates.keys import Keys, Numbers
from expunge.data.duplicates.pictures import Embed, Pictures
from expunge.data.duplicates.text import Texts
from expunge.data.mapping import Columns
from expunge.data.own import SHIPPED, content_ids, open_table
from expunge.errors import ExpungeError

Kind = Literal["text", "picture", "number", "other"]
ABOUT = ("id", "subject", "label", "split", "licence")
"""Columns that say what a row is: not compared unless they are asked for."""
IMAGE = "image"
"""The package's own name for a column of pictures, which may be flat lists of grey levels."""
FREE_WORDS = 3
"""Words, on average, from which a column of text is free text and not a category."""
SCALES = (1.0, 16.0, 255.0)
"""Largest values of grey levels that are known; the smallest that fits is white."""


@dataclass(frozen=True)
class Searched:
    """A table that is searched.

    Args:
        name: what the user calls it.
        table: its rows.
        id_column: the column of stable ids; without one, a row's id is the hash of its content.
    """

    name: str
    table: datasets.Dataset
    id_column: str | None = "id"

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def ids(self) -> Sequence[str]:
        """The id of each row."""
        if self.id_column is None:
            return content_ids(self.table)
        return [str(value) for value in self.table[self.id_column]]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content of all rows, whatever their order."""
        sha = hashlib.sha256()
        for row in sorted(content_ids(self.table)):
            sha.update(row.encode())
        return sha.hexdigest()

    def kind(self, column: str) -> Kind:
        """What a column holds.

        Raises:
            ExpungeError: there is no such column.
        """
        if column not in self.table.column_names:
            raise ExpungeError(
                f"{self.name} has no column {column!r}; it has "
                f"{', '.join(self.table.column_names)}. Name one of these."
            )
        return _kind(column, self.table.features[column])

    def texts(self) -> dict[str, list[str]]:
        """Every column that can name somebody: text, lists of text, and whole numbers."""
        found = {}
        for name, feature in self.table.features.items():
            if _names_somebody(feature):
                found[name] = [_as_text(value) for value in self.table[name]]
        return found

    def compared_by_default(self) -> tuple[str, ...]:
        """The columns of content: pictures and free text, else all that is not about the row."""
        columns = [c for c in self.table.column_names if c not in {*ABOUT, self.id_column}]
        content = [c for c in columns if self.kind(c) == "picture" or self._is_free_text(c)]
        return tuple(content or [c for c in columns if self.kind(c) != "other"])

    def column_of_texts(self, column: str) -> Texts:
        """A column of text, prepared for the detectors."""
        return Texts.of([_as_text(value) for value in self.table[column]])

    def column_of_pictures(self, column: str, embed: Embed | None = None) -> Pictures:
        """A column of pictures, decoded one by one."""
        return Pictures.of(self._pictures(column), embed)

    def columns_of_numbers(self, columns: Sequence[str]) -> Numbers:
        """Columns of numbers; a missing value is NaN."""
        parts = [np.zeros((len(self), 0))]
        for name in columns:
            values = np.array([_number(value) for value in self.table[name]], np.float64)
            parts.append(values[:, None])
        return Numbers(np.concatenate(parts, axis=1))

    def columns_of_keys(self, columns: Sequence[str]) -> Keys:
        """Identifying columns, normalised.

        Raises:
            ExpungeError: one of them is not there.
        """
        for column in columns:
            self.kind(column)
        return Keys.of([self.table[name] for name in columns])

    def _is_free_text(self, column: str) -> bool:
        if self.kind(column) != "text" or len(self) == 0:
            return False
        cells = [
            _as_text(value) for value in self.table.select(range(min(1000, len(self))))[column]
        ]
        words = sum(len(cell.split()) for cell in cells)
        return words >= FREE_WORDS * len(cells)

    def _pictures(self, column: str) -> Iterator[Image.Image | None]:
        if isinstance(self.table.features[column], datasets.Image):
            for row in self.table.select_columns([column]):
                yield row[column]
            return
        values = [None if v is None else np.asarray(v, np.float64) for v in self.table[column]]
        white = _white(values)
        for value in values:
            yield None if value is None else _drawn(value, white)


def open_searched(source: str, id_column: str | None = None) -> Searched:
    """A shipped or fetched set, a file or a folder; ``SOURCE:SPLIT`` is one split of it.

    Args:
        source: as in `expunge.data.own.read_rows`, relative to the current folder.
        id_column: the column of stable ids; by default ``id`` where there is one.

    Raises:
        ExpungeError: the table cannot be read, or the column is not there.
    """
    path, split = _parted(source)
    datasets.disable_progress_bars()
    if path in SHIPPED:
        table = SHIPPED[path].load(split)
    else:
        table, _ = open_table(path, Path(), split, Columns())
    if id_column is None and "id" in table.column_names:
        id_column = "id"
    searched = Searched(source, table, id_column)
    if id_column is not None:
        searched.kind(id_column)
    return searched


def _parted(source: str) -> tuple[str, str | None]:
    path, colon, split = source.rpartition(":")
    if not colon or Path(source).exists() or "/" in split or "\\" in split:
        return source, None
    return path, split


def _kind(name: str, feature: Any) -> Kind:
    if isinstance(feature, datasets.Image):
        return "picture"
    if isinstance(feature, datasets.Value):
        if feature.dtype in ("string", "large_string"):
            return "text"
        return "number" if feature.dtype.startswith(("int", "uint", "float", "bool")) else "other"
    if isinstance(feature, datasets.Array2D | datasets.Array3D):
        return "picture"
    inner = getattr(feature, "feature", None)
    if name == IMAGE and isinstance(inner, datasets.Value | datasets.List):
        return "picture"
    return "text" if _names_somebody(feature) else "other"


def _names_somebody(feature: Any) -> bool:
    if isinstance(feature, datasets.Value):
        return feature.dtype in ("string", "large_string") or "int" in feature.dtype
    inner = getattr(feature, "feature", None)
    return isinstance(inner, datasets.Value) and inner.dtype in ("string", "large_string")


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(_as_text, value)) if isinstance(value, list) else str(value)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _white(values: Sequence[npt.NDArray[np.float64] | None]) -> float:
    largest = max((float(v.max(initial=0)) for v in values if v is not None), default=1.0)
    return next((scale for scale in SCALES if largest <= scale), largest)


def _drawn(value: npt.NDArray[np.float64], white: float) -> Image.Image:
    """Grey levels (h w,), (h, w), or colours (3, h, w), (h, w, 3), as a picture."""
    if value.ndim == 1:
        side = round(len(value) ** 0.5)
        if side * side != len(value):
            raise ExpungeError(
                f"A row has a picture of {len(value)} numbers in one list, which is no square; "
                "store pictures as arrays of height and width."
            )
        value = value.reshape(side, side)
    if value.ndim == 3 and value.shape[0] in (1, 3):
        value = value.transpose(1, 2, 0)
    levels = np.clip(np.nan_to_num(value) * 255 / white, 0, 255).astype(np.uint8)
    return Image.fromarray(levels.squeeze()).convert("RGB")


Prepared = Texts | Pictures | Numbers | Keys
"""Rows of one kind of content, ready for its detectors."""


@dataclass(frozen=True)
class Compared:
    """What of the rows of a table is compared, by a name such as ``text`` or ``name, e-mail``."""

    parts: Mapping[str, Prepared]

    @classmethod
    def of(
        cls,
        searched: Searched,
        columns: Sequence[str],
        keys: Sequence[str] = (),
        embed: Embed | None = None,
    ) -> Compared:
        """The columns of content and the identifying columns ``keys`` of a table.

        Raises:
            ExpungeError: a column is not there, or holds what no detector reads.
        """
        parts: dict[str, Prepared] = {}
        numbers = [c for c in columns if searched.kind(c) == "number"]
        for column in columns:
            kind = searched.kind(column)
            if kind == "text":
                parts[column] = searched.column_of_texts(column)
            elif kind == "picture":
                parts[column] = searched.column_of_pictures(column, embed)
            elif kind == "other":
                raise ExpungeError(
                    f"The column {column!r} of {searched.name} holds neither text nor pictures nor "
                    "single numbers; name another column to compare."
                )
        if numbers:
            parts[", ".join(numbers)] = searched.columns_of_numbers(numbers)
        if keys:
            parts[f"keys {', '.join(keys)}"] = searched.columns_of_keys(keys)
        return cls(parts)

    def select(self, rows: Sequence[int]) -> Compared:
        """The rows at these positions."""
        return Compared({name: part.select(rows) for name, part in self.parts.items()})
