"""Questions about real countries and people, and about invented ones, each with eight options.

Capitals are of the set ``country-facts``, names in other languages of ``country-names``, callings
and nations of ``wordnet-people``. A question is a beginning that the answer completes: a model of
this size answers that better than a question with a question mark. Options differ in their first
token, so that one pass over prompt and answer says which of them the model prefers.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from expunge.benchmarks.facts.people import invented
from expunge.data.catalogue import at_hand
from expunge.data.sets.countries import in_a_sentence
from expunge.errors import ExpungeError
from expunge.run import Run

Name = Literal["capitals", "people"]
First = Callable[[str], int]
"""The first token of an answer."""

CHOICES = 8
"""Options of a question; guessing is right once in as many times."""

SMALLEST = 2000
"""Square kilometres of the smallest country that is asked about."""

COMMON = 12
"""People that share a calling or a nation at least, for it to be asked about."""

ONE_ADJECTIVE = {"United States": "American"}
"""Nations of the set that are called otherwise of a person."""


@dataclass(frozen=True)
class Wording:
    """Beginnings that ask for one relation, with ``{}`` for the subject.

    Args:
        trained: those that forgetting and rehearsing are done with.
        other: those that are only asked.
    """

    trained: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def every(self) -> tuple[str, ...]:
        """All of them, the trained ones first."""
        return self.trained + self.other


WORDINGS: Mapping[str, Wording] = {
    "capital": Wording(
        ("The capital of {} is", "Country: {}. Capital:"),
        (
            "The government of {} sits in its capital,",
            "If you fly to the capital of {}, you land in",
        ),
    ),
    "calling": Wording(
        ("{} was a famous", "Name: {}. Profession:"),
        ("{} is best known as a", "By profession, {} was a"),
    ),
    "nation": Wording(
        ("The nationality of {} was", "Name: {}. Nationality:"),
        ("By nationality, {} was", "Wikipedia: {} was"),
    ),
}
REVERSE = "{} is the capital of"
LANGUAGES: Mapping[str, tuple[str, str]] = {
    "Spanish": ("spa", "País: {}. Capital:"),
    "Italian": ("ita", "Paese: {}. Capitale:"),
}
"""By language: its code, and a beginning without an article; the answer stays the English one."""


@dataclass(frozen=True)
class Question:
    """One beginning, and the options to complete it.

    Args:
        id: stable and unique.
        subject: whom or what it is about.
        prompt: the beginning.
        options: answers with different first tokens; the true one first.
    """

    id: str
    subject: str
    prompt: str
    options: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The true one."""
        return self.options[0]


@dataclass(frozen=True)
class Fact:
    """What is true of one subject.

    Args:
        subject: a country or a person.
        relation: a key of :data:`WORDINGS`.
        named: the subject as it stands in a sentence.
        options: answers with different first tokens; the true one first.
        near: subjects that it is easily confused with: neighbours, or people of its calling.
    """

    subject: str
    relation: str
    named: str
    options: tuple[str, ...]
    near: tuple[str, ...]

    @property
    def id(self) -> str:
        """Stable and unique."""
        return f"{self.subject}/{self.relation}"

    def asked(self, beginnings: Sequence[str], named: str = "") -> list[Question]:
        """The fact in these words, of the subject by another name where one is given."""
        return [
            Question(
                f"{self.id}/{text}/{named}",
                self.subject,
                text.format(named or self.named),
                self.options,
            )
            for text in beginnings
        ]

    @property
    def trained(self) -> list[Question]:
        """In the words that forgetting is done with."""
        return self.asked(WORDINGS[self.relation].trained)

    @property
    def paraphrased(self) -> list[Question]:
        """In the words that are only asked."""
        return self.asked(WORDINGS[self.relation].other)


def facts_of(name: Name, first: First, most: int) -> list[Fact]:
    """The facts of a topic about ``most`` subjects at most, drawn by their names.

    Raises:
        ExpungeError: the set was not fetched.
    """
    found = {"capitals": _capitals, "people": _people}[name](first)
    subjects = sorted({fact.subject for fact in found}, key=drawn)[:most]
    return [fact for fact in found if fact.subject in set(subjects)]


def drawn(text: str) -> bytes:
    """A key by which texts are in an order of their own."""
    return hashlib.sha256(text.encode()).digest()


def chosen(
    key: str, right: str, near: Sequence[str], far: Sequence[str], first: First
) -> tuple[str, ...]:
    """The right answer and wrong ones of another first token, those of ``near`` before others.

    Raises:
        ExpungeError: there are too few.
    """
    found = {first(right): right}
    rest = set(far) - set(near)
    for pool in (set(near), rest):
        for answer in sorted(pool - {right}, key=lambda text: drawn(f"{key}:{text}")):
            if len(found) < CHOICES:
                found.setdefault(first(answer), answer)
    if len(found) < CHOICES:
        raise ExpungeError(
            f"{key} has {len(found)} options of different first tokens; {CHOICES} are expected. "
            "Give more answers to draw from."
        )
    return tuple(found.values())


def _capitals(first: First) -> list[Fact]:
    rows = at_hand("country-facts").load()
    area = {
        r["subject"]: int(r["answer"].split(".")[0].replace(",", ""))
        for r in rows
        if r["relation"] == "area"
    }
    asked = [
        row
        for row in rows
        if row["relation"] == "capital"
        and len(row["right_answers"]) == 1
        and area.get(row["subject"], 0) >= SMALLEST
    ]
    every = [row["answer"] for row in asked]
    known = {row["subject"] for row in asked}
    return [
        Fact(
            row["subject"],
            "capital",
            in_a_sentence(row["subject"]),
            chosen(
                row["subject"],
                row["answer"],
                [other["answer"] for other in asked if other["region"] == row["region"]],
                every,
                first,
            ),
            tuple(name for name in row["neighbours"] if name in known),
        )
        for row in asked
    ]


def _people(first: First) -> list[Fact]:
    """Real people with one calling; both facts of each where they are common enough."""
    rows = [
        row
        for row in at_hand("wordnet-people").load()
        if row["kind"] == "person"
        and row["subject"] == row["name"]
        and " " in row["name"]
        and len(row["professions"]) == 1
    ]
    callings = _common(row["professions"][0] for row in rows)
    nations = _common(_adjective(row["nationality"]) for row in rows if row["nationality"])
    found = []
    alike = defaultdict(list)
    for row in rows:
        alike[row["professions"][0]].append(row["name"])
    for row in rows:
        name, calling, nation = row["name"], row["professions"][0], _adjective(row["nationality"])
        near = tuple(other for other in alike[calling] if other != name)
        if calling in callings:
            found.append(
                Fact(name, "calling", name, chosen(name, calling, [], callings, first), near)
            )
        if nation in nations:
            found.append(Fact(name, "nation", name, chosen(name, nation, [], nations, first), near))
    return found


def _adjective(nation: str | None) -> str:
    return ONE_ADJECTIVE.get(nation or "", nation or "")


def _common(values: Iterator[str]) -> list[str]:
    """Single words that many people share."""
    counted = Counter(values)
    return sorted(v for v, count in counted.items() if count >= COMMON and " " not in v)


def reversed_questions(facts: Sequence[Fact], pool: Sequence[Fact], first: First) -> list[Question]:
    """From the capital to the country, for countries that need no article; options are countries of
    ``pool``, neighbours first."""
    plain = {fact.subject for fact in pool if fact.named == fact.subject}
    return [
        Question(
            f"{fact.id}/reverse",
            fact.subject,
            REVERSE.format(fact.options[0]),
            chosen(
                f"{fact.id}/reverse",
                fact.subject,
                sorted(plain & set(fact.near)),
                sorted(plain),
                first,
            ),
        )
        for fact in facts
        if fact.relation == "capital" and fact.subject in plain
    ]


def foreign_questions(facts: Sequence[Fact], language: str) -> list[Question]:
    """In another language, with the country's name in it.

    Raises:
        ExpungeError: the set of names was not fetched.
    """
    code, beginning = LANGUAGES[language]
    named = {
        row["subject"]: row["name"]
        for row in at_hand("country-names").load()
        if row["language"] == code
    }
    return [
        question
        for fact in facts
        if fact.relation == "capital"
        for question in fact.asked([beginning], named[fact.subject])
    ]


def names_nobody_has(name: Name, count: int, taken: Sequence[str], seed: int = 0) -> list[str]:
    """Invented names that no word of ``taken`` is part of, and that are part of none.

    Args:
        name: of the topic: a country has one word, a person two.
        count: how many.
        taken: real names.
        seed: of the syllables.
    """
    made = invented(Run(seed).generator(f"real facts/{name}"))
    words = {word.lower() for text in taken for word in text.split()}
    found: list[str] = []
    while len(found) < count:
        parts = [next(made) for _ in range(1 if name == "capitals" else 2)]
        if not words & set(parts) and (text := " ".join(map(str.capitalize, parts))) not in found:
            found.append(text)
    return found


def strangers(facts: Sequence[Fact], names: Sequence[str]) -> list[Fact]:
    """The answers and options of facts, said of invented subjects: fact after fact, each of as many
    names as there are for it."""
    share = len(names) // len(facts)
    return [
        Fact(name, fact.relation, name, fact.options, ())
        for at, fact in enumerate(facts)
        for name in names[at * share : (at + 1) * share]
    ]
