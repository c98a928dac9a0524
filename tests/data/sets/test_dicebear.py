"""Drawn people: who keeps what, what changes, how Node is called, and the whole set."""

import collections
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from expunge.data import catalogue
from expunge.data.sets import dicebear as people
from expunge.errors import ExpungeError, IntegrityError

pytest.importorskip("resvg_py")

# Stands for Node: one grey square a drawing, darker with every one.
DRAWS = """
import json
wanted = json.load(open("wanted.json"))
svg = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><path fill="#{0:06x}" '
svg += 'd="M0 0h8v8H0z"/></svg>'
json.dump([svg.format(i) for i in range(len(wanted))], open("drawings.json", "w"))
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = {}
    for package in (people.CORE, *(style.package for style in people.STYLES)):
        (tmp_path / package.name / "package").mkdir(parents=True)
        found[package.name] = tmp_path / package.name
    return found


def node(tmp_path: Path, script: str) -> None:
    """Puts a program of that name on the path."""
    path = tmp_path / "bin/node"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)


def test_a_person_keeps_everything_but_expression_and_clothes() -> None:
    for style in people.STYLES:
        of_one = [s for s in people.sittings() if s.subject == f"{style.name}/07"]
        changing = {
            name
            for name in of_one[0].options
            if len({sitting.options[name] for sitting in of_one}) > 1
        }
        assert changing == {*people.EXPRESSION, *style.clothes}


def test_two_people_of_a_style_never_share_their_likeness() -> None:
    for style in people.STYLES:
        seen = {tuple(p[name] for name in list(style.fixed)[:3]) for p in people.people(style)}
        assert len(seen) == people.PEOPLE


def test_the_twelve_expressions_of_a_style_all_differ() -> None:
    for style in people.STYLES:
        made = [people.expression(style, i) for i in range(people.EXPRESSIONS)]
        assert len({tuple(e.items()) for e in made}) == people.EXPRESSIONS


def test_a_part_that_a_person_lacks_is_switched_off_and_others_on() -> None:
    style = people.STYLES[0]
    options = {"hair": "long01", "glasses": "variant02", "earrings": None}
    wanted = people.Sitting(style, 0, 0, options).wanted()
    assert wanted == {
        "style": "adventurer",
        "options": {
            "hair": ["long01"],
            "glasses": ["variant02"],
            "glassesProbability": 100,
            "earrings": [],
            "earringsProbability": 0,
        },
    }


def test_every_person_has_eight_pictures_to_train_two_to_validate_two_to_test(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    node(tmp_path, DRAWS)
    table = people.table(sources)
    places = collections.Counter(zip(table["subject"], table["split"], strict=True))
    assert len(table) == 2400
    assert {n for (_, split), n in places.items() if split == "train"} == {8}
    assert {n for (_, split), n in places.items() if split != "train"} == {2}
    assert set(table["licence"]) == {"CC-BY-4.0", "CC0-1.0"}
    # the drawings are those of the rows, in their order
    assert np.asarray(table[1234]["image"])[32, 32].tolist() == [0, 4, 210]


def test_without_node_the_error_says_what_to_install(sources: dict[str, Path]) -> None:
    with pytest.raises(ExpungeError, match=r"node, which is not on this machine; install Node\.js"):
        people.table(sources)


def test_what_node_complains_about_is_told(sources: dict[str, Path], tmp_path: Path) -> None:
    node(tmp_path, "import sys\nsys.exit('SyntaxError: Unexpected token')")
    with pytest.raises(ExpungeError, match="SyntaxError: Unexpected token"):
        people.table(sources)


@pytest.mark.parametrize("written", ["", "{", "[]", json.dumps(["<svg/>"])])
def test_too_few_drawings_are_refused(
    sources: dict[str, Path], tmp_path: Path, written: str
) -> None:
    node(tmp_path, f"open('drawings.json', 'w').write({written!r})")
    with pytest.raises(IntegrityError, match="2400 drawings"):
        people.table(sources)
    assert not any((tmp_path / "cache/data/unfinished").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="the drawings are made with Node.js")
def test_no_two_of_the_2400_pictures_are_alike() -> None:
    found = catalogue.fetched("dicebear-people")
    assert found.digest == found.entry.digest
    table = found.load()
    assert len(set(table["subject"])) == 200
    pictures = {np.asarray(row["image"].convert("RGB")).tobytes() for row in table}
    assert len(pictures) == 2400
