"""Samples: rows with stable ids, served to training and measuring as batches of tensors.

Tables live in Hugging Face ``datasets``; a model reads :class:`Samples`. :class:`TensorSamples`
keeps its columns in memory, :class:`TableSamples` decodes rows of an Arrow table when asked.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from expunge.errors import ExpungeError

Batch = Mapping[str, Tensor]
"""Tensors of one batch by field; the first dimension of each is the batch (B)."""

ROW = "row"
"""The field of every batch that holds the position (B,) of its rows in their samples."""


class Samples(Protocol):
    """Rows that can be counted, selected and read in batches."""

    @property
    def ids(self) -> Sequence[str]:
        """The stable id of each row."""
        ...

    @property
    def subjects(self) -> Sequence[str]:
        """The subject of each row: whose or what it is."""
        ...

    @property
    def fields(self) -> frozenset[str]:
        """The names of the tensors that a batch can hold."""
        ...

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """The named fields (all by default) of the rows (B,), and their positions as ``row``."""
        ...

    def select(self, rows: Tensor) -> "Samples":
        """The samples at these positions (n,), in this order."""
        ...


@dataclass(frozen=True)
class TensorSamples:
    """Samples whose columns are tensors in memory, each of first dimension ``len(ids)``."""

    ids: Sequence[str]
    subjects: Sequence[str]
    columns: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        sizes = {"subjects": len(self.subjects), **{n: len(c) for n, c in self.columns.items()}}
        for name, size in sizes.items():
            if size != len(self.ids):
                raise ExpungeError(
                    f"Column {name!r} has {size} rows and there are {len(self.ids)} ids; "
                    "give one value for each row."
                )

    @property
    def fields(self) -> frozenset[str]:
        """The names of the columns."""
        return frozenset(self.columns)

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """The named columns (all by default) at ``rows`` (B,), and ``row``."""
        wanted = self.columns if fields is None else fields
        return {**{name: self.columns[name][rows] for name in wanted}, ROW: rows}

    def select(self, rows: Tensor) -> Self:
        """The samples at these positions."""
        positions = rows.tolist()
        return type(self)(
            [self.ids[i] for i in positions],
            [self.subjects[i] for i in positions],
            {name: column[rows] for name, column in self.columns.items()},
        )

    def with_column(self, name: str, column: Tensor) -> Self:
        """The same samples with one more column, or another one in its place."""
        return type(self)(self.ids, self.subjects, {**self.columns, name: column})


class Table(Protocol):
    """What :class:`TableSamples` asks of a ``datasets.Dataset``."""

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: str) -> Sequence[object]: ...

    def select(self, indices: Sequence[int]) -> "Table":
        """The rows at these positions."""
        ...


@dataclass(frozen=True)
class TableSamples:
    """Samples over an Arrow table, decoded batch by batch.

    ``decode`` turns a table of a few rows into tensors by field; ``fields`` names what it returns.
    The table needs the columns ``id`` and ``subject``.
    """

    table: Table
    decode: Callable[[Table], Mapping[str, Tensor]]
    fields: frozenset[str]

    def __post_init__(self) -> None:
        for column in ("id", "subject"):
            if column not in self.table.column_names:
                raise ExpungeError(
                    f"The table has the columns {', '.join(self.table.column_names)}; "
                    f"a column {column!r} is expected. Map one in the run file."
                )

    @property
    def ids(self) -> Sequence[str]:
        """The column ``id``."""
        return [str(value) for value in self.table["id"][:]]

    @property
    def subjects(self) -> Sequence[str]:
        """The column ``subject``."""
        return [str(value) for value in self.table["subject"][:]]

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """The named fields of ``rows`` (B,), decoded now, and ``row``."""
        decoded = self.decode(self.table.select(rows.tolist()))
        wanted = self.fields if fields is None else fields
        return {**{name: decoded[name] for name in wanted}, ROW: rows}

    def select(self, rows: Tensor) -> Self:
        """The samples at these positions."""
        return type(self)(self.table.select(rows.tolist()), self.decode, self.fields)


@dataclass(frozen=True, eq=False)
class Joined:
    """Rows of several sets of samples as one set.

    Args:
        parts: one or more.
        places: (n,) positions in the parts one after another.
    """

    parts: tuple[Samples, ...]
    places: Tensor

    @classmethod
    def of(cls, *parts: Samples) -> Self:
        """All rows of all parts, in their order."""
        return cls(parts, torch.arange(sum(map(len, parts))))

    @property
    def ids(self) -> Sequence[str]:
        """The id of each row."""
        known = [name for part in self.parts for name in part.ids]
        return [known[place] for place in self.places.tolist()]

    @property
    def subjects(self) -> Sequence[str]:
        """The subject of each row."""
        known = [name for part in self.parts for name in part.subjects]
        return [known[place] for place in self.places.tolist()]

    @property
    def fields(self) -> frozenset[str]:
        """Those that all parts have."""
        return frozenset.intersection(*(part.fields for part in self.parts))

    def __len__(self) -> int:
        return len(self.places)

    def owner(self, rows: Tensor) -> Tensor:
        """The number of the part (B,) that each of the rows (B,) is of."""
        return torch.bucketize(self.places[rows], self._ends(), right=True)

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """The named fields (all common ones by default) of the rows (B,), in their order."""
        wanted = self.fields if fields is None else fields
        owner, ends = self.owner(rows), self._ends()
        order, found = [], []
        for number, part in enumerate(self.parts):
            own = (owner == number).nonzero().reshape(-1)
            if len(own):
                start = int(ends[number]) - len(part)
                order.append(own)
                found.append(part.batch(self.places[rows[own]] - start, wanted))
        back = torch.cat(order).argsort()
        joined = {name: torch.cat([one[name] for one in found])[back] for name in wanted}
        return {**joined, ROW: rows}

    def select(self, rows: Tensor) -> Self:
        """The rows at these positions, in this order."""
        return type(self)(self.parts, self.places[rows])

    def _ends(self) -> Tensor:
        return torch.tensor([len(part) for part in self.parts]).cumsum(0)


def all_but(count: int, rows: Tensor) -> Tensor:
    """The positions (n,), ascending, of ``count`` rows that are not among ``rows``."""
    kept = torch.ones(count, dtype=torch.bool)
    kept[rows] = False
    return kept.nonzero().reshape(-1)


def batches(samples: Samples, size: int) -> Iterator[Batch]:
    """Every row once, in order, ``size`` rows at a time."""
    for start in range(0, len(samples), size):
        yield samples.batch(torch.arange(start, min(start + size, len(samples))))
