"""The emoji grid: how drawings are joined with concepts, and the whole grid."""

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge.data import catalogue
from expunge.data import emoji_grid as shipped
from expunge.data.sets import emoji_grid as grid
from expunge.errors import IntegrityError

pytest.importorskip("resvg_py")

BEAR, DOG, FLAG, HOUR = "1F43B", "1F436", "1F1E9-1F1EA", "23F3"
LABELS = {BEAR: "bear", DOG: "dog face", FLAG: "flag: Germany", HOUR: "hourglass not done"}


def square(colour: str) -> dict[str, Any]:
    return {"body": f'<path fill="{colour}" d="M0 0h16v16H0z"/>'}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Four emoji, one of them a flag; noto knows code points, the others names alone."""
    names = tmp_path / "names/package"
    entries: list[dict[str, Any]] = [
        {"hexcode": code, "label": label, "group": 9 if code == FLAG else 3, "subgroup": 5}
        for code, label in LABELS.items()
    ]
    entries[0]["tags"] = ["bear", "face"]
    for language in grid.LANGUAGES:
        told = entries if language != "de" else [{**entries[0], "label": "Bär"}]
        write(names / f"{language}/data.json", told)
    for name in grid.SHORTCODES:
        write(names / f"en/shortcodes/{name}.json", {DOG: ["dog", "pup"], HOUR: "hourglass"})
    groups = {"groups": {"3": "animals-nature"}, "subgroups": {"5": "animal-mammal"}}
    write(names / "meta/groups.json", groups)
    found = {grid.NAMES.name: tmp_path / "names"}
    for style in grid.STYLES:
        folder = tmp_path / style.name / "package"
        icons = {"bear": square("#f00"), "pup": square("#0f0")}
        chars: dict[str, str] = {}
        if style.name == "noto":
            icons = {"brown-one": square("#f00"), "dog": square("#f00")}
            chars = {BEAR.lower(): "brown-one"}
        write(folder / "icons.json", {"icons": icons, "aliases": {"dog-face": {"parent": "pup"}}})
        write(folder / "chars.json", chars)
        found[style.package.name] = tmp_path / style.name
    return found


def cell(sources: dict[str, Path], style: str, concept: str) -> dict[str, Any]:
    rows = [r for r in grid.table(sources) if (r["style"], r["subject"]) == (style, concept)]
    assert len(rows) == 1
    found: dict[str, Any] = rows[0]
    return found


def test_a_code_point_names_a_drawing_and_so_do_label_alias_and_shortcode(
    sources: dict[str, Path],
) -> None:
    table = grid.table(sources)
    assert set(table["subject"]) == {"1f43b", "1f436"}
    assert len(table) == 2 * len(grid.STYLES)
    row = cell(sources, "noto", "1f43b")
    assert np.asarray(row["image"])[32, 32].tolist() == [255, 0, 0]


def test_a_drawing_is_given_to_one_concept_alone(sources: dict[str, Path]) -> None:
    icons = grid.Icons(sources[grid.STYLES[0].package.name] / "package")
    names = {"1f43b": ["brown-one"], "1f436": ["brown-one", "dog"]}
    assert grid.match("noto", icons, names) == {"1f43b": "brown-one", "1f436": "dog"}


def test_a_picture_that_repeats_another_of_its_style_names_it(sources: dict[str, Path]) -> None:
    assert cell(sources, "noto", "1f43b")["repeats"] == "emoji-grid:noto/1f436"
    assert cell(sources, "noto", "1f436")["repeats"] is None
    assert cell(sources, "twemoji", "1f43b")["repeats"] is None


def test_captions_that_a_language_lacks_stay_missing(sources: dict[str, Path]) -> None:
    assert cell(sources, "openmoji", "1f43b")["captions"]["de"] == "Bär"
    row = cell(sources, "openmoji", "1f436")
    assert row["captions"]["de"] is None
    assert row["captions"]["fr"] == "dog face"


def test_an_oblong_drawing_is_centred_in_a_square(tmp_path: Path) -> None:
    write(tmp_path / "icons.json", {"icons": {"bar": {**square("#00f"), "height": 8}}})
    write(tmp_path / "chars.json", {})
    assert 'viewBox="0 -4 16 16"' in grid.Icons(tmp_path).svg("bar")


def test_no_vendor_is_in_two_splits_and_shipped_styles_are_where_they_were() -> None:
    assert len({(s.vendor, s.split) for s in grid.STYLES}) == len({s.vendor for s in grid.STYLES})
    known = {s.name: s.split for s in grid.STYLES}
    assert {name: known[name] for name in shipped.STYLES} == dict(shipped.STYLES)


@pytest.mark.parametrize("name", ["icons.json", "chars.json"])
def test_a_damaged_file_is_refused(sources: dict[str, Path], name: str) -> None:
    (sources[grid.STYLES[3].package.name] / "package" / name).write_text("[")
    with pytest.raises(IntegrityError, match=name):
        grid.table(sources)


@pytest.mark.parametrize("content", [[], {"icons": {"bear": {}}}])
def test_icons_in_another_form_are_refused(sources: dict[str, Path], content: object) -> None:
    write(sources[grid.STYLES[3].package.name] / "package/icons.json", content)
    with pytest.raises(IntegrityError, match="expected form"):
        grid.table(sources)


def test_names_in_another_form_are_refused(sources: dict[str, Path]) -> None:
    write(sources[grid.NAMES.name] / "package/en/data.json", {"no": "list"})
    with pytest.raises(IntegrityError, match="emojibase-data"):
        grid.table(sources)


@pytest.mark.slow
def test_the_whole_grid_has_the_shipped_pictures_under_the_same_concepts() -> None:
    found = catalogue.fetched("emoji-grid")
    assert found.digest == found.entry.digest
    table = found.load()
    assert collections.Counter(table["style"]) == {
        "noto": 1644,
        "noto-v1": 1216,
        "fluent-emoji": 1586,
        "fluent-emoji-flat": 1586,
        "emojione": 1092,
        "fxemoji": 835,
        "twemoji": 1644,
        "emojione-v1": 933,
        "openmoji": 1644,
    }
    assert len(set(table["subject"])) == 1644
    assert sum(first is not None for first in table["repeats"]) == 96
    small = shipped.load()
    places = {key: i for i, key in enumerate(zip(table["style"], table["subject"], strict=True))}
    rows = [places[key] for key in zip(small["style"], small["subject"], strict=True)]
    for start in range(0, len(rows), 500):
        ours = shipped.pixels(table.select(rows[start : start + 500]))
        theirs = shipped.pixels(small.select(range(start, min(start + 500, len(rows)))))
        assert bool((ours == theirs).all())
