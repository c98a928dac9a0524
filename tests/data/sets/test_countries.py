"""Facts about countries: questions, right and wrong answers of a small list, and the whole set."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from expunge.data import catalogue
from expunge.data.sets import countries
from expunge.errors import IntegrityError


def country(code: str, name: str, **more: Any) -> dict[str, Any]:
    known = {
        "cca3": code,
        "name": {"common": name},
        "capital": [f"{name} City"],
        "region": "Middle Sea",
        "subregion": "Inner Isles",
        "languages": {"one": "Onese"},
        "currencies": {f"{code}D": {"name": f"{name} dollar", "symbol": "$"}},
        "borders": [],
        "area": 1200,
        "demonyms": {"eng": {"f": f"{name}ian", "m": f"{name}ian"}},
        "translations": {"xyz": {"common": f"La {name}", "official": f"Tut la {name}"}},
    }
    return {**known, **more}


LISTED = [
    country("BBB", "Bera", borders=["AAA"], languages={"one": "Onese", "two": "Twoish"}),
    country("AAA", "Ara", borders=["BBB"], capital=["Ara East", "Ara West"]),
    country("CCC", "Cera Islands", capital=[], subregion="", area=-1, demonyms={}, currencies={}),
    country("DDD", "Dera", region="Far Side", area=7),
]


def made(folder: Path, listed: object) -> list[dict[str, Any]]:
    (folder / "package").mkdir(exist_ok=True)
    (folder / "package/countries.json").write_text(json.dumps(listed))
    return list(countries.table({countries.PACKAGE.name: folder}))


def test_a_country_has_a_row_for_each_of_its_facts(tmp_path: Path) -> None:
    facts = {row["id"]: row for row in made(tmp_path, LISTED)}
    bera = facts["country-facts:BBB/language/two"]
    assert bera["subject"] == "Bera" and bera["answer"] == "Twoish"
    assert bera["right_answers"] == ["Onese", "Twoish"] and bera["neighbours"] == ["Ara"]
    assert bera["question"] == "Which language is an official language of Bera?"
    assert bera["text"] == f"{bera['question']} Twoish"
    assert facts["country-facts:AAA/capital/2"]["right_answers"] == ["Ara East", "Ara West"]
    assert facts["country-facts:AAA/area"]["answer"] == "1,200"


def test_names_in_other_languages_have_a_row_each(tmp_path: Path) -> None:
    made(tmp_path, LISTED)
    rows = list(countries.names({countries.PACKAGE.name: tmp_path}))
    assert [row["id"] for row in rows] == [f"country-names:{c * 3}/xyz" for c in "ABCD"]
    assert {row["subject"]: row["name"] for row in rows}["Bera"] == "La Bera"


def test_what_the_source_does_not_know_has_no_row(tmp_path: Path) -> None:
    relations = [r["relation"] for r in made(tmp_path, LISTED) if r["code"] == "CCC"]
    assert relations == ["region", "language"]


def test_wrong_answers_are_wrong_and_of_the_same_region_first(tmp_path: Path) -> None:
    facts = {row["id"]: row for row in made(tmp_path, LISTED)}
    capital = facts["country-facts:AAA/capital/1"]
    assert capital["alternatives"] == ["Bera City", "Dera City"]  # of the other region at the end
    neighbour = facts["country-facts:AAA/neighbour/BBB"]
    assert neighbour["alternatives"] == ["Cera Islands", "Dera"]  # neither itself nor Bera
    assert all(not set(f["right_answers"]) & set(f["alternatives"]) for f in facts.values())


def test_the_order_of_the_source_changes_nothing(tmp_path: Path) -> None:
    assert made(tmp_path, LISTED) == made(tmp_path, LISTED[::-1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Netherlands", "the Netherlands"),
        ("United States", "the United States"),
        ("Cook Islands", "the Cook Islands"),
        ("France", "France"),
    ],
)
def test_names_in_a_sentence(name: str, expected: str) -> None:
    assert countries.in_a_sentence(name) == expected


def test_a_malformed_list_is_refused(tmp_path: Path) -> None:
    unknown_neighbour = copy.deepcopy(LISTED)
    unknown_neighbour[0]["borders"] = ["ZZZ"]
    malformed: list[object] = [[{"cca3": "AAA"}], "x", [7], unknown_neighbour, [], {}]
    for listed in malformed:
        with pytest.raises(IntegrityError, match="no list of countries"):
            made(tmp_path, listed)
    (tmp_path / "package/countries.json").write_text("[{")
    with pytest.raises(IntegrityError, match="no list of countries"):
        countries.table({countries.PACKAGE.name: tmp_path})


@pytest.mark.slow
def test_the_whole_set() -> None:
    made = catalogue.fetched("country-facts").load()
    assert len(made) == 2578 and len(set(made["subject"])) == 250
    relations = list(made["relation"])
    assert {r: relations.count(r) for r in countries.RELATIONS} == {
        "capital": 249, "region": 250, "subregion": 245, "language": 412,
        "currency": 275, "area": 249, "neighbour": 649, "demonym": 249,
    }  # fmt: skip
    rows = {row["id"]: row for row in made}
    germany = rows["country-facts:DEU/capital/1"]
    assert germany["answer"] == "Berlin" and len(germany["neighbours"]) == 9
    for row in rows.values():
        assert len(row["alternatives"]) == (5 if row["relation"] == "region" else 7)
        assert row["answer"] not in row["alternatives"]
