"""Tables of the user's own: Parquet, CSV, JSON lines, a ``datasets`` folder, or a shipped set.

Columns are mapped to the names that the package uses; where there is no ``id``, the SHA-256 of a
row's content is its id, so that the same row has the same id wherever it stands.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from expunge.data import digits, emoji_grid, mnist
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError

SHIPPED = {"digits": digits, "mnist-5k": mnist, "emoji": emoji_grid}
READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}


class Columns(BaseModel):
    """Which of the user's columns plays which part.

    Args:
        id: stable id of a row; without one, a hash of the row's content.
        subject: whose or what the row is; the id by default.
        label: the class, an integer, or text that ``classes`` lists.
        classes: the texts of the classes in the model's order, where labels are text.
        input: columns of numbers, or one column of arrays or pictures.
        input_field: the name under which the model's family reads the input.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = None
    subject: str | None = None
    label: str = "label"
    classes: tuple[str, ...] = ()
    input: str | tuple[str, ...] = "image"
    input_field: str = "image"


def load_rows(
    source: str, split: str | None, columns: Columns, folder: Path = Path()
) -> tuple[datasets.Dataset, TensorSamples]:
    """A table with the columns ``id``, ``subject`` and ``label``, and its rows as tensors.

    Args:
        source: ``digits``, ``mnist-5k``, ``emoji``, or a path relative to ``folder``.
        split: keep the rows whose column ``split`` holds this.
        columns: the user's names; not used for shipped sets.
        folder: where relative paths start.

    Raises:
        ExpungeError: the source cannot be read, or a column or split is not there.
    """
    if source in SHIPPED:
        module = SHIPPED[source]
        table = module.load(split)
        tensors: Mapping[str, Tensor] = module.tensors(table)
    else:
        table = _mapped(_opened(folder / source, split), columns)
        tensors = {
            columns.input_field: _inputs(table, columns),
            "label": torch.tensor(list(table["label"])),
        }
    return table, samples(table, tensors)


def samples(table: datasets.Dataset, tensors: Mapping[str, Tensor]) -> TensorSamples:
    """The rows of a table with columns ``id`` and ``subject``, and their tensors.

    Raises:
        ExpungeError: an id stands in two rows.
    """
    ids = [str(value) for value in table["id"]]
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ExpungeError(
            f"The id {repeated[0]!r} stands in several rows; ids must be unique. Name another "
            "column, or drop the duplicates."
        )
    return TensorSamples(ids, [str(v) for v in table["subject"]], dict(tensors))


def _opened(path: Path, split: str | None) -> datasets.Dataset:
    if not path.exists():
        raise ExpungeError(
            f"There is no table {path}; give a path, or one of {', '.join(sorted(SHIPPED))}."
        )
    if not path.is_dir() and path.suffix not in READERS:
        raise ExpungeError(
            f"{path} ends in {path.suffix!r}; {', '.join(READERS)} or a folder saved by "
            "`datasets` is expected."
        )
    try:
        if path.is_dir():
            table = datasets.load_from_disk(str(path))
        else:
            reader = getattr(datasets.Dataset, f"from_{READERS[path.suffix]}")
            table = reader(str(path), keep_in_memory=True)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise ExpungeError(f"{path} cannot be read as a table: {error}") from None
    if split is None:
        return table
    _needed(table, "split")
    kept = [i for i, value in enumerate(table["split"]) if str(value) == split]
    if not kept:
        known = ", ".join(sorted({str(value) for value in table["split"]}))
        raise ExpungeError(f"No row of {path} has the split {split!r}; it has {known}.")
    return table.select(kept)


def _needed(table: datasets.Dataset, column: str) -> None:
    if column not in table.column_names:
        raise ExpungeError(
            f"The table has no column {column!r}; it has {', '.join(table.column_names)}. "
            "Map the column in the run file."
        )


def _mapped(table: datasets.Dataset, columns: Columns) -> datasets.Dataset:
    inputs = (columns.input,) if isinstance(columns.input, str) else columns.input
    for column in (*inputs, columns.label, columns.id, columns.subject):
        if column is not None:
            _needed(table, column)
    ids = [_content_id(row) for row in table] if columns.id is None else table[columns.id]
    subjects = ids if columns.subject is None else table[columns.subject]
    labels = [_class_of(value, columns.classes) for value in table[columns.label]]
    texts = {"id": [str(v) for v in ids], "subject": [str(v) for v in subjects]}
    for name, values in {**texts, "label": labels}.items():
        if name in table.column_names:
            table = table.remove_columns(name)
        table = table.add_column(name, values)
    return table


def _class_of(value: object, classes: tuple[str, ...]) -> int:
    if classes:
        if str(value) not in classes:
            raise ExpungeError(
                f"A row has the label {value!r}; `classes` lists {', '.join(classes[:5])} ... . "
                "Add it there in the model's order."
            )
        return classes.index(str(value))
    if not isinstance(value, int):
        raise ExpungeError(
            f"A row has the label {value!r}, which is no integer; list the texts of the classes "
            "under `classes`, in the model's order."
        )
    return value


def _content_id(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()[:32]


def _inputs(table: datasets.Dataset, columns: Columns) -> Tensor:
    if isinstance(columns.input, tuple):
        found = [np.asarray(list(table[name]), dtype=np.float32) for name in columns.input]
        return torch.from_numpy(np.stack(found, axis=1))
    values = list(table[columns.input])
    if hasattr(values[0], "convert"):  # decoded pictures
        arrays = [np.asarray(v.convert("RGB"), np.float32).transpose(2, 0, 1) / 255 for v in values]
    else:
        arrays = [np.asarray(v, dtype=np.float32) for v in values]
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise ExpungeError(
            f"The column {columns.input!r} holds arrays of shapes {sorted(shapes)[:3]}; one shape "
            "is expected. Bring them to one size first."
        )
    return torch.from_numpy(np.stack(arrays))
