"""Pickled data frames: what they hold is read, and what they would run is not."""

import io
import lzma
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge.data import data_frames
from expunge.errors import IntegrityError


@dataclass(frozen=True)
class Name:
    """A global name as a pickle writes it, whether or not it can be imported here."""

    module: str
    name: str

    def __call__(self, *_: object) -> None:
        """Something that is called has to be callable when it is written."""


@dataclass(frozen=True)
class Called:
    """What comes of calling a name, then giving it a state."""

    name: Name
    given: tuple[Any, ...] = ()
    state: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return self.name, self.given, self.state


class Writer(pickle._Pickler):
    """Writes names as they are."""

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Name):
            self.save(obj.module)
            self.save(obj.name)
            self.write(pickle.STACK_GLOBAL)  # type: ignore[attr-defined]
        else:
            super().save(obj, save_persistent_id)  # type: ignore[misc]


def pickled(thing: object) -> bytes:
    raw = io.BytesIO()
    Writer(raw, 5).dump(thing)
    return raw.getvalue()


FRAME = Name("pandas.core.frame", "DataFrame")
MANAGER = Name("pandas.core.internals.managers", "BlockManager")
BLOCK = Name("pandas._libs.internals", "_unpickle_block")
INDEX, NEW_INDEX = (Name("pandas.core.indexes.base", n) for n in ("Index", "_new_Index"))
BUFFER = Name("numpy.core.numeric", "_frombuffer")
EMPTY = Name("numpy.core.multiarray", "_reconstruct")
ARRAY, TYPE = Name("numpy", "ndarray"), Name("numpy", "dtype")
SLICE = Name("builtins", "slice")


def kind(name: str, order: str = "<") -> Called:
    return Called(TYPE, (name, False, True), (3, order, None, None, None, -1, -1, 0))


def objects(shape: tuple[int, ...], values: list[Any]) -> Called:
    state = (1, shape, kind("O8", "|"), False, values)
    return Called(EMPTY, (ARRAY, (0,), b"b"), state)


def numbers(values: np.ndarray[Any, Any], order: str = "<") -> Called:
    name = f"{values.dtype.kind}8"
    return Called(BUFFER, (bytearray(values.tobytes()), kind(name, order), values.shape, "C"))


def frame(names: list[str], *blocks: Called) -> Called:
    axis = Called(NEW_INDEX, (INDEX, {"data": objects((len(names),), names), "name": None}))
    return Called(FRAME, (), {"_mgr": Called(MANAGER, (blocks, [axis, None])), "attrs": {}})


INTEGERS = Called(BLOCK, (numbers(np.array([[1, 2]])), Called(SLICE, (1, 2, 1)), 2))
TEXTS = Called(BLOCK, (objects((2, 2), ["a", None, "b", "c"]), Called(SLICE, (0, 4, 2)), 2))
FLOATS = Called(BLOCK, (numbers(np.array([[0.5, np.nan]])), Called(SLICE, (3, 4, 1)), 2))


def test_the_columns_come_in_their_order_with_their_types() -> None:
    raw = pickled(frame(["text", "whole", "other", "part"], FLOATS, TEXTS, INTEGERS))
    found = data_frames.read(raw, "four columns")
    assert list(found) == ["text", "whole", "other", "part"]
    assert found["whole"].dtype == np.int64 and found["whole"].tolist() == [1, 2]
    assert data_frames.optional(found["part"]) == [0.5, None]
    assert found["text"].tolist() == ["a", None] and found["other"].tolist() == ["b", "c"]


@pytest.mark.parametrize(
    ("module", "name"),
    [("posix", "system"), ("os", "system"), ("builtins", "eval"), ("pandas", "read_pickle")],
)
def test_a_planted_call_is_refused_and_never_run(module: str, name: str, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    planted = pickled([Called(Name(module, name), (f"touch {trace}",))])
    with pytest.raises(IntegrityError, match=rf"names {module}.{name}"):
        data_frames.read(planted, "planted")
    assert not trace.exists()


def test_the_planted_call_would_run_in_the_ordinary_reader(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    call = Called(Name("os", "system"), (f"touch {trace}",))
    pickle.loads(pickled(call))  # noqa: S301 - that it would run is the point
    assert trace.exists() == (os.name == "posix")


def test_a_call_hidden_in_a_column_of_a_frame_is_refused() -> None:
    hidden = objects((1, 1), [Called(Name("os", "getcwd"))])
    raw = pickled(frame(["a"], Called(BLOCK, (hidden, Called(SLICE, (0, 1, 1)), 2))))
    with pytest.raises(IntegrityError, match=r"names os.getcwd"):
        data_frames.read(raw, "hidden")


@pytest.mark.parametrize(
    "thing",
    [
        {"a": [1]},
        frame([]),
        frame(["a", "b"], INTEGERS),  # a column without values
        frame(["a"], Called(BLOCK, (numbers(np.array([[1]])), Called(SLICE, (0, 2, 1)), 2))),
        Called(TYPE, ("V16", False, True)),
        numbers(np.array([[1]]), order=">"),
        Called(BUFFER, (bytearray(8), kind("O8", "|"), (1,), "C")),  # addresses of objects
        Called(BUFFER, (bytearray(8), kind("i8"), (9,), "C")),
    ],
    ids=[
        "no frame", "no columns", "column missing", "places", "type", "byte order", "addresses",
        "short",
    ],
)  # fmt: skip
def test_what_is_no_frame_of_numbers_and_texts_is_refused(thing: object) -> None:
    with pytest.raises(IntegrityError):
        data_frames.read(pickled(thing), "something")


def test_a_cut_pickle_and_a_damaged_archive_are_one_sentence(tmp_path: Path) -> None:
    raw = pickled(frame(["text", "whole", "other", "part"], FLOATS, TEXTS, INTEGERS))
    with pytest.raises(IntegrityError, match="cut is no data frame"):
        data_frames.read(raw[:-40], "cut")
    path = tmp_path / "frame.pkl.compress"
    path.write_bytes(lzma.compress(raw))
    assert data_frames.packed(path) == raw
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=r"frame.pkl.compress cannot be read"):
        data_frames.packed(path)
