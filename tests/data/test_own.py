"""Tables of the user's own: ids that stay, and values that are refused in a sentence."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from expunge.data.own import Columns, load_rows
from expunge.errors import ExpungeError

NUMBERS = Columns(input=("x", "y"))


def stored(path: Path, **columns: list[object]) -> Path:
    datasets.Dataset.from_dict(columns).to_parquet(str(path / "table.parquet"))
    return path


def pictures(path: Path, order: list[int]) -> Path:
    """Three pictures of their own content, in this order."""
    images = [
        Image.fromarray(np.full((4, 4, 3), 40 * i, dtype=np.uint8))  # the object differs each time
        for i in order
    ]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": images, "label": order}, features=features)
    table.save_to_disk(str(path))
    return path


def test_a_picture_has_the_same_id_in_every_load_and_place(tmp_path: Path) -> None:
    first = load_rows(str(pictures(tmp_path / "a", [0, 1, 2])), None, Columns())[1]
    again = load_rows(str(tmp_path / "a"), None, Columns())[1]
    turned = load_rows(str(pictures(tmp_path / "b", [2, 0, 1])), None, Columns())[1]
    assert len(set(first.ids)) == 3
    assert list(first.ids) == list(again.ids)
    assert [first.ids[i] for i in (2, 0, 1)] == list(turned.ids)
    assert first.columns["image"].shape == (3, 3, 4, 4)


def test_the_split_is_no_part_of_an_id(tmp_path: Path) -> None:
    rows: dict[str, list[object]] = {"x": [1.0, 2.0], "y": [3.0, 4.0], "label": [0, 1]}
    plain, parted = tmp_path / "plain", tmp_path / "parted"
    for folder in (plain, parted):
        folder.mkdir()
    bare = load_rows("table.parquet", None, NUMBERS, stored(plain, **rows))[1]
    stored(parted, **rows, split=["train", "test"])
    for split, place in (("train", 0), ("test", 1)):
        part = load_rows("table.parquet", split, NUMBERS, parted)[1]
        assert list(part.ids) == [bare.ids[place]]


def test_equal_rows_are_counted(tmp_path: Path) -> None:
    stored(tmp_path, x=[1.0, 2.0, 1.0, 1.0], y=[0.0] * 4, label=[0, 1, 0, 0])
    ids = list(load_rows("table.parquet", None, NUMBERS, tmp_path)[1].ids)
    assert ids[2:] == [f"{ids[0]}#2", f"{ids[0]}#3"]
    assert ids[1] != ids[0]
    assert ids == list(load_rows("table.parquet", None, NUMBERS, tmp_path)[1].ids)
    stored(tmp_path, x=[1.0, 2.0], y=[0.0] * 2, label=[0, 1], name=["a", "a"])
    named = NUMBERS.model_copy(update={"id": "name"})
    with pytest.raises(ExpungeError, match="'a' stands in several rows"):
        load_rows("table.parquet", None, named, tmp_path)


def test_a_folder_of_several_tables_gives_the_one_that_is_named(tmp_path: Path) -> None:
    parts = {
        name: datasets.Dataset.from_dict({"x": [value], "y": [0.0], "label": [0]})
        for name, value in (("train", 1.0), ("test", 2.0))
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    for name, value in (("train", 1.0), ("test", 2.0)):
        rows = load_rows("both", name, NUMBERS, tmp_path)[1]
        assert rows.columns["image"].tolist() == [[value, 0.0]]
    for absent in (None, "validation"):
        with pytest.raises(ExpungeError, match="holds the splits train, test"):
            load_rows("both", absent, NUMBERS, tmp_path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300, None])
def test_numbers_that_are_not_finite_are_refused_by_row_and_column(
    bad: float | None, tmp_path: Path
) -> None:
    stored(tmp_path, x=[1.0, 2.0], y=[0.0, bad], label=[0, 1], name=["a", "b"])
    named = NUMBERS.model_copy(update={"id": "name"})
    with pytest.raises(ExpungeError, match="'b' has NaN or an infinite value in the column 'y'"):
        load_rows("table.parquet", None, named, tmp_path)
    array = Columns(input="y", id="name")
    with pytest.raises(ExpungeError, match="'b' has NaN or an infinite value in the column 'y'"):
        load_rows("table.parquet", None, array, tmp_path)


def test_text_in_a_column_of_numbers_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, x=[1.0, 2.0], y=["3", "four"], label=[0, 1])
    with pytest.raises(ExpungeError, match="'y' holds '3', and numbers are expected"):
        load_rows("table.parquet", None, NUMBERS, tmp_path)


def test_integers_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    stored(tmp_path, tokens=[[2**40, 1], [2, 3]], label=[0, 1], x=[0.5, 1.0])
    tokens = Columns(input="tokens", input_type="integer")
    found = load_rows("table.parquet", None, tokens, tmp_path)[1].columns["image"]
    assert found.dtype == torch.int64
    assert found.tolist() == [[2**40, 1], [2, 3]]
    plain = load_rows("table.parquet", None, Columns(input="tokens"), tmp_path)[1]
    assert plain.columns["image"].dtype == torch.float32
    with pytest.raises(ExpungeError, match="'x' holds a value that is missing or no integer"):
        load_rows("table.parquet", None, Columns(input="x", input_type="integer"), tmp_path)


def test_a_shipped_set_has_its_own_columns() -> None:
    assert len(load_rows("digits", "test", Columns())[1])
    with pytest.raises(ExpungeError, match="`columns` were given for the shipped set 'digits'"):
        load_rows("digits", "test", Columns(label="kind"))
