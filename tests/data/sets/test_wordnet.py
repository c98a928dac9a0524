"""WordNet's named people and places: what is read from glosses and pointers, and the whole sets."""

import re
from pathlib import Path

import pytest

from expunge.data import catalogue
from expunge.data.sets import wordnet
from expunge.data.sets.wordnet import Life
from expunge.errors import IntegrityError

NOUNS = """\
  1 The licence of the dictionary
00000001 03 n 01 person 0 000 | a human being
00000002 18 n 01 chemist 0 001 @ 00000001 n 0000 | a scientist who specialises in chemistry
00000003 03 n 01 spiritual_being 0 000 | an incorporeal being
00000004 18 n 01 Greek_deity 0 001 @ 00000003 n 0000 | a deity of the Greeks
00000005 15 n 01 city 0 000 | a large settlement
00000006 15 n 01 France 0 001 @i 00000005 n 0000 | a country in Europe
00000007 15 n 02 Lyon 0 Lyons 0 002 @i 00000005 n 0000 #p 00000006 n 0000 | a city in France
00000008 15 n 01 Lyon 0 001 @i 00000005 n 0000 | another Lyon
00000009 18 n 03 Smith 0 John_Smith 0 Sir_John_Smith 0 001 @i 00000002 n 0000 | French chemist (1701-1760)
00000010 18 n 02 Smith 0 John_Smith 0 001 @i 00000002 n 0000 | (Greek) American chemist (born in 1933)
00000011 18 n 01 Zeta 0 001 @i 00000004 n 0000 | goddess of letters
"""  # noqa: E501
ADJECTIVES = """\
00000020 01 a 01 French(a) 0 001 \\ 00000006 n 0101 | of France
00000021 01 a 01 American 0 001 \\ 00000008 n 0101 | of America
"""


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "usr/share/wordnet"
    folder.mkdir(parents=True)
    (folder / "data.noun").write_text(NOUNS)
    (folder / "data.adj").write_text(ADJECTIVES)
    return {wordnet.PACKAGE.name: tmp_path}


def test_people_have_a_full_name_years_nation_and_profession(sources: dict[str, Path]) -> None:
    first, second, goddess = wordnet.people(sources)
    assert first["id"] == "wordnet-people:00000009"
    assert first["name"] == "John Smith" and first["other_names"] == ["Smith", "Sir John Smith"]
    assert (first["born"], first["died"], first["nationality"]) == (1701, 1760, "French")
    assert first["professions"] == ["chemist"] and first["kind"] == "person"
    assert (second["born"], second["died"]) == (1933, None)
    assert second["nationality"] == "United States"
    assert [first["subject"], second["subject"]] == [
        "John Smith (1701 to 1760)",
        "John Smith (1933 to ?)",
    ]
    assert goddess["kind"] == "spiritual" and goddess["nationality"] is None
    assert goddess["subject"] == "Zeta" and goddess["born"] is None


def test_places_lie_in_their_wholes_and_namesakes_are_told_apart(sources: dict[str, Path]) -> None:
    france, lyon, other = wordnet.places(sources)
    assert lyon["other_names"] == ["Lyons"] and lyon["located_in"] == ["France"]
    assert france["kinds"] == ["city"] and france["located_in"] == []
    assert [lyon["subject"], other["subject"]] == ["Lyon (France)", "Lyon"]


@pytest.mark.parametrize(
    ("gloss", "expected"),
    [
        ("a reformer (1867-1960)", Life(1867, 1960)),
        ("a painter (born in Italy) (1599-1660)", Life(1599, 1660)),
        ("a physicist (born in 1933)", Life(1933)),
        ("a dancer (born in the United States in 1956)", Life(1956)),
        ("a saint (died in 64)", Life(None, 64)),
        ("a Greek (500-428 BC)", Life(-500, -428)),
        ("a Greek (circa 460-377 BC)", Life(-460, -377, about=True)),
        ("an emperor (63 BC - AD 14)", Life(-63, 14)),
        ("a prophet (circa 4 BC - 29 AD)", Life(-4, 29, about=True)),
        ("a theologian (256?-336)", Life(256, 336, about=True)),
        ("a king (?-999)", Life(None, 999)),
        ("a Roman (6th century BC)", Life()),
        ("a king (reigned from 534 to 510 BC)", Life()),
        ("an inventor (1865-1823)", Life()),  # a slip of the source
        ("a dynasty (1618-1857)", Life()),
    ],
)
def test_life_years_of_a_gloss(gloss: str, expected: Life) -> None:
    assert wordnet.life(gloss) == expected


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("Kidd", "William Kidd", "Captain Kidd"), "William Kidd"),
        (("Hero", "Heron", "Hero of Alexandria"), "Hero of Alexandria"),
        (("Louis IX", "Saint Louis"), "Louis IX"),
        (("du Maurier", "Daphne du Maurier"), "Daphne du Maurier"),
        (("Virgil", "Publius Vergilius Maro"), "Virgil"),
    ],
)
def test_the_name_by_which_a_person_is_called(words: tuple[str, ...], name: str) -> None:
    assert wordnet.person_name(words) == name


def test_a_nation_counts_in_the_opening_words_only() -> None:
    pattern = re.compile("French|English")
    assert wordnet.nationality("English poet who lived in French exile", pattern) == "English"
    assert wordnet.nationality("poet who wrote in French", pattern) is None


@pytest.mark.parametrize("line", ["no synset at all", "00000001 03 n 01 person 0 001 | cut"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "data.noun"
    path.write_text(f"  1 licence\n{line}\n")
    with pytest.raises(IntegrityError, match=r"Line 2 of data.noun"):
        list(wordnet.synsets(path))


def test_a_missing_dictionary_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"data.noun of WordNet cannot be read"):
        wordnet.people({wordnet.PACKAGE.name: tmp_path})


@pytest.mark.slow
def test_the_whole_set_of_people() -> None:
    made = catalogue.fetched("wordnet-people").load()
    assert len(set(made["subject"])) == len(made) == 3815
    kinds = list(made["kind"])
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {"person": 3315, "spiritual": 320, "imaginary": 177, "other": 3}
    by_name = {row["name"]: row for row in made}
    weinberg = by_name["Steven Weinberg"]
    assert (weinberg["born"], weinberg["nationality"]) == (1933, "United States")
    assert weinberg["professions"] == ["physicist"]
    assert by_name["Sophocles"]["born"] == -496


@pytest.mark.slow
def test_the_whole_set_of_places() -> None:
    made = catalogue.fetched("wordnet-places").load()
    assert len(set(made["subject"])) == len(made) == 2357
    seattle = next(row for row in made if row["name"] == "Seattle")
    assert seattle["located_in"] == ["Washington"] and "city" in seattle["kinds"]
