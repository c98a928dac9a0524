"""Tables of the user's own: Parquet, CSV, JSON lines, a ``datasets`` folder, or a shipped set.

Columns are mapped to the names that the package uses. Where no id column is named, the SHA-256 of a
row's content is its id: of its values and the encoded bytes of its pictures, without the column
``split``, so that the same row has the same id in every load and split. Rows that are equal get
``#2``, ``#3`` ... behind it, in table order; since they are equal, either may be either.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import numpy.typing as npt
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
        input_type: ``float`` gives float32; ``integer`` int64, for token ids and table places.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = None
    subject: str | None = None
    label: str = "label"
    classes: tuple[str, ...] = ()
    input: str | tuple[str, ...] = "image"
    input_field: str = "image"
    input_type: Literal["float", "integer"] = "float"


def load_rows(
    source: str, split: str | None, columns: Columns, folder: Path = Path()
) -> tuple[datasets.Dataset, TensorSamples]:
    """A table with the columns ``id``, ``subject`` and ``label``, and its rows as tensors.

    Args:
        source: ``digits``, ``mnist-5k``, ``emoji``, or a path relative to ``folder``.
        split: keep the rows whose column ``split`` holds this; of a folder that was saved from a
            ``DatasetDict``, the table of this name.
        columns: the user's names; a shipped set has its own.
        folder: where relative paths start.

    Raises:
        ExpungeError: the source cannot be read, a column or split is not there, a value is not
            what its column is to hold, or columns were named for a shipped set.
    """
    if source in SHIPPED:
        if columns != Columns():
            raise ExpungeError(
                f"`columns` were given for the shipped set {source!r}, which has its own; leave "
                "them out, or give the path of a table of your own."
            )
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
    if isinstance(table, datasets.DatasetDict):
        if split not in table:
            raise ExpungeError(
                f"The folder {path} holds the splits {', '.join(table)}, and "
                f"{'none' if split is None else repr(split)} was asked for; name one of them."
            )
        return table[split]
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
    ids = content_ids(table) if columns.id is None else table[columns.id]
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


def content_ids(table: datasets.Dataset) -> list[str]:
    """An id for each row from its content, unique by a counter where rows are equal."""
    encoded = table.with_format(None)
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            encoded = encoded.cast_column(name, datasets.Image(decode=False))
    ids, seen = [], Counter[str]()
    for row in encoded:
        name = _content_id({k: v for k, v in row.items() if k != "split"})
        seen[name] += 1
        ids.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return ids


def _content_id(row: Mapping[str, object]) -> str:
    return hashlib.sha256(repr(_canonical(row)).encode()).hexdigest()[:32]


def _canonical(value: Any) -> object:
    """The value as something whose ``repr`` depends on its content alone."""
    if isinstance(value, Mapping):
        if set(value) == {"bytes", "path"}:  # an encoded picture
            content = value["bytes"]
            if content is None and value["path"] is not None:
                content = Path(value["path"]).read_bytes()
            return _canonical(content)
        return [(key, _canonical(value[key])) for key in sorted(value)]
    if isinstance(value, bytes | np.ndarray) or hasattr(value, "tobytes"):
        content = value if isinstance(value, bytes) else value.tobytes()
        kind = getattr(value, "dtype", getattr(value, "mode", None))  # of arrays; of pictures
        shape = getattr(value, "shape", getattr(value, "size", None))
        return str(kind), shape, hashlib.sha256(content).hexdigest()
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


def _inputs(table: datasets.Dataset, columns: Columns) -> Tensor:
    if len(table) == 0:
        raise ExpungeError("The table has no rows; give one that holds at least one.")
    if isinstance(columns.input, tuple):
        found = [
            _finite(table, name, _numbers(list(table[name]), name, columns))
            for name in columns.input
        ]
        return torch.from_numpy(np.stack(found, axis=1))
    values = list(table[columns.input])
    if hasattr(values[0], "convert"):  # decoded pictures
        arrays = _pictures(values, columns)
    else:
        arrays = [_numbers(v, columns.input, columns) for v in values]
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise ExpungeError(
            f"The column {columns.input!r} holds arrays of shapes {sorted(shapes)[:3]}; one shape "
            "is expected. Bring them to one size first."
        )
    return torch.from_numpy(_finite(table, columns.input, np.stack(arrays)))


def _pictures(values: Sequence[Any], columns: Columns) -> list[npt.NDArray[Any]]:
    if columns.input_type == "integer" or not all(hasattr(v, "convert") for v in values):
        said = "and integers were asked for" if all(values) else "and none in some rows"
        raise ExpungeError(
            f"The column {columns.input!r} holds pictures, {said}; give a picture in every row, "
            "with `input_type: float`."
        )
    return [np.asarray(v.convert("RGB"), np.float32).transpose(2, 0, 1) / 255 for v in values]


def _numbers(values: object, name: str, columns: Columns) -> npt.NDArray[Any]:
    """Numbers as float32 or int64, whichever the columns ask for; a missing one is NaN."""
    try:
        found = np.asarray(values)
        if found.dtype.kind == "O":  # a missing value becomes NaN
            found = found.astype(np.float64)
    except (TypeError, ValueError):
        raise ExpungeError(
            f"The column {name!r} holds lists of different lengths, or values that are no "
            "numbers; one number or one shape is expected in every row."
        ) from None
    if found.dtype.kind not in "iubf":
        raise ExpungeError(
            f"The column {name!r} holds {found.reshape(-1)[0].item()!r}, and numbers are expected; "
            "turn it into numbers, or leave it out of `input`."
        )
    if columns.input_type == "integer":
        if found.dtype.kind == "f":
            raise ExpungeError(
                f"The column {name!r} holds a value that is missing or no integer, and "
                "`input_type: integer` was asked for; mend the value, or ask for `float`."
            )
        return found.astype(np.int64)
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def _finite(table: datasets.Dataset, name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values (n, ...) of a column, known to be finite."""
    bad = np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(1))
    if len(bad):
        raise ExpungeError(
            f"The row {table['id'][int(bad[0])]!r} has NaN or an infinite value in the column "
            f"{name!r}, where a missing value counts as NaN; finite numbers are expected. Mend "
            "or drop such rows."
        )
    return rows
