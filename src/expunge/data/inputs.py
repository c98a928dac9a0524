"""Inputs: columns of numbers, arrays, pictures or text as the tensors that a model reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from expunge.data.encoding import Encoder
from expunge.data.mapping import Columns
from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Inputs:
    """Tensors (n, ...) by field, and what was left out of them, in sentences."""

    fields: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


KINDS = {
    "size": ("pictures",),
    "channels": ("pictures",),
    "max_length": ("text",),
    "input_field": ("numbers", "pictures"),
    "input_type": ("numbers", "pictures"),
}
"""The kinds of input that these keys of ``columns`` have an effect on."""


def inputs_of(
    table: datasets.Dataset, ids: Sequence[str], columns: Columns, encoder: Encoder | None
) -> Inputs:
    """The input of every row of a table.

    Args:
        table: with the user's own columns.
        ids: one of each row, for what is said of a row that cannot be used.
        columns: which of them are the input.
        encoder: reads text, and pictures if it can.

    Raises:
        ExpungeError: the table has no row, a value is not what its column is to hold, or a key of
            ``columns`` is for another kind of input.
    """
    if len(table) == 0:
        raise ExpungeError("The table has no rows; give one that holds at least one.")
    if isinstance(columns.input, tuple):
        _check_keys(columns, "numbers")
        return Inputs({columns.input_field: numbers_of(table, ids, columns.input, columns)})
    try:
        values = list(table[columns.input])
    except OSError as error:  # of the decoder of pictures
        raise ExpungeError(
            f"The column {columns.input!r} holds a picture that cannot be read ({error}); mend or "
            "drop it."
        ) from None
    if any(isinstance(value, str) for value in values) and encoder is not None:
        _check_keys(columns, "text")
        return _tokens(ids, values, columns, encoder)
    if hasattr(values[0], "convert"):  # decoded pictures
        _check_keys(columns, "pictures")
        found = _pictures(values, columns, encoder)
    else:
        arrays = [_numbers(v, columns.input, columns) for v in values]
        _check_keys(columns, "numbers")
        found = torch.from_numpy(_finite(ids, columns.input, _stacked(arrays, columns)))
    return Inputs({columns.input_field: found})


def _check_keys(columns: Columns, kind: str) -> None:
    """Refuse keys that would do nothing: who wrote them expects something of them."""
    for key, kinds in KINDS.items():
        if key in columns.given and kind not in kinds:
            raise ExpungeError(
                f"`columns.{key}` is for {' and '.join(kinds)}, and the input is {kind}; leave it "
                "out."
            )


def targets_of(
    table: datasets.Dataset, ids: Sequence[str], target: str | tuple[str, ...]
) -> Tensor:
    """The numbers to be predicted, float32 (n,) for one column and (n, D) for a list of them.

    Raises:
        ExpungeError: a value is missing, no number, or not finite.
    """
    plain = Columns(target=target)
    if isinstance(target, tuple):
        return numbers_of(table, ids, target, plain)
    return numbers_of(table, ids, (target,), plain).squeeze(1)


def numbers_of(
    table: datasets.Dataset, ids: Sequence[str], names: Sequence[str], columns: Columns
) -> Tensor:
    """Columns of numbers side by side (n, D)."""
    found = [_finite(ids, name, _numbers(list(table[name]), name, columns)) for name in names]
    for name, column in zip(names, found, strict=True):
        if column.ndim != 1:
            raise ExpungeError(
                f"The column {name!r} holds lists, and one number a row is expected; name a "
                "column of lists alone, not in a list of columns."
            )
    return torch.from_numpy(np.stack(found, axis=1))


def _tokens(
    ids: Sequence[str], values: Sequence[object], columns: Columns, encoder: Encoder
) -> Inputs:
    rows: list[str] = []
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise ExpungeError(
                f"The row {ids[i]!r} holds {value!r} in the column {columns.input!r}, and "
                "text is expected; mend or drop such rows."
            )
        rows.append(value)
    tokens = encoder.texts(rows, columns.max_length)
    if not tokens.cut:
        return Inputs(tokens.fields)
    note = (
        f"{tokens.cut:,} of {len(rows):,} rows are longer than {tokens.limit} tokens and were cut "
        "there."
    )
    return Inputs(tokens.fields, (note,))


def _pictures(values: Sequence[Any], columns: Columns, encoder: Encoder | None) -> Tensor:
    if columns.input_type == "integer" or not all(hasattr(v, "convert") for v in values):
        said = "and integers were asked for" if all(values) else "and none in some rows"
        raise ExpungeError(
            f"The column {columns.input!r} holds pictures, {said}; give a picture in every row, "
            "with `input_type: float`."
        )
    mode = "RGB" if columns.channels == 3 else "L"
    pictures = [_resized(value.convert(mode), columns.size) for value in values]
    if encoder is not None and encoder.reads_pictures:
        return encoder.pictures(pictures)
    arrays = [np.asarray(picture, np.float32) / 255 for picture in pictures]
    stacked = _stacked(arrays, columns)
    return torch.from_numpy(
        stacked[:, None] if columns.channels == 1 else stacked.transpose(0, 3, 1, 2).copy()
    )


def _resized(picture: Image.Image, size: int | tuple[int, int] | None) -> Image.Image:
    if size is None:
        return picture
    height, width = (size, size) if isinstance(size, int) else size
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _stacked(arrays: Sequence[npt.NDArray[Any]], columns: Columns) -> npt.NDArray[Any]:
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise ExpungeError(
            f"The column {columns.input!r} holds arrays of shapes {sorted(shapes)[:3]}; one shape "
            "is expected. Bring them to one size first; `size` does so for pictures."
        )
    return np.stack(arrays)


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
            f"The column {name!r} holds {'text' if found.dtype.kind in 'US' else 'other values'}, "
            "and numbers are expected; turn it into numbers, or leave it out. Text as the one "
            "`input` needs a `model.checkpoint` with a tokenizer."
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


def _finite(ids: Sequence[str], name: str, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values (n, ...) of a column, known to be finite."""
    bad = np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(1))
    if len(bad):
        raise ExpungeError(
            f"The row {ids[int(bad[0])]!r} has NaN or an infinite value in the column "
            f"{name!r}, where a missing value counts as NaN; finite numbers are expected. Mend "
            "or drop such rows."
        )
    return rows
