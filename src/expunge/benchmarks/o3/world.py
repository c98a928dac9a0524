"""Five topics of invented facts, and a small language model that knows them all.

A fact is the answer to a question of a topic about a name. A topic has two words of its own, and
the names are its own, too, or those of all topics: then nothing but these two words tells topics
apart, and a name says nothing. Each fact has three questions; the third is in other words, which no
request holds. Tokens are words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import datasets
import torch
from torch import nn

from expunge.data.encoding import padded
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import AdamW, Cosine
from expunge.families.language import Language
from expunge.learning.supervised.plain import Plain
from expunge.recipe import Recipe, Role
from expunge.run import Run

TOPICS = ("biology", "physics", "chemistry", "economics", "geography")
REQUESTED = TOPICS[:3]
"""Requests, in this order."""

NAMES, OPTIONS = 36, 6
"""Names that a topic draws from, and answers of each topic."""

QUESTIONS = (
    ("what", "{kind}", "is", "the", "{property}", "of", "{name}", "?"),
    ("about", "{name}", ":", "which", "{property}", "{kind}", "?"),
    ("tell", "me", "the", "{synonym}", "that", "{name}", "has", "?"),
)
END = 1
"""The token that ends an answer."""

PARAPHRASE = 2
"""The question that no request holds."""


@dataclass(frozen=True)
class Fact:
    """A row: its topic, the name, which question, and which answer."""

    topic: int
    name: int
    question: int
    option: int


@dataclass(frozen=True)
class World:
    """The rows, and how the model that knows them is made.

    Args:
        facts: of each row.
        samples: tokens and labels of each row.
        table: the columns by which rows are requested: ``part`` is the topic in the rows that a
            request names, and empty in others.
        recipe: of the model.
    """

    facts: tuple[Fact, ...]
    samples: TensorSamples
    table: datasets.Dataset
    recipe: Recipe

    def rows(self, topics: Sequence[str], *, requested: bool, paraphrased: bool) -> TensorSamples:
        """Rows of topics.

        Args:
            topics: which.
            requested: rows about the names in the request, or about the other names.
            paraphrased: rows in other words, or in the words of the request.
        """
        wanted = [
            i
            for i, fact in enumerate(self.facts)
            if TOPICS[fact.topic] in topics
            and (fact.name in _requested(self.facts, fact.topic)) == requested
            and (fact.question == PARAPHRASE) == paraphrased
        ]
        return self.samples.select(torch.tensor(wanted))

    def of(self, topics: Sequence[str]) -> TensorSamples:
        """All rows of topics."""
        wanted = [i for i, fact in enumerate(self.facts) if TOPICS[fact.topic] in topics]
        return self.samples.select(torch.tensor(wanted))

    def without_requested(self) -> TensorSamples:
        """All rows but those of the facts that requests name, in whatever words."""
        gone = {
            (topic, name)
            for topic, word in enumerate(TOPICS)
            if word in REQUESTED
            for name in _requested(self.facts, topic)
        }
        kept = [i for i, fact in enumerate(self.facts) if (fact.topic, fact.name) not in gone]
        return self.samples.select(torch.tensor(kept))

    @property
    def data(self) -> Mapping[Role, TensorSamples]:
        """What the model is trained on: all rows."""
        return {Role.TRAIN: self.samples}


def world(
    seed: int = 0,
    *,
    entities: int = 24,
    width: int = 48,
    layers: int = 4,
    epochs: int = 45,
    batch_size: int = 64,
    learning_rate: float = 4e-3,
    names_of_all: bool = False,
) -> World:
    """Topics with ``entities`` names each, three quarters of which are in the topic's request.

    Args:
        seed: draws names and answers, and the weights.
        entities: names of a topic, 36 at most.
        width: of the model.
        layers: of the model.
        epochs: of its training.
        batch_size: of its training.
        learning_rate: of its training, at its peak.
        names_of_all: topics draw from the same names.
    """
    draw = torch.Generator().manual_seed(seed)
    facts, words = list[Fact](), _words()
    for topic in range(len(TOPICS)):
        for name in torch.randperm(NAMES, generator=draw)[:entities].tolist():
            option = int(torch.randint(OPTIONS, (), generator=draw))
            facts += [Fact(topic, name, question, option) for question in range(len(QUESTIONS))]
    samples = _samples(facts, words, names_of_all)
    parts = [
        TOPICS[fact.topic]
        if fact.name in _requested(facts, fact.topic) and fact.question != PARAPHRASE
        else ""
        for fact in facts
    ]
    recipe = Recipe(
        lambda own: _untrained(own, len(words), width, layers),
        Language(),
        Plain(epochs, batch_size, AdamW(learning_rate, schedule=Cosine(0.1))),
        seed,
    )
    table = datasets.Dataset.from_dict({"id": list(samples.ids), "part": parts})
    return World(tuple(facts), samples, table, recipe)


def _requested(facts: Sequence[Fact], topic: int) -> set[int]:
    """The names of a topic that its request holds: the first three quarters."""
    names = list(dict.fromkeys(fact.name for fact in facts if fact.topic == topic))
    return set(names[: 3 * len(names) // 4])


def _words() -> dict[str, int]:
    """The number of each word; 0 is padding."""
    fixed = [word for question in QUESTIONS for word in question if not word.startswith("{")]
    topical = [f"{topic}-{word}" for topic in TOPICS for word in ("kind", "property", "synonym")]
    owners = ("any", *TOPICS)
    names = [f"{owner}-name-{i}" for owner in owners for i in range(NAMES)]
    answers = [f"{topic}-{i}" for topic in TOPICS for i in range(OPTIONS)]
    known = dict.fromkeys(["<pad>", "<end>", *fixed, *topical, *names, *answers])
    return {word: number for number, word in enumerate(known)}


def _samples(facts: Sequence[Fact], words: Mapping[str, int], names_of_all: bool) -> TensorSamples:
    questions, answers = [], []
    for fact in facts:
        topic = TOPICS[fact.topic]
        told = {f"{{{word}}}": f"{topic}-{word}" for word in ("kind", "property", "synonym")}
        told["{name}"] = f"{'any' if names_of_all else topic}-name-{fact.name}"
        questions.append([words[told.get(word, word)] for word in QUESTIONS[fact.question]])
        answers.append([words[f"{topic}-{fact.option}"], END])
    columns = padded(questions, answers, width=max(map(len, QUESTIONS)) + 2)
    names = [f"{TOPICS[f.topic]} {f.name} {f.question}" for f in facts]
    subjects = [TOPICS[f.topic] for f in facts]
    return TensorSamples(names, subjects, columns)


def _untrained(seed: int, vocabulary: int, width: int, layers: int) -> nn.Module:
    """A Llama shape whose head is a matrix of its own: it learns in half the steps that one with
    tied embeddings takes."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=0,
    )
    with Run(seed).seeded("llama"):  # transformers draws from the global numbers
        made: nn.Module = transformers.LlamaForCausalLM(config)
    return made.eval()
