"""Reading Hugging Face tables: one split, one column of equal-length lists, the classes."""

from __future__ import annotations

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from expunge.data import splits
from expunge.errors import ExpungeError


def of_split(table: datasets.Dataset, split: str | None, name: str) -> datasets.Dataset:
    """Returns the rows of a split, in table order; all rows when the split is None.

    Args:
        table: a table with a column "split".
        split: one of the names in `splits.NAMES`, or None.
        name: what the table holds, for the error text.

    Raises:
        ExpungeError: there is no split of that name.
    """
    if split is None:
        return table
    if split not in splits.NAMES:
        raise ExpungeError(
            f"Split {split!r} of {name} was asked for; the splits are {', '.join(splits.NAMES)}. "
            "Name one of them, or none for all rows."
        )
    rows = np.flatnonzero(np.asarray(table.with_format("arrow")["split"][:]) == split)
    return table.select(rows)


def column(table: datasets.Dataset, name: str) -> pa.ChunkedArray:
    """Returns one column as Arrow data, undecoded, in the row order of the table."""
    return table.select_columns(name).with_format("arrow")[:].column(name)


def numbers(table: datasets.Dataset, name: str) -> npt.NDArray[np.generic]:
    """Returns a column of equal-length lists of numbers as an array (rows, length)."""
    data = column(table, name).combine_chunks()
    if len(data) == 0:
        return np.zeros((0, data.type.list_size), dtype=data.type.value_type.to_pandas_dtype())
    values: npt.NDArray[np.generic] = data.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(data), -1)


def labels(table: datasets.Dataset) -> torch.Tensor:
    """Returns the column "label" as int64 (rows,)."""
    return torch.tensor(column(table, "label").to_numpy(), dtype=torch.int64)
