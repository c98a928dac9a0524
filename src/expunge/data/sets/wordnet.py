"""Named people and places of WordNet 3.0, one row each: names, life years, calling, description.

Fellbaum, editor (1998). WordNet: An Electronic Lexical Database. From the Debian package
``wordnet-base``.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets

from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

LICENCE = "LicenseRef-WordNet-3.0"
ATTRIBUTION = "WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved."
PERSON, PLACE = 18, 15  # lexicographer files noun.person and noun.location
INSTANCE_OF, KIND_OF, PART_OF, PERTAINS_TO = "@i", "@", "#p", "\\"
OLDEST = 120
"""Years of a life above which the numbers in brackets are no life years."""

ONE_NATION: Mapping[str, str] = {"American": "United States"}
NO_ADJECTIVE_OF_PLACE = ("United States", "New Zealand", "Australian", "Boer", "Aztec")
"""Said of people in the glosses, but no adjective that WordNet derives from a place."""

Columns = Mapping[str, tuple[object, Sequence[object]]]
"""The feature and the values of each column."""

PACKAGE = Package(
    Registry.DEBIAN,
    "wordnet-base",
    "1:3.0-37",
    "wordnet-base_1%3a3.0-37_all.deb",
    "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    6_467_132,
    LICENCE,
)

_TOPIC = re.compile(r"^\([^)]*\)\s*")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_ABOUT = r"(?P<about>circa |ca\. |c )?"
_SPAN = re.compile(
    _ABOUT + r"(?:(?P<born>\d{1,4})(?P<unsure>\?)?(?P<first> BC| AD)?|\?) ?(?:-| to ) ?"
    r"(?:AD )?(?:(?P<died>\d{1,4})(?P<doubtful>\?)?(?P<second> BC| AD)?)?"
)
_BIRTH = re.compile(r"born (?:in )?(?:(?:the )?[A-Z][A-Za-z ]+ in )?(?P<born>\d{3,4})")
_DEATH = re.compile(r"died (?:in |(?P<about>around ))?(?P<died>\d{1,4})(?P<second> BC)?")


@dataclass(frozen=True)
class Synset:
    """One meaning: its words, its pointers (relation, target offset, part of speech), its gloss."""

    offset: str
    file: int
    words: tuple[str, ...]
    pointers: tuple[tuple[str, str, str], ...]
    gloss: str

    def targets(self, *relations: str) -> tuple[str, ...]:
        """Offsets of the nouns that one of these relations points to."""
        return tuple(
            o for relation, o, pos in self.pointers if relation in relations and pos == "n"
        )


@dataclass(frozen=True)
class Life:
    """Years of birth and death, negative before Christ; None where the gloss does not say."""

    born: int | None = None
    died: int | None = None
    about: bool = False


def synsets(path: Path) -> Iterator[Synset]:
    """The synsets of a WordNet data file, see wndb(5WN).

    Raises:
        IntegrityError: the file is missing or a line is none of a data file.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{path.name} of WordNet cannot be read ({error}); fetch the package again."
        ) from None
    for number, line in enumerate(lines, 1):
        if line.startswith("  "):  # the licence
            continue
        try:
            head, gloss = line.split("|", 1)
            fields = head.split()
            count = int(fields[3], 16)
            words = tuple(w.split("(")[0].replace("_", " ") for w in fields[4 : 4 + 2 * count : 2])
            first = 5 + 2 * count  # after the number of pointers: symbol, offset, pos, words
            pointers = tuple(
                (fields[i], fields[i + 1], fields[i + 2])
                for i in range(first, first + 4 * int(fields[first - 1]), 4)
            )
            yield Synset(fields[0], int(fields[1]), words, pointers, gloss.strip())
        except (ValueError, IndexError):
            raise IntegrityError(
                f"Line {number} of {path.name} is no synset of WordNet; fetch the package again."
            ) from None


def life(gloss: str) -> Life:
    """The life years in the brackets of a gloss: (1867-1960), (born in 1933), (circa 460-377 BC).

    Brackets with other numbers (reigns, centuries, years of a deed) are no life years.
    """
    born: int | None = None
    died: int | None = None
    about = False
    for text in _BRACKETS.findall(gloss):
        match = _SPAN.fullmatch(text) or _BIRTH.fullmatch(text) or _DEATH.fullmatch(text)
        if match is None:
            continue
        found = match.groupdict()
        ends = found.get("second") == " BC"
        begins = found.get("first") == " BC" or (ends and not found.get("first"))
        if found.get("born") and born is None:
            born = -int(found["born"]) if begins else int(found["born"])
        if found.get("died") and died is None:
            died = -int(found["died"]) if ends else int(found["died"])
        about = about or any(found.get(k) for k in ("about", "unsure", "doubtful"))
    if born is not None and died is not None and not 0 < died - born <= OLDEST:
        return Life()
    return Life(born, died, about)


def person_name(words: Sequence[str]) -> str:
    """The name by which a person is called: ``Steven Weinberg`` of (Weinberg, Steven Weinberg)."""
    first = words[0]
    if " " in first and first[0].isupper():
        return first
    full = [word for word in words[1:] if " " in word]
    ending = (word for word in full if word.endswith(f" {first}"))
    holding = (word for word in full if first in word.split())
    return next(ending, next(holding, first))


def nationalities(adjectives: Sequence[Synset], nouns: Mapping[str, Synset]) -> re.Pattern[str]:
    """Finds the adjectives that WordNet derives from places, the longest first."""
    words = set(NO_ADJECTIVE_OF_PLACE)
    for adjective in adjectives:
        places = (nouns[o] for o in adjective.targets(PERTAINS_TO) if o in nouns)
        if any(place.file == PLACE for place in places):
            words |= {word for word in adjective.words if word[0].isupper()}
    longest = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])")


def nationality(gloss: str, pattern: re.Pattern[str]) -> str | None:
    """The nation named first in the opening words of a gloss; None where there is none."""
    opening = re.split(r"[;(]| who | whose ", _TOPIC.sub("", gloss))[0]
    found = pattern.search(opening)
    return ONE_NATION.get(found[0], found[0]) if found else None


def _ancestors(synset: Synset, nouns: Mapping[str, Synset]) -> set[str]:
    """First words of everything a synset is an instance or a kind of."""
    found: set[str] = set()
    waiting = list(synset.targets(INSTANCE_OF, KIND_OF))
    while waiting:
        offset = waiting.pop()
        if offset in found or offset not in nouns:
            continue
        found.add(offset)
        waiting += nouns[offset].targets(INSTANCE_OF, KIND_OF)
    return {nouns[offset].words[0] for offset in found}


def _being(synset: Synset, nouns: Mapping[str, Synset]) -> str:
    above = _ancestors(synset, nouns)
    if "imaginary being" in above:
        return "imaginary"
    if "person" in above:
        return "person"
    return "spiritual" if "spiritual being" in above else "other"


def _distinct(names: Sequence[str], hints: Sequence[str], offsets: Sequence[str]) -> list[str]:
    """Names as unique subjects: a repeated one with its hint, or with its offset."""
    often = Counter(names)
    hinted = [f"{n} ({h})" if often[n] > 1 and h else n for n, h in zip(names, hints, strict=True)]
    still = Counter(hinted)
    return [
        subject if still[subject] == 1 else f"{name} ({offset})"
        for subject, name, offset in zip(hinted, names, offsets, strict=True)
    ]


def _instances(nouns: Mapping[str, Synset], file: int) -> list[Synset]:
    return [s for s in nouns.values() if s.file == file and s.targets(INSTANCE_OF)]


def _nouns(sources: Sources) -> dict[str, Synset]:
    return {s.offset: s for s in synsets(_dictionary(sources) / "data.noun")}


def _dictionary(sources: Sources) -> Path:
    return sources[PACKAGE.name] / "usr/share/wordnet"


def _first_words(synset: Synset, relation: str, nouns: Mapping[str, Synset]) -> list[str]:
    return [nouns[o].words[0] for o in synset.targets(relation) if o in nouns]


def people(sources: Sources) -> datasets.Dataset:
    """Everybody whom WordNet names, real or not, in the order of the offsets; split by id."""
    nouns = _nouns(sources)
    pattern = nationalities(list(synsets(_dictionary(sources) / "data.adj")), nouns)
    found = _instances(nouns, PERSON)
    lives = [life(s.gloss) for s in found]
    names = [person_name(s.words) for s in found]
    years = [f"{one.born or '?'} to {one.died or '?'}" if one != Life() else "" for one in lives]
    ids = [f"wordnet-people:{s.offset}" for s in found]
    text, texts = datasets.Value("string"), datasets.List(datasets.Value("string"))
    columns: Columns = {
        "id": (text, ids),
        "subject": (text, _distinct(names, years, [s.offset for s in found])),
        "name": (text, names),
        "other_names": (
            texts,
            [[w for w in s.words if w != name] for s, name in zip(found, names, strict=True)],
        ),
        "kind": (text, [_being(s, nouns) for s in found]),
        "born": (datasets.Value("int64"), [one.born for one in lives]),
        "died": (datasets.Value("int64"), [one.died for one in lives]),
        "years_about": (datasets.Value("bool"), [one.about for one in lives]),
        "nationality": (text, [nationality(s.gloss, pattern) for s in found]),
        "professions": (texts, [_first_words(s, INSTANCE_OF, nouns) for s in found]),
        "text": (text, [s.gloss for s in found]),
    }
    return _table(columns, ids)


def places(sources: Sources) -> datasets.Dataset:
    """Every place that WordNet names, in the order of the offsets; split by id."""
    nouns = _nouns(sources)
    found = _instances(nouns, PLACE)
    names = [s.words[0] for s in found]
    wholes = [_first_words(s, PART_OF, nouns) for s in found]
    hints = [whole[0] if whole else "" for whole in wholes]
    ids = [f"wordnet-places:{s.offset}" for s in found]
    text, texts = datasets.Value("string"), datasets.List(datasets.Value("string"))
    columns: Columns = {
        "id": (text, ids),
        "subject": (text, _distinct(names, hints, [s.offset for s in found])),
        "name": (text, names),
        "other_names": (texts, [list(s.words[1:]) for s in found]),
        "kinds": (texts, [_first_words(s, INSTANCE_OF, nouns) for s in found]),
        "located_in": (texts, wholes),
        "text": (text, [s.gloss for s in found]),
    }
    return _table(columns, ids)


def _table(columns: Columns, ids: list[str]) -> datasets.Dataset:
    text = datasets.Value("string")
    more = {"split": (text, split_by_id(ids)), "licence": (text, [LICENCE] * len(ids))}
    every: Columns = {**columns, **more}
    features = datasets.Features({name: feature for name, (feature, _) in every.items()})
    rows = {name: values for name, (_, values) in every.items()}
    return datasets.Dataset.from_dict(rows, features=features)


ENTRIES = (
    DataSet(
        "wordnet-people",
        "3,815 named people, deities and fictional characters with years, nation and deeds",
        (PACKAGE,),
        LICENCE,
        True,
        3_815,
        "bff4370bd15d645e630d26e190f674d013ed2c75fa0dd823bccc11005f151f1b",
        people,
        "person",
        note=f"{ATTRIBUTION} Of 2006: who is said to live may have died since. Years before "
        "Christ are negative; years, nation and kind are read from the description and missing "
        "where it does not state them.",
    ),
    DataSet(
        "wordnet-places",
        "2,357 named places with what they are, what they lie in and a description",
        (PACKAGE,),
        LICENCE,
        True,
        2_357,
        "d2c89da8f8a7c29dd0230b3496a7a921ed3c45d069c5e8fefe7bc2e76c78b468",
        places,
        "place",
        note=f"{ATTRIBUTION} Of 2006.",
    ),
)
