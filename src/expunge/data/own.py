"""Tables of the user's own: Parquet, CSV, JSON lines, a ``datasets`` folder, a folder of pictures.

Sets that ship with the package or were fetched are read by name. Columns are mapped to the names
that the package uses. Where no id column is named, the SHA-256 of a row's content is its id: of its
values and the encoded bytes of its pictures, without the column ``split``, so that the same row has
the same id in every load and split; of a folder of pictures, of a picture's bytes alone. Rows that
are equal get ``#2``, ``#3`` ... behind it, in table order; since they are equal, either may be
either.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor

from expunge.data import canvas, catalogue, digits, emoji_grid, image_folder, mnist
from expunge.data.encoding import Encoder, reads_lines
from expunge.data.inputs import inputs_of, targets_of
from expunge.data.mapping import Columns
from expunge.data.prepared import DataSet
from expunge.data.prompts import lines_of
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError

SHIPPED = {"digits": digits, "mnist-5k": mnist, "emoji": emoji_grid, "emoji-canvas": canvas}
READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json"}


@dataclass(frozen=True)
class OwnRows:
    """A table with the columns ``id`` and ``subject``, and those of the answer: ``label``, the
    target, or prompts and their answers.

    ``classes`` are the texts of the labels in their order, where the table holds texts; ``inputs``
    the fields of ``samples`` that hold the input. ``notes`` say what was left out. ``captions`` are
    the sentences that pictures are drawn from, one a row, where the table has some.
    """

    table: datasets.Dataset
    samples: TensorSamples
    inputs: tuple[str, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


def read_rows(
    source: str,
    split: str | None,
    columns: Columns,
    folder: Path = Path(),
    encoder: Encoder | None = None,
    classes: Sequence[str] = (),
) -> OwnRows:
    """A table and its rows as tensors: the input, and ``label``, ``target`` or ``labels``.

    Args:
        source: ``digits``, ``mnist-5k``, ``emoji``, ``emoji-canvas``, a path relative to
            ``folder``, or a fetched set of ``expunge data``.
        split: keep the rows whose column ``split`` holds this; of a folder that was saved from a
            ``DatasetDict``, the table of this name.
        columns: the user's names; a shipped set has its own.
        folder: where relative paths start.
        encoder: reads text, and pictures if it can; needed for text and prompts.
        classes: texts of the classes where ``columns`` lists none and the labels are text.

    Raises:
        ExpungeError: the source cannot be read, a column or split is not there, a value is not
            what its column is to hold, or columns were named for a shipped set.
    """
    if source in SHIPPED:
        return _shipped(source, split, columns)
    opened, columns = open_table(source, folder, split, columns)
    if len(opened) == 0:
        raise ExpungeError(f"The table {source} has no row; at least one is expected.")
    if columns.of_language:
        return _prompted(opened, columns, encoder)
    captions = () if columns.caption is None else _captions(opened, columns)
    texts = columns.classes or tuple(classes)
    if columns.target is not None or not isinstance(opened[0].get(columns.label), str):
        texts = columns.classes
    table = _mapped(opened, columns, texts)
    # from the table as it was opened: a column of the user's may be called `subject` as well
    ids = list(table["id"][:])
    inputs = inputs_of(opened, ids, columns, encoder)
    answer: dict[str, Tensor] = {}
    if columns.target is not None:
        answer = {"target": targets_of(opened, ids, columns.target)}
    elif _classed(opened, columns):
        answer = {"label": torch.tensor(list(table["label"][:]))}
    tensors = {**inputs.fields, **answer}
    fields = tuple(inputs.fields)
    return OwnRows(table, samples(table, tensors), fields, texts, inputs.notes, captions)


def _captions(opened: datasets.Dataset, columns: Columns) -> tuple[str, ...]:
    """The sentence of every row.

    Raises:
        ExpungeError: the column is not there, or a row has no sentence.
    """
    assert columns.caption is not None  # the only caller asked
    _needed(opened, columns.caption)
    found = list(opened[columns.caption])
    for row, value in enumerate(found):
        if not isinstance(value, str):
            raise ExpungeError(
                f"Row {row + 1} has the caption {_short(value)}; one sentence is expected with "
                "every picture. Write it, or drop the row."
            )
    return tuple(found)


def _prompted(opened: datasets.Dataset, columns: Columns, encoder: Encoder | None) -> OwnRows:
    """The rows of a language model."""
    if not reads_lines(encoder):
        raise ExpungeError(
            "Prompts and answers are read by a tokenizer, and the model has none; give a "
            "`model.checkpoint` with a causal language model."
        )
    table = _mapped(opened, columns, ())
    found = lines_of(opened, list(table["id"][:]), columns, encoder)
    return OwnRows(table, samples(table, found.fields), ("input_ids",), (), found.notes)


def opened_tables(source: str, folder: Path = Path()) -> dict[str | None, datasets.Dataset]:
    """A table as it is, its columns not mapped; of a saved ``DatasetDict``, each split by its name.

    Raises:
        ExpungeError: the source cannot be read.
    """
    path = folder / source
    if source in SHIPPED:
        return {None: SHIPPED[source].load(None)}
    if path.exists() and image_folder.is_image_folder(path):
        return {None: image_folder.read(path)}
    if not path.exists() and source in catalogue.entries():
        return {None: _fetched(source)}
    table = _whole(path)
    return dict(table) if isinstance(table, datasets.DatasetDict) else {None: table}


def _shipped(source: str, split: str | None, columns: Columns) -> OwnRows:
    if columns != Columns():
        raise ExpungeError(
            f"`columns` were given for the shipped set {source!r}, which has its own; leave "
            "them out, or give the path of a table of your own."
        )
    module = SHIPPED[source]
    table = module.load(split)
    tensors: Mapping[str, Tensor] = module.tensors(table)
    inputs = tuple(name for name in tensors if name != "label")
    captions = tuple(table["caption"][:]) if "caption" in table.column_names else ()
    return OwnRows(table, samples(table, tensors), inputs, captions=captions)


def samples(table: datasets.Dataset, tensors: Mapping[str, Tensor]) -> TensorSamples:
    """The rows of a table with columns ``id`` and ``subject``, and their tensors.

    Raises:
        ExpungeError: an id stands in two rows.
    """
    ids = [str(value) for value in table["id"][:]]
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ExpungeError(
            f"The id {repeated[0]!r} stands in several rows; ids must be unique. Name another "
            "column, or drop the duplicates."
        )
    return TensorSamples(ids, [str(v) for v in table["subject"][:]], dict(tensors))


def open_table(
    source: str, folder: Path, split: str | None, columns: Columns
) -> tuple[datasets.Dataset, Columns]:
    """The rows of a split, and the columns with the id and subject that the source itself has."""
    path = folder / source
    if path.exists() and image_folder.is_image_folder(path):
        table = image_folder.read(path)
        if columns.id is None:
            table = _with_column(table, "id", content_ids(table.select_columns(["image"])))
            columns = columns.model_copy(update={"id": "id"})
        return _of_split(table, split, str(path)), columns
    if not path.exists() and source in catalogue.entries():
        table = _fetched(source)
        own = {name: getattr(columns, name) or name for name in ("id", "subject")}
        return _of_split(table, split, source), columns.model_copy(update=own)
    return _read(path, split), columns


def _fetched(name: str) -> datasets.Dataset:
    if not isinstance(catalogue.entry(name), DataSet):
        raise ExpungeError(
            f"{name!r} are weights, and a table is expected; `expunge data list` lists the sets."
        )
    return catalogue.at_hand(name).load()


def _read(path: Path, split: str | None) -> datasets.Dataset:
    table = _whole(path)
    if not isinstance(table, datasets.DatasetDict):
        return _of_split(table, split, str(path))
    if split not in table:
        raise ExpungeError(
            f"The folder {path} holds the splits {', '.join(table)}, and "
            f"{'none' if split is None else repr(split)} was asked for; name one of them."
        )
    return table[split]


def _whole(path: Path) -> datasets.Dataset | datasets.DatasetDict:
    if not path.exists():
        raise ExpungeError(
            f"There is no table {path}; give a path, one of {', '.join(sorted(SHIPPED))}, or a set "
            "of `expunge data list`."
        )
    if not path.is_dir() and path.suffix not in READERS:
        raise ExpungeError(
            f"{path} ends in {path.suffix!r}; {', '.join(READERS)}, a folder saved by `datasets` "
            "or a folder of pictures is expected."
        )
    if path.is_file() and path.stat().st_size == 0:
        raise ExpungeError(f"{path} is empty; a table with at least one row is expected.")
    try:
        if path.is_dir():
            return datasets.load_from_disk(str(path))
        reader = getattr(datasets.Dataset, f"from_{READERS[path.suffix]}")
        return reader(str(path), keep_in_memory=True)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        reason = str(error.__cause__ or error)
        if "corresponds to no data" in reason:  # a header and nothing below it
            reason = "it has no row; at least one is expected"
        raise ExpungeError(f"{path} cannot be read as a table: {reason}") from None


def _of_split(table: datasets.Dataset, split: str | None, source: str) -> datasets.Dataset:
    if split is None:
        return table
    _needed(table, "split")
    kept = [i for i, value in enumerate(table["split"]) if str(value) == split]
    if not kept:
        known = ", ".join(sorted({str(value) for value in table["split"]}))
        raise ExpungeError(f"No row of {source} has the split {split!r}; it has {known}.")
    return table.select(kept)


def _needed(table: datasets.Dataset, column: str) -> None:
    if column not in table.column_names:
        raise ExpungeError(
            f"The table has no column {column!r}; it has {', '.join(table.column_names)}. "
            "Map the column in the run file."
        )


def read_columns(columns: Columns) -> tuple[str | None, ...]:
    """The columns of a table that a model reads or answers; None for those that it does without."""
    if columns.of_language:
        return columns.prompt, columns.answer, columns.text
    inputs = (columns.input,) if isinstance(columns.input, str) else columns.input
    if columns.caption is not None:
        label = (columns.label,) if columns.names_classes else ()
        return (*inputs, columns.caption, *label)
    if columns.target is None:
        return (*inputs, columns.label)
    return (
        (*inputs, columns.target) if isinstance(columns.target, str) else (*inputs, *columns.target)
    )


def _mapped(
    table: datasets.Dataset, columns: Columns, classes: tuple[str, ...]
) -> datasets.Dataset:
    named = (columns.id, columns.subject, columns.prompt_subject)
    for column in (*read_columns(columns), *named):
        if column is not None:
            _needed(table, column)
    ids = content_ids(table) if columns.id is None else table[columns.id]
    subjects = ids if columns.subject is None else table[columns.subject]
    mapped = {"id": [str(v) for v in ids], "subject": [str(v) for v in subjects]}
    classed = _classed(table, columns)
    labels = [_class_of(v, classes) for v in table[columns.label]] if classed else None
    for name, values in mapped.items():
        table = _with_column(table, name, values)
    return table if labels is None else _with_column(table, "label", labels)


def _classed(table: datasets.Dataset, columns: Columns) -> bool:
    """Whether rows have a class; what is drawn from a sentence may do without."""
    if columns.target is not None or columns.of_language:
        return False
    if columns.caption is None or columns.names_classes:
        return True
    feature = table.features.get(columns.label)
    return isinstance(feature, datasets.Value) and feature.dtype.startswith(("int", "uint"))


def _with_column(table: datasets.Dataset, name: str, values: Sequence[object]) -> datasets.Dataset:
    if name in table.column_names:
        table = table.remove_columns(name)
    return table.add_column(name, list(values))


def _class_of(value: object, classes: tuple[str, ...]) -> int:
    if classes:
        if str(value) not in classes:
            raise ExpungeError(
                f"A row has the label {_short(value)}; `classes` lists "
                f"{', '.join(classes[:5])} ... . Add it there in the model's order."
            )
        return classes.index(str(value))
    if not isinstance(value, int):
        raise ExpungeError(
            f"A row has the label {_short(value)}, which is no integer; list the texts of the "
            "classes under `classes`, in the model's order, or give `target` for numbers to "
            "predict."
        )
    return value


def _short(value: object) -> str:
    """The beginning of a value; a mapped column may hold a whole text."""
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:36]} ..."


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
