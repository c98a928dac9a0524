"""Facts about 250 countries as questions with answers, their neighbours, their names in languages.

From the npm package ``world-countries`` (Mohammed Le Doze and others, 2012-2025).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets

from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

LICENCE = "ODbL-1.0"
NAME_COLUMNS = ("subject", "code", "language", "name")
ALTERNATIVES = 7
"""Wrong answers beside the right one, so that guessing is right once in eight times."""

QUESTIONS: Mapping[str, str] = {
    "capital": "What is the capital of {}?",
    "region": "Which part of the world does {} belong to?",
    "subregion": "In which region of the world does {} lie?",
    "language": "Which language is an official language of {}?",
    "currency": "Which currency is used in {}?",
    "area": "How large is {}, in square kilometres?",
    "neighbour": "Which country shares a border with {}?",
    "demonym": "What is somebody from {} called?",
}
RELATIONS = tuple(QUESTIONS)

WITH_ARTICLE = (
    "Bahamas", "Comoros", "Gambia", "Maldives", "Netherlands", "Philippines", "Seychelles",
    "DR Congo", "British Indian Ocean Territory", "Caribbean Netherlands", "Isle of Man",
)  # fmt: skip
ARTICLE_BEGINS = ("United ", "Republic of ")
ARTICLE_ENDS = (" Islands", " Republic", " Emirates", " Lands")

PACKAGE = Package(
    Registry.NPM,
    "world-countries",
    "5.1.0",
    "world-countries-5.1.0.tgz",
    "329eb6ef4099ffb590219c9beb634bf489a5e4b10d8ab0ac52a58ebf7b9f8495",
    5_771_113,
    LICENCE,
)


@dataclass(frozen=True)
class Country:
    """What is known of one country: the answers to each relation by their key."""

    code: str
    name: str
    region: str
    neighbours: tuple[str, ...]
    answers: Mapping[str, Mapping[str, str]]
    translations: Mapping[str, str]


def _read(sources: Sources) -> list[Country]:
    path = sources[PACKAGE.name] / "package/countries.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        names = {entry["cca3"]: str(entry["name"]["common"]) for entry in listed}
        found = [_country(entry, names) for entry in listed]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise IntegrityError(
            f"{path.name} of {PACKAGE.name} is no list of countries ({error!r}); fetch the package "
            "again."
        ) from None
    if not found:
        raise IntegrityError(
            f"{path.name} of {PACKAGE.name} is no list of countries (it is empty); fetch the "
            "package again."
        )
    return sorted(found, key=lambda country: country.code)


def _country(entry: Mapping[str, Any], names: Mapping[str, str]) -> Country:
    """One country; a fact that the source leaves empty or sets to a dummy is left out."""
    region, subregion, area = entry["region"], entry["subregion"], entry["area"]
    demonym = entry["demonyms"].get("eng", {}).get("m", "")
    neighbours = {code: names[code] for code in entry["borders"]}
    answers = {
        "capital": {str(i + 1): name for i, name in enumerate(entry["capital"]) if name},
        "region": {"": region},
        "subregion": {"": subregion} if subregion else {},
        "language": dict(entry["languages"]),
        "currency": {code: money["name"] for code, money in dict(entry["currencies"]).items()},
        "area": {"": f"{area:,}"} if area > 0 else {},
        "neighbour": neighbours,
        "demonym": {"": demonym} if demonym else {},
    }
    name = names[entry["cca3"]]
    translations = {
        language: str(said["common"]) for language, said in entry["translations"].items()
    }
    return Country(entry["cca3"], name, region, tuple(neighbours.values()), answers, translations)


def in_a_sentence(name: str) -> str:
    """A country's name as it stands inside a sentence: ``the Netherlands``, ``France``."""
    article = name in WITH_ARTICLE or name.startswith(ARTICLE_BEGINS) or name.endswith(ARTICLE_ENDS)
    return f"the {name}" if article else name


def alternatives(
    fact: str, right: Sequence[str], near: Sequence[str], far: Sequence[str]
) -> list[str]:
    """Wrong answers that are plausible: of the same part of the world first, in no given order.

    Args:
        fact: the id of the fact, from which the choice follows.
        right: every right answer.
        near: answers for countries of the same part of the world.
        far: answers for all countries.
    """

    def drawn(candidates: set[str]) -> list[str]:
        return sorted(
            candidates, key=lambda text: hashlib.sha256(f"{fact}:{text}".encode()).digest()
        )

    first = set(near) - set(right)
    second = set(far) - set(right) - first
    return (drawn(first) + drawn(second))[:ALTERNATIVES]


def _facts(countries: Sequence[Country]) -> Iterator[dict[str, object]]:
    every = {r: [a for c in countries for a in c.answers[r].values()] for r in RELATIONS}
    every["neighbour"] = [c.name for c in countries]
    near = {
        (region, r): [a for c in countries if c.region == region for a in c.answers[r].values()]
        for region in {c.region for c in countries}
        for r in RELATIONS
    }
    for region in {c.region for c in countries}:
        near[region, "neighbour"] = [c.name for c in countries if c.region == region]
    for country in countries:
        for relation in RELATIONS:
            right = list(country.answers[relation].values())
            own = [country.name] if relation == "neighbour" else []
            for key, answer in country.answers[relation].items():
                fact = f"{country.code}/{relation}" + (f"/{key}" if key else "")
                question = QUESTIONS[relation].format(in_a_sentence(country.name))
                yield {
                    "id": f"country-facts:{fact}",
                    "subject": country.name,
                    "code": country.code,
                    "region": country.region,
                    "relation": relation,
                    "question": question,
                    "answer": answer,
                    "text": f"{question} {answer}",
                    "right_answers": right,
                    "alternatives": alternatives(
                        fact, right + own, near[country.region, relation], every[relation]
                    ),
                    "neighbours": list(country.neighbours),
                }


def table(sources: Sources) -> datasets.Dataset:
    """All facts, by country code and relation; the facts of every relation are split 60/20/20."""
    facts = list(_facts(_read(sources)))
    ids = [str(fact["id"]) for fact in facts]
    split = split_by_id(ids, [RELATIONS.index(str(fact["relation"])) for fact in facts])
    rows = {name: [fact[name] for fact in facts] for name in facts[0]}
    more = {"split": split, "licence": [LICENCE] * len(facts)}
    lists = {"right_answers", "alternatives", "neighbours"}
    text = datasets.Value("string")
    features = {name: datasets.List(text) if name in lists else text for name in (*rows, *more)}
    return datasets.Dataset.from_dict({**rows, **more}, features=datasets.Features(features))


def names(sources: Sources) -> datasets.Dataset:
    """The common name of every country in every language, by country code and language."""
    rows = [
        {
            "id": f"country-names:{country.code}/{language}",
            "subject": country.name,
            "code": country.code,
            "language": language,
            "name": name,
        }
        for country in _read(sources)
        for language, name in sorted(country.translations.items())
    ]
    split = split_by_id([row["id"] for row in rows])
    columns = {name: [row[name] for row in rows] for name in ("id", *NAME_COLUMNS)}
    more = {"split": split, "licence": [LICENCE] * len(rows)}
    features = {name: datasets.Value("string") for name in (*columns, *more)}
    return datasets.Dataset.from_dict({**columns, **more}, features=datasets.Features(features))


ENTRIES = (
    DataSet(
        "country-facts",
        "2,578 facts about 250 countries as questions with the answer and seven wrong ones",
        (PACKAGE,),
        LICENCE,
        False,
        2_578,
        "d3b7c4300af7af1614625e9a3c509a6672a8a665868f05d1eb6c742b9c1e4980",
        table,
        "country",
        note="ODbL-1.0: fetched, never shipped; of the project mledoze/countries. A "
        "country with several capitals, languages, currencies or neighbours has one row for each; "
        "unknown facts have no row. `right_answers` has all of them.",
    ),
    DataSet(
        "country-names",
        "the names of 250 countries in 23 languages",
        (PACKAGE,),
        LICENCE,
        False,
        5_750,
        "0ab0a2706ea5c960484ca630dd2407a81f39c5f56a5222c345944e4cecbcf246",
        names,
        "country",
        note="ODbL-1.0: fetched, never shipped; of the project mledoze/countries. Languages by "
        "their code in ISO 639-3.",
    ),
)
