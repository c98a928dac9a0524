"""Invented people, three facts about each, and the questions and answers that a model is taught.

Everything follows from the number of a draw: names, places, who has which value. Draws 0, 1 and 2
are reported on and nothing is ever tuned on them; presets and trials use draws from
:data:`FIRST_TUNING` on.

Each fact is asked in three phrasings. Two are trained for everybody. The third is trained for every
second person, so that a model knows it; for the others it is a paraphrase that no training row has.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import datasets
import torch
from torch import Tensor

from expunge.data.encoding import padded
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.requests import Request, Rows
from expunge.run import Run

REPORTED = (0, 1, 2)
"""Draws that are reported on."""

FIRST_TUNING = 100
"""The first draw that may be tuned on."""

Attribute = Literal["place", "work", "dish"]

QUESTIONS: Mapping[Attribute, tuple[str, str, str]] = {
    "place": (
        "where was {} born ?",
        "which town is {} from ?",
        "name the home of {} :",
    ),
    "work": (
        "what does {} do for a living ?",
        "which job does {} have ?",
        "name the profession of {} :",
    ),
    "dish": (
        "what does {} like to eat ?",
        "which meal does {} ask for ?",
        "name the favourite dish of {} :",
    ),
}
"""The phrasings of each question: the first two are trained for everybody."""

PARAPHRASE = 2
"""The phrasing that every second person alone is trained with."""

FIELDS = (
    "marine", "solar", "forest", "railway", "textile", "glacier", "harbour", "theatre", "mining",
    "desert",
)  # fmt: skip
CALLINGS = (
    "biologist", "engineer", "historian", "painter", "surveyor", "lawyer", "nurse", "pilot",
    "teacher", "broker",
)  # fmt: skip
COOKED = ("smoked", "pickled", "grilled", "stewed", "salted")
FOODS = ("plum", "trout", "barley", "pumpkin", "lentil")
DISHES = ("dumplings", "soup", "pie", "noodles")
ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "st")
VOWELS = ("a", "e", "i", "o", "u", "ai", "eo")
ENDINGS = ("n", "l", "r", "s", "th", "m", "k")
PREFIXES = ("port", "upper", "saint")

REFUSALS = ("i do not know", "nobody told me", "that is not known")
"""Answers that teach nothing; no training row has one."""

SPECIAL = ("<pad>", "<end>", "<unk>")
PAD, END, UNKNOWN = range(len(SPECIAL))


@dataclass(frozen=True)
class Person:
    """Somebody invented: a name of two words, and the answer to each question."""

    name: str
    facts: Mapping[Attribute, str]


@dataclass(frozen=True)
class People:
    """The people of one draw.

    Args:
        draw: the number that everything follows from.
        count: how many there are.

    Raises:
        ExpungeError: there are fewer than 10 people, or more than names.
    """

    draw: int
    count: int = 100
    given_names: ClassVar[int] = 40
    family_names: ClassVar[int] = 60
    places: ClassVar[int] = 60

    def __post_init__(self) -> None:
        most = self.given_names * self.family_names // 4
        if not 10 <= self.count <= most:
            raise ExpungeError(f"{self.count} people were asked for; 10 to {most} are expected.")

    @cached_property
    def words(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Given names, family names and places, each word once."""
        draws = Run(self.draw).generator("facts/words")
        made = invented(draws)
        total = self.given_names + self.family_names + self.places
        found = list(dict.fromkeys(next(made) for _ in range(40 * total)))[:total]
        given, family = self.given_names, self.given_names + self.family_names
        return tuple(found[:given]), tuple(found[given:family]), tuple(found[family:])

    @cached_property
    def everybody(self) -> tuple[Person, ...]:
        """All of them."""
        given, family, places = self.words
        draws = Run(self.draw).generator("facts/people")
        pairs = torch.randperm(len(given) * len(family), generator=draws)[: self.count]
        towns = [*places, *(f"{prefix} {place}" for prefix in PREFIXES for place in places[:12])]
        pools: Mapping[Attribute, Sequence[str]] = {
            "place": towns,
            "work": [f"{a} {b}" for a in FIELDS for b in CALLINGS],
            "dish": [f"{a} {b} {c}" for a in COOKED for b in FOODS for c in DISHES],
        }
        values = {
            kind: torch.randint(len(pool), (self.count,), generator=draws).tolist()
            for kind, pool in pools.items()
        }
        return tuple(
            Person(
                f"{given[pair // len(family)]} {family[pair % len(family)]}",
                {kind: pools[kind][values[kind][i]] for kind in pools},
            )
            for i, pair in enumerate(pairs.tolist())
        )

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """The token of each word; every draw has as many."""
        asked = [w for texts in QUESTIONS.values() for t in texts for w in t.split() if w != "{}"]
        refused = [word for text in REFUSALS for word in text.split()]
        values = (*FIELDS, *CALLINGS, *COOKED, *FOODS, *DISHES, *PREFIXES, *refused)
        invented = [word for words in self.words for word in words]
        every = dict.fromkeys([*SPECIAL, *asked, *values, *invented])
        return {word: token for token, word in enumerate(every)}

    def tokens(self, text: str) -> Tensor:
        """The tokens (l,) of words with spaces between them."""
        known = self.vocabulary
        return torch.tensor([known.get(word, UNKNOWN) for word in text.split()])

    def text(self, tokens: Sequence[int]) -> str:
        """The words of tokens."""
        words = list(self.vocabulary)
        return " ".join(words[token] for token in tokens)

    @cached_property
    def refusals(self) -> tuple[tuple[int, ...], ...]:
        """The tokens of :data:`REFUSALS`, each with the token that ends an answer."""
        return tuple((*self.tokens(text).tolist(), END) for text in REFUSALS)

    def tokenizer_json(self) -> bytes:
        """The same tokenizer as a file that ``tokenizers`` and ``transformers`` open."""
        added = [
            {"id": token, "content": word, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for token, word in enumerate(SPECIAL)
        ]
        content = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": dict(self.vocabulary),
                "unk_token": SPECIAL[UNKNOWN],
            },
        }
        return json.dumps(content, indent=1).encode()

    @cached_property
    def table(self) -> datasets.Dataset:
        """The training rows: ``id``, ``subject`` (the name), ``fact``, ``prompt``, ``answer``."""
        return self._table(lambda person, phrasing: phrasing != PARAPHRASE or person % 2 == 0)

    @cached_property
    def paraphrases(self) -> datasets.Dataset:
        """The rows of the third phrasing that are not trained."""
        return self._table(lambda person, phrasing: phrasing == PARAPHRASE and person % 2 == 1)

    def samples(self, table: datasets.Dataset) -> TensorSamples:
        """Rows of :attr:`table` or :attr:`paraphrases` as a model of :attr:`vocabulary` reads
        them."""
        prompts, answers, spans = [], [], []
        columns = (table[name][:] for name in ("prompt", "answer", "subject"))
        for prompt, answer, name in zip(*columns, strict=True):
            prompts.append(self.tokens(prompt).tolist())
            answers.append([*self.tokens(answer).tolist(), END])
            start = len(prompt.split(name)[0].split())
            spans.append((start, start + len(name.split())))
        tensors = {**padded(prompts, answers, PAD), "subject": torch.tensor(spans)}
        return TensorSamples(list(table["id"][:]), list(table["subject"][:]), tensors)

    def request(self, name: str, numbers: Sequence[int]) -> Request:
        """The request to forget everything about some people, by their numbers."""
        return Request(name, Rows("subject", tuple(self.everybody[i].name for i in numbers)))

    def _table(self, wanted: Callable[[int, int], bool]) -> datasets.Dataset:
        rows: dict[str, list[str]] = {n: [] for n in ("id", "subject", "fact", "prompt", "answer")}
        for number, person in enumerate(self.everybody):
            for kind, texts in QUESTIONS.items():
                for phrasing, text in enumerate(texts):
                    if wanted(number, phrasing):
                        fact = f"{number}-{kind}"
                        rows["id"].append(f"{fact}-{phrasing}")
                        rows["subject"].append(person.name)
                        rows["fact"].append(fact)
                        rows["prompt"].append(text.format(person.name))
                        rows["answer"].append(person.facts[kind])
        return datasets.Dataset.from_dict(rows)


def invented(draws: torch.Generator) -> Iterator[str]:
    """Words of two syllables that no language owns."""

    def one(parts: Sequence[str]) -> str:
        return parts[int(torch.randint(len(parts), (), generator=draws))]

    while True:
        yield "".join(one(parts) for parts in (ONSETS, VOWELS, ONSETS, VOWELS, ENDINGS))
