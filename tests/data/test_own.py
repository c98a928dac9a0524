"""Tables of the user's own: ids that stay, and values that are refused in a sentence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from expunge.data.encoding import Tokens
from expunge.data.mapping import Columns
from expunge.data.own import read_rows
from expunge.data.samples import TensorSamples
from expunge.data.scaling import Scaling
from expunge.errors import ExpungeError

NUMBERS = Columns(input=("x", "y"))


def load_rows(
    source: str, split: str | None, columns: Columns, folder: Path = Path()
) -> tuple[datasets.Dataset, TensorSamples]:
    """The table and the samples, read without an encoder."""
    rows = read_rows(source, split, columns, folder)
    return rows.table, rows.samples


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
    with pytest.raises(ExpungeError, match="'y' holds text, and numbers are expected"):
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


def painted(path: Path, value: int, size: tuple[int, int] = (4, 4)) -> Path:
    """A picture of one colour, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def class_folders(root: Path) -> Path:
    for split, value in (("train", 10), ("test", 90)):
        for kind in ("cat", "dog"):
            painted(root / split / kind / "1.png", value + len(kind) + ord(kind[0]))
    return root


CLASSES = Columns(classes=("dog", "cat"))


def test_class_folders_give_labels_in_the_order_of_the_classes(tmp_path: Path) -> None:
    class_folders(tmp_path)
    rows = read_rows(".", "train", CLASSES, tmp_path)
    assert rows.table["file_name"][:] == ["train/cat/1.png", "train/dog/1.png"]
    assert rows.samples.columns["label"].tolist() == [1, 0]
    assert rows.samples.columns["image"].shape == (2, 3, 4, 4)
    assert len(read_rows(".", None, CLASSES, tmp_path).samples) == 4
    with pytest.raises(ExpungeError, match="it has test, train"):
        read_rows(".", "validation", CLASSES, tmp_path)
    with pytest.raises(ExpungeError, match="has the label 'cat', which is no integer"):
        read_rows(".", "train", Columns(), tmp_path)


def test_the_id_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    class_folders(tmp_path / "a")
    (tmp_path / "a/train").rename(tmp_path / "moved")
    moved = read_rows("moved", None, CLASSES, tmp_path).samples.ids
    class_folders(tmp_path / "b")
    assert list(read_rows("b", "train", CLASSES, tmp_path).samples.ids) == list(moved)
    painted(tmp_path / "moved/dog/2.png", 10 + 3 + ord("d"))
    assert read_rows("moved", None, CLASSES, tmp_path).samples.ids[2] == f"{moved[1]}#2"


def test_metadata_stand_beside_the_pictures(tmp_path: Path) -> None:
    for i in range(3):
        painted(tmp_path / f"{i}.png", 40 * i)
    table = "file_name,who,label\n2.png,ann,1\n0.png,bob,0\n1.png,ann,0\n"
    (tmp_path / "metadata.csv").write_text(table)
    rows = read_rows(".", None, Columns(subject="who"), tmp_path)
    assert list(rows.samples.subjects) == ["bob", "ann", "ann"]
    assert rows.samples.columns["label"].tolist() == [0, 0, 1]
    for wrong, said in (
        (table + "9.png,eve,1\n", "name '9.png', which is no picture"),
        (table.replace("1.png,ann,0\n", ""), "leave out the picture '1.png'"),
        (table.replace("file_name", "file"), "has no column 'file_name'"),
        (table.replace("0.png", "../0.png"), "which is no picture"),
    ):
        (tmp_path / "metadata.csv").write_text(wrong)
        with pytest.raises(ExpungeError, match=said):
            read_rows(".", None, Columns(), tmp_path)


def test_pictures_at_different_depths_are_refused(tmp_path: Path) -> None:
    painted(class_folders(tmp_path) / "cat/1.png", 0)
    with pytest.raises(ExpungeError, match="lie 1, 2 folders deep"):
        read_rows(".", None, CLASSES, tmp_path)


def test_pictures_of_different_sizes_are_resized_where_a_size_is_given(tmp_path: Path) -> None:
    painted(tmp_path / "cat/1.png", 255, (4, 6))
    painted(tmp_path / "dog/1.png", 255, (5, 3))
    with pytest.raises(ExpungeError, match="`size` does so for pictures"):
        read_rows(".", None, CLASSES, tmp_path)
    for size, shape in ((2, (2, 2)), ((3, 5), (3, 5))):
        asked = CLASSES.model_copy(update={"size": size, "channels": 1})
        image = read_rows(".", None, asked, tmp_path).samples.columns["image"]
        assert image.shape == (2, 1, *shape)
        assert torch.equal(image, torch.ones_like(image))


def test_targets_are_numbers_of_one_or_several_columns(tmp_path: Path) -> None:
    stored(tmp_path, x=[1.0, 2.0], y=[3.0, 4.0], price=[5, 6], label=["a", "b"])
    one = Columns(input=("x", "y"), target="price")
    rows = read_rows("table.parquet", None, one, tmp_path)
    assert rows.samples.columns["target"].tolist() == [5.0, 6.0]
    assert "label" not in rows.samples.columns
    assert list(rows.table["label"]) == ["a", "b"]  # a column of the user's like any other
    two = Columns(input="x", target=("price", "y"))
    target = read_rows("table.parquet", None, two, tmp_path).samples.columns["target"]
    assert target.tolist() == [[5.0, 3.0], [6.0, 4.0]]
    with pytest.raises(ExpungeError, match="'label' holds text, and numbers are expected"):
        read_rows("table.parquet", None, Columns(input="x", target="label"), tmp_path)
    with pytest.raises(ValueError, match="give `target`, or `label`"):
        Columns(target="price", label="kind")


class Letters:
    """Reads text as the places of its letters in the alphabet."""

    reads_pictures = False

    def texts(self, rows: Sequence[str], max_length: int | None) -> Tokens:
        limit = max_length or 99
        longest = min(max(map(len, rows)), limit)
        ids = [[ord(c) - 96 for c in row[:limit]] for row in rows]
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        fields = {"input_ids": padded, "attention_mask": (padded > 0).long()}
        return Tokens(fields, limit, sum(len(row) > limit for row in rows))

    def pictures(self, rows: Sequence[Any]) -> torch.Tensor:
        raise AssertionError("it has no way to read pictures")


def test_text_is_read_by_the_encoder_and_cuts_are_said(tmp_path: Path) -> None:
    stored(tmp_path, text=["abc", "b"], label=["no", "yes"])
    asked = Columns(input="text", max_length=2)
    rows = read_rows("table.parquet", None, asked, tmp_path, Letters(), ("yes", "no"))
    assert rows.inputs == ("input_ids", "attention_mask")
    assert rows.samples.columns["input_ids"].tolist() == [[1, 2], [2, 0]]
    assert rows.samples.columns["label"].tolist() == [1, 0]  # in the order of the model's classes
    assert rows.classes == ("yes", "no")
    assert rows.notes == ("1 of 2 rows are longer than 2 tokens and were cut there.",)
    with pytest.raises(ExpungeError, match=r"`model\.checkpoint` with a tokenizer"):
        read_rows("table.parquet", None, asked, tmp_path, None, ("yes", "no"))
    stored(tmp_path, text=["abc", None], label=[0, 1], name=["a", "b"])
    named = asked.model_copy(update={"id": "name"})
    with pytest.raises(ExpungeError, match="'b' holds None in the column 'text'"):
        read_rows("table.parquet", None, named, tmp_path, Letters())


@pytest.mark.parametrize(("content", "said"), [("", "is empty"), ("x,label\n", "has no row")])
def test_tables_without_rows_are_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ExpungeError, match=said):
        read_rows("t.csv", None, Columns(input=("x",)), tmp_path)


def test_scaling_is_that_of_the_rows_it_was_made_of() -> None:
    train = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    scaling = Scaling.of(train)
    assert scaling.applied(train).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert scaling.applied(torch.tensor([[5.0, 8.0]])).tolist() == [[3.0, 1.0]]
    assert Scaling.of(torch.tensor([0.0, 4.0])).applied(torch.tensor([2.0])).tolist() == [0.0]


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "train/cat/2.png").write_bytes(b"no picture")
    with pytest.raises(ExpungeError, match=r"a picture that cannot be read .*cat/2\.png"):
        read_rows(".", "train", CLASSES, tmp_path)


def test_columns_of_the_user_keep_their_values_whatever_they_are_called(tmp_path: Path) -> None:
    stored(
        tmp_path,
        sender=["ann", "bob"],
        subject=["ab", "c"],
        number=[1, 2],
        id=[0.5, 1.5],
        kind=[1, 0],
    )
    text = Columns(id="number", subject="sender", label="kind", input="subject")
    rows = read_rows("table.parquet", None, text, tmp_path, Letters())
    assert rows.samples.columns["input_ids"].tolist() == [[1, 2], [3, 0]]
    assert rows.samples.subjects == ["ann", "bob"]
    numbers = text.model_copy(update={"input": ("id",)})
    rows = read_rows("table.parquet", None, numbers, tmp_path)
    assert rows.samples.columns["image"].tolist() == [[0.5], [1.5]]
    assert rows.samples.ids == ["1", "2"]


@pytest.mark.parametrize(
    "asked",
    [
        {"input": ("x",), "size": 4},
        {"input": ("x",), "channels": 1},
        {"input": "x", "max_length": 4},
        {"input": "text", "size": 4},
        {"input": "text", "input_field": "words"},
        {"input": "image", "max_length": 4},
    ],
)
def test_a_column_key_that_would_do_nothing_is_refused(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    image: list[object] = [Image.new("RGB", (2, 2))]
    stored(tmp_path, x=[1.0], text=["ab"], image=image, label=[0])
    [name] = asked.keys() - {"input"}
    with pytest.raises(ExpungeError, match=f"`columns.{name}` is for"):
        read_rows("table.parquet", None, Columns(**asked), tmp_path, Letters())


def test_a_table_that_datasets_saved_is_no_folder_of_pictures(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"x": [1.0, 2.0], "label": [0, 1]})
    table.save_to_disk(tmp_path / "saved")
    painted(tmp_path / "saved" / "preview.png", 1)
    _, samples = load_rows("saved", None, Columns(input=("x",)), tmp_path)
    assert samples.columns["image"].tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "columns",
    [
        Columns(target="wish", input=("grey", "width")),
        Columns(input=("grey", "width")),
        Columns(input="pixels", caption="words"),
    ],
)
def test_keys_that_were_stored_read_the_same_rows(columns: Columns, tmp_path: Path) -> None:
    """A ledger stores every key of a run file, most of them at their defaults."""
    rows = {
        "label": [0, 1],
        "wish": [0.5, 1.5],
        "grey": [1.0, 2.0],
        "width": [3.0, 4.0],
        "pixels": [[[0.0, 1.0]], [[1.0, 0.0]]],
        "words": ["a line", "a dot"],
    }
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "t.parquet"))
    again = Columns.model_validate_json(columns.model_dump_json())
    assert again == columns
    one, other = (read_rows("t.parquet", None, c, tmp_path).samples for c in (columns, again))
    assert one.columns.keys() == other.columns.keys()
    assert all(torch.equal(one.columns[n], other.columns[n]) for n in one.columns)
