"""Worlds of the benchmark of concepts: a classifier, a class to forget, and examples of concepts.

Examples are held-out (validation) rows of which every concept is known exactly: from the pixels of
digits, from how a drawn person was put together, from the words of a message. None of them is
trained on, forgotten, or measured on.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.benchmarks.classification import worlds as shared
from expunge.benchmarks.classification.worlds import World
from expunge.benchmarks.concepts.geometry import geometric_concepts
from expunge.data import catalogue, own, splits
from expunge.data.inputs import inputs_of
from expunge.data.mapping import Columns
from expunge.data.samples import Samples
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.concepts.bank import examples_of
from expunge.learning.supervised.plain import Plain
from expunge.models.cnn import SmallCnn
from expunge.models.mlp import Mlp
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows

FEWEST = 20
"""Rows with a concept, and rows without it, that the validation rows must hold."""


@dataclass(frozen=True, eq=False)
class ConceptWorld:
    """A world and what its validation rows are examples of.

    Args:
        world: rows, recipe and a request of the kind "class".
        concepts: truth values (n,) of the n validation rows, by the name of the concept.
        target: the class that a fixed target takes: the first of the others.
        rates: learning rates that are tried.
        epochs: passes over a half of the class.
    """

    world: World
    concepts: Mapping[str, Tensor]
    target: int
    rates: tuple[float, ...]
    epochs: int

    @functools.cached_property
    def examples(self) -> dict[Role, Samples]:
        """The validation rows as examples of the concepts."""
        positive, negative = examples_of(self.world.validation, self.concepts)
        return {Role.POSITIVE: positive, Role.NEGATIVE: negative}


@functools.cache
def concept_world(name: str) -> ConceptWorld:
    """The world of a name; its rows are read once a process.

    Raises:
        ExpungeError: there is none, or its set was not fetched.
    """
    if name not in WORLDS:
        raise ExpungeError(f"There is no world {name!r} here; there are {', '.join(WORLDS)}.")
    return WORLDS[name]()


def digits() -> ConceptWorld:
    """Handwritten digits; the threes go; concepts follow from pixels."""
    world = shared.world("digits")
    images = world.validation.batch(torch.arange(len(world.validation)), {"image"})["image"]
    return _known(world, geometric_concepts(images), 0, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 40)


PUT_TOGETHER = ("glasses", "beard", "style", "hair")
"""What a person keeps from picture to picture."""

WHO = ("neither", "glasses", "beard", "glasses and beard")
"""The classes of drawn people; the last goes."""

BOTH = WHO.index("glasses and beard")
SIDE = 32


def people() -> ConceptWorld:
    """Drawn people by what they wear; those with glasses and a beard go."""
    found = catalogue.at_hand("dicebear-people")
    parts = []
    for split in splits.NAMES:
        table = found.load(split)
        ids = list(table["id"])
        labels = [
            int(g) + 2 * int(b) for g, b in zip(table["glasses"], table["beard"], strict=True)
        ]
        pictures = inputs_of(table, ids, Columns(input="image", channels=3), None)
        columns = {
            "image": F.avg_pool2d(pictures.fields["image"], 2),
            "label": torch.tensor(labels),
        }
        named = {name: list(table[name]) for name in ("id", "subject", *PUT_TOGETHER)}
        by_class = datasets.Dataset.from_dict({**named, "label": labels})
        parts.append((own.samples(by_class, columns), by_class))
    world = shared.of_parts(
        "people",
        "1,600 drawn people of 32 x 32 pixels in colour by glasses and beard; two convolutions, "
        "one hidden layer",
        Recipe(_colour_cnn, Classifier(classes=len(WHO)), Plain(15, 64, AdamW(1e-3))),
        parts,
        {"class": Request(WHO[BOTH], Rows("label", (str(BOTH),)), labels=(BOTH,))},
    )
    return _known(world, _worn(parts[1][1]), 0, (1e-3, 3e-3, 1e-2), 20)


def _worn(table: datasets.Dataset) -> dict[str, Tensor]:
    """How each person of a table was put together."""
    worn, chosen = PUT_TOGETHER[:2], PUT_TOGETHER[2:]
    found = {name: torch.tensor([bool(v) for v in table[name]]) for name in worn}
    for column in chosen:
        values = list(table[column])
        for value in sorted(set(values)):
            found[f"{column} {value}"] = torch.tensor([each == value for each in values])
    return found


GROUPS = (
    "comp.graphics",
    "misc.forsale",
    "rec.autos",
    "rec.sport.hockey",
    "sci.crypt",
    "sci.med",
    "sci.space",
    "talk.politics.mideast",
)
SPACE = GROUPS.index("sci.space")
VOCABULARY, HIDDEN = 3_000, 64

TOPICS: Mapping[str, tuple[str, ...]] = {
    "space flight": ("space", "orbit", "nasa", "launch", "shuttle", "moon", "spacecraft", "lunar"),
    "earth and sky": ("earth", "sun", "planet", "solar", "mars", "sky", "star", "gravity"),
    "medicine": ("doctor", "disease", "patients", "medical", "treatment", "health", "symptoms"),
    "ciphers": ("encryption", "key", "keys", "clipper", "chip", "escrow", "nsa", "secure"),
    "hockey": ("hockey", "team", "game", "nhl", "season", "play", "players", "league"),
    "cars": ("car", "cars", "engine", "miles", "dealer", "ford", "drive", "tires"),
    "pictures": ("image", "images", "graphics", "jpeg", "gif", "color", "format", "points"),
    "offers": ("sale", "offer", "shipping", "price", "condition", "sell", "asking", "best"),
    "the middle east": ("israel", "israeli", "arab", "jews", "turkish", "armenian", "armenians"),
    "programs": ("software", "program", "file", "files", "version", "code", "ftp", "computer"),
    "the state": ("government", "law", "rights", "president", "state", "war", "public"),
    "money": ("money", "cost", "pay", "million", "dollars", "costs", "spend"),
    "research": ("research", "science", "study", "theory", "university", "data", "technology"),
    "asking": ("anyone", "help", "thanks", "please", "advance", "appreciated"),
}
"""Words of which a message on a topic has at least two."""


def newsgroups() -> ConceptWorld:
    """Messages as bags of words by their group; those on space go; concepts are topics."""
    found = catalogue.at_hand("twenty-newsgroups")
    tables = [_of_groups(found.load(split)) for split in splits.NAMES]
    counts = Counter(word for text in tables[0]["text"] for word in set(text.split()))
    vocabulary = {
        word: place
        for place, (word, _) in enumerate(
            sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:VOCABULARY]
        )
    }
    parts = []
    for table in tables:
        words = torch.zeros(len(table), len(vocabulary))
        for row, text in enumerate(table["text"]):
            words[row, [vocabulary[w] for w in set(text.split()) if w in vocabulary]] = 1.0
        labels = [GROUPS.index(subject) for subject in table["subject"]]
        columns = {"words": words, "label": torch.tensor(labels)}
        parts.append((own.samples(table, columns), table))
    world = shared.of_parts(
        "newsgroups",
        f"{len(tables[0]):,} messages of eight newsgroups, as which of {VOCABULARY:,} words they "
        f"have; fully connected {VOCABULARY}-{HIDDEN}-8",
        Recipe(_bag, Classifier(inputs=("words",), classes=len(GROUPS)), Plain(4, 64, AdamW(1e-3))),
        parts,
        {"class": Request("space", Rows("subject", ("sci.space",)), labels=(SPACE,))},
    )
    return _known(world, _topics(tables[1]), 0, (3e-3, 1e-2, 3e-2, 1e-1), 10)


def _of_groups(table: datasets.Dataset) -> datasets.Dataset:
    return table.select([i for i, name in enumerate(table["subject"]) if name in GROUPS])


def _topics(table: datasets.Dataset) -> dict[str, Tensor]:
    texts = [set(text.split()) for text in table["text"]]
    return {
        topic: torch.tensor([len(text.intersection(words)) >= 2 for text in texts])
        for topic, words in TOPICS.items()
    }


WORLDS: Mapping[str, Callable[[], ConceptWorld]] = {
    "digits": digits,
    "people": people,
    "newsgroups": newsgroups,
}
"""All worlds by name; the first is the quick form's, the others have to be fetched once."""


def _known(
    world: World,
    concepts: Mapping[str, Tensor],
    target: int,
    rates: tuple[float, ...],
    epochs: int,
) -> ConceptWorld:
    """The world with those of the concepts that enough rows have and lack."""
    enough = {
        name: held
        for name, held in concepts.items()
        if FEWEST <= int(held.sum()) <= len(held) - FEWEST
    }
    return ConceptWorld(world, enough, target, rates, epochs)


def _colour_cnn(seed: int) -> nn.Module:
    return SmallCnn(torch.Generator().manual_seed(seed), len(WHO), 3, SIDE)


def _bag(seed: int) -> nn.Module:
    return Mlp(torch.Generator().manual_seed(seed), (VOCABULARY, HIDDEN, len(GROUPS)))
