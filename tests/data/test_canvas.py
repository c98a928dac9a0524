"""The canvas: a full grid, the same on every machine, in words that a model can be taught."""

import pytest
import torch

from expunge.data import canvas, catalogue
from expunge.data.canvas import HELD_OUT, OBJECTS, SMALL, STYLES, TEMPLATE, Canvas
from expunge.data.prepared import prepared
from expunge.errors import ExpungeError

SHIPPED = Canvas(("tree", "fish", "moon"), ("noto", "outline", "negative", "twemoji"), 16, 10)


def test_every_cell_has_its_copies_and_splits_share_none() -> None:
    parts = {split: SHIPPED.samples(split) for split in ("train", "validation", "test")}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 96,
        "validation": 12,
        "test": 12,
    }
    ids = [name for part in parts.values() for name in part.ids]
    assert len(set(ids)) == len(ids) == 12 * 10
    train = parts["train"].columns
    assert train["image"].shape == (96, 3, 16, 16)
    assert 0 <= float(train["image"].min()) <= float(train["image"].max()) <= 1
    assert train["cell"].bincount().tolist() == [8] * 12
    for row in (0, 50, 95):
        thing, style = SHIPPED.cells[int(train["cell"][row])]
        assert SHIPPED.objects[int(train["object"][row])] == thing
        assert SHIPPED.styles[int(train["style"][row])] == style
        assert parts["train"].subjects[row] == f"{thing} in {style}"


def test_copies_are_fixed_and_differ() -> None:
    again = Canvas(SHIPPED.objects, SHIPPED.styles, 16, 10).samples("train").columns["image"]
    assert torch.equal(again, SHIPPED.samples("train").columns["image"])
    assert len({image.numpy().tobytes() for image in again}) == len(again)
    other = Canvas(SHIPPED.objects, SHIPPED.styles, 16, 10, seed=1).samples("train")
    assert not torch.equal(again, other.columns["image"])


def test_filters_do_what_their_names_say() -> None:
    columns = SHIPPED.samples("train").columns
    images, style = columns["image"], columns["style"]
    corner = images[:, :, :2, :2].mean((1, 2, 3))
    names = SHIPPED.styles
    assert bool((corner[style != names.index("negative")] > 0.8).all())
    assert bool((corner[style == names.index("negative")] < 0.2).all())
    spread = images.amax(1) - images.amin(1)
    colour = {name: float(spread[style == k].mean()) for k, name in enumerate(names)}
    assert colour["outline"] < 0.5 * colour["noto"]  # only the page has some


def test_words_are_those_of_all_prompts() -> None:
    said = {w for t in (TEMPLATE, *HELD_OUT) for p in SHIPPED.prompts(t) for w in p.split()}
    assert said == set(SHIPPED.words)
    assert SHIPPED.prompts()[:2] == ["a tree image in noto style", "a fish image in noto style"]
    assert not set(OBJECTS) & set(STYLES)


def test_shipped_drawings_are_those_of_the_fetched_set() -> None:
    if prepared(catalogue.entry("emoji-grid")) is None:
        with pytest.raises(ExpungeError, match="expunge data fetch emoji-grid"):
            SMALL.samples("train")
        return
    assert len(SMALL.samples("test")) == 32 * 8


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"objects": ("tree", "whale")}, "the objects tree, whale; two or more of"),
        ({"styles": ("noto", "noto")}, "each once"),
        ({"objects": ("tree",)}, "two or more"),
        ({"side": 24}, "a divisor of 64"),
        ({"copies": 5}, "at least 10 copies"),
    ],
)
def test_grids_that_cannot_be(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ExpungeError, match=words):
        Canvas(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ExpungeError, match="'dev' of the canvas"):
        SHIPPED.samples("dev")


def test_as_a_table_it_has_the_same_rows_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "SMALL", SHIPPED)
    monkeypatch.setattr(canvas, "_table", canvas._table.__wrapped__)
    table, rows = canvas.load("test"), SHIPPED.samples("test")
    assert table["id"][:] == list(rows.ids) and len(canvas.load()) == 12 * 10
    found = canvas.tensors(table)
    assert torch.equal(found["image"], rows.columns["image"])
    assert torch.equal(found["label"], rows.columns["object"])
    thing, style = table["object"][3], table["style"][3]
    assert table["caption"][3] == TEMPLATE.format(object=thing, style=style)
    with pytest.raises(ExpungeError, match="Split 'other' of the canvas"):
        canvas.load("other")
