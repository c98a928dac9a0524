"""Data frames that a pinned package stores as pickles, read without running what they name.

A pickle names functions and the reader calls them, so nothing that a user gives is ever unpickled.
A few packages ship tables in no other form. Here the eleven names that a pickled frame of numbers
and texts needs stand for functions of this file, which only build arrays; every other name is
refused. Neither pandas nor numpy's own readers take part. This is the only file that may import
``pickle``, and only to derive from its reader; a test holds both.
"""

import io
import lzma
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from expunge.errors import IntegrityError

Frame = dict[str, npt.NDArray[Any]]
"""The columns of a table by name, in their order: int64, float64, bool or objects."""


NUMBERS: Mapping[str, str] = {"i8": "<i8", "f8": "<f8", "b1": "|b1"}
OBJECTS = "O8"


class _Frame:
    """Stands for a pandas frame or block manager: keeps what it was built from, does nothing."""

    def __init__(self, *given: Any) -> None:
        self.given = given
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Manager(_Frame):
    pass


class _Index(_Frame):
    pass


class _Type:
    """Stands for a numpy type: one of ``NUMBERS``, or objects; its stored state changes nothing."""

    def __init__(self, name: str, _align: bool, _copy: bool) -> None:
        if name not in NUMBERS and name != OBJECTS:
            raise IntegrityError(f"A pickled data frame has a column of the type {name!r}.")
        self.name = name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", "|"):
            raise IntegrityError("A pickled data frame holds numbers in another byte order.")


class _Array:
    """Stands for a numpy array, whose own reader of stored states would trust its input."""

    def __init__(self) -> None:
        self.values: npt.NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if kind.name != OBJECTS:
            self.values = _from_buffer(content, kind, shape, "F" if fortran else "C").values
            return
        flat = np.empty(len(content), dtype=object)
        flat[:] = content
        self.values = flat.reshape(shape, order="F" if fortran else "C")


def _from_buffer(buffer: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    made = _Array()
    values = np.frombuffer(buffer, dtype=NUMBERS[kind.name])
    made.values = values.reshape(shape, order="F" if order == "F" else "C")
    return made


def _empty(_kind: type, _shape: tuple[int, ...], _type: bytes) -> _Array:
    return _Array()


def _index(_kind: type, given: Mapping[str, Any]) -> _Index:
    return _Index(given)


def _block(
    values: _Array, placement: slice | _Array, ndim: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Values (columns, rows) and the positions of these columns in the frame."""
    places = (
        np.arange(placement.start or 0, placement.stop, placement.step or 1, dtype=np.int64)
        if isinstance(placement, slice)
        else placement.values.astype(np.int64)
    )
    if ndim != 2 or values.values.ndim != 2 or places.shape != values.values.shape[:1]:
        raise IntegrityError("A block of a pickled data frame has not one place for each column.")
    return values.values, places


ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas._libs.internals", "_unpickle_block"): _block,
    ("pandas.core.indexes.base", "_new_Index"): _index,
    ("pandas.core.indexes.base", "Index"): _Index,
    ("pandas.core.indexes.range", "RangeIndex"): _Index,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("builtins", "slice"): slice,
}


class _Reader(pickle.Unpickler):
    """Finds the names of ``ALLOWED`` and no others."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What stands for a name.

        Raises:
            IntegrityError: the name is not allowed.
        """
        if (module_name, global_name) not in ALLOWED:
            raise IntegrityError(
                f"A pickled data frame names {module_name}.{global_name}, which is no part of a "
                "table of numbers and texts; nothing of it was run. Remove the package from the "
                "cache and do not use it."
            )
        return ALLOWED[module_name, global_name]


def read(raw: bytes, name: str) -> Frame:
    """The columns of a pickled pandas data frame.

    Args:
        raw: the pickle, from a package whose hash was checked.
        name: what it is, for the error text.

    Raises:
        IntegrityError: it is no pickled data frame, or names anything that a table does not need.
    """
    try:
        frame = dict(_columns(_Reader(io.BytesIO(raw)).load()))
    except IntegrityError:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        raise IntegrityError(
            f"{name} is no data frame as the pinned package stores them ({error}); fetch the "
            "package again."
        ) from None
    if not frame or len({len(column) for column in frame.values()}) != 1:
        raise IntegrityError(
            f"{name} has no columns, or columns of different lengths; fetch the package again."
        )
    return frame


def _columns(loaded: Any) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if not isinstance(loaded, _Frame) or not isinstance(loaded.state["_mgr"], _Manager):
        raise IntegrityError("A pickle was to hold a data frame, and holds something else.")
    blocks, axes = loaded.state["_mgr"].given[:2]
    names = [str(name) for name in axes[0].given[0]["data"].values]
    found = {
        int(place): row
        for values, places in blocks
        for place, row in zip(places, values, strict=True)
    }
    for position, name in enumerate(names):
        yield name, found[position]


def optional(column: npt.NDArray[Any]) -> list[Any]:
    """The values of a column as Python values; None where one is missing (NaN)."""
    return [None if isinstance(v, float) and math.isnan(v) else v for v in column.tolist()]


def packed(path: Path) -> bytes:
    """The content of an xz-compressed file.

    Raises:
        IntegrityError: it is missing or damaged.
    """
    try:
        return lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise IntegrityError(
            f"{path.name} cannot be read ({error}); fetch the package again."
        ) from None
