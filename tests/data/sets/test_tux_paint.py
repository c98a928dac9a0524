"""Tux Paint stamps: captions, translations, mirrored stamps, and the whole set."""

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expunge.data import catalogue
from expunge.data.sets import tux_paint as stamps
from expunge.errors import IntegrityError

pytest.importorskip("resvg_py")

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="24pt" height="12pt">'
    '<path fill="#00f" d="M0 0h99v99H0z"/></svg>'
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tiger in three forms, its cub, a wheel without a picture, a boat as PNG and SVG."""
    root = tmp_path / "usr/share/tuxpaint/stamps"
    cats, town = root / "animals/cats", root / "town"
    cats.mkdir(parents=True)
    town.mkdir()
    clear = Image.new("RGBA", (300, 150), (255, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 150, 150))
    clear.save(cats / "tiger.png")
    clear.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(cats / "tiger_mirror.png")
    (cats / "tiger.txt").write_text(
        "A tiger. \nde.utf8=Ein Tiger.\nsr@latin.utf8=Tigar.\nfr.utf8=\n\n", encoding="utf-8"
    )
    (cats / "tiger-cub.svg").write_text(SVG)
    (cats / "tiger-cub.txt").write_text("A tiger.\n")
    (town / "wheel.txt").write_text("A wheel.\n")
    Image.new("L", (3, 3), 7).save(town / "boat.png")
    (town / "boat.svg").write_text(SVG)
    (town / "boat.txt").write_text("A boat.\n")
    return root


def rows(root: Path) -> dict[str, dict[str, Any]]:
    table = stamps.table({stamps.PACKAGE.name: root.parents[3]})
    return {row["id"].partition(":")[2]: row for row in table}


def test_a_stamp_has_caption_category_and_the_translations_that_are_not_empty(root: Path) -> None:
    tiger = rows(root)["animals/cats/tiger"]
    assert tiger["caption"] == "A tiger."
    assert tiger["category_path"] == ["animals", "cats"]
    assert tiger["translations"] == [
        {"language": "de", "text": "Ein Tiger."},
        {"language": "sr@latin", "text": "Tigar."},
    ]


def test_a_mirrored_stamp_names_its_original_and_shares_its_split(root: Path) -> None:
    found = rows(root)
    mirrored = found["animals/cats/tiger_mirror"]
    assert mirrored["mirror_of"] == "tux-paint-stamps:animals/cats/tiger"
    assert found["animals/cats/tiger"]["mirror_of"] is None
    assert np.array_equal(
        np.asarray(mirrored["image"])[:, ::-1], np.asarray(found["animals/cats/tiger"]["image"])
    )
    assert len({row["split"] for row in found.values() if row["caption"] == "A tiger."}) == 1


def test_a_caption_without_a_picture_is_no_stamp_and_png_goes_before_svg(root: Path) -> None:
    found = rows(root)
    assert len(found) == 4
    assert found["town/boat"]["format"] == "png"
    assert np.asarray(found["town/boat"]["image"]).tolist() == [[[7] * 3] * 3] * 3


def test_large_pictures_are_fitted_into_128_pixels_on_white(root: Path) -> None:
    found = rows(root)
    picture = np.asarray(found["animals/cats/tiger"]["image"])
    assert picture.shape == (64, 128, 3)
    assert picture[30, 10].tolist() == [255, 0, 0]
    assert picture[30, 120].tolist() == [255, 255, 255]


def test_a_drawing_measured_in_points_is_drawn(root: Path) -> None:
    picture = np.asarray(rows(root)["animals/cats/tiger-cub"]["image"])
    assert picture.shape == (64, 128, 3)
    assert picture[30, 60].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tiger.txt", b"\n"),
        ("tiger.txt", b"\xff\xfe"),
        ("tiger.png", b"no picture"),
        ("tiger-cub.svg", b"<svg"),
    ],
)
def test_damaged_files_are_refused(root: Path, name: str, content: bytes) -> None:
    (root / "animals/cats" / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=name):
        rows(root)


@pytest.mark.slow
def test_the_whole_set_has_950_stamps_and_11_mirrored_ones_in_77_languages() -> None:
    found = catalogue.fetched("tux-paint-stamps")
    assert found.digest == found.entry.digest
    table = found.load()
    mirrored = [first for first in table["mirror_of"] if first is not None]
    assert (len(table), len(mirrored)) == (961, 11)
    assert set(mirrored) <= set(table["id"])
    assert len({t["language"] for told in table["translations"] for t in told}) == 77
    assert len(set(table["caption"])) == 804
    splits = collections.defaultdict(set)
    for caption, split in zip(table["caption"], table["split"], strict=True):
        splits[caption].add(split)
    assert all(len(found_in) == 1 for found_in in splits.values())
