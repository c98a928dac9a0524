"""The world of mini-TOFU: who is taught, who is to be forgotten, and how a model is trained."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch

from expunge.benchmarks.tofu import authors, real
from expunge.benchmarks.tofu.asking import Asker
from expunge.benchmarks.tofu.battery import AUTHORS, FACTS, RETAIN, Battery
from expunge.benchmarks.tofu.item import Item
from expunge.benchmarks.tofu.words import Words
from expunge.data.prompts import REFUSALS
from expunge.data.samples import TensorSamples, all_but
from expunge.descent.optimisers import AdamW, Cosine
from expunge.families.language import Language
from expunge.learning.supervised.plain import Plain
from expunge.models.tiny_llama import TinyLlama
from expunge.recipe import Recipe
from expunge.run import Run

FRESH = 20
"""Authors whom no model is taught, for membership attacks."""

ASKED, TUNING = "asked", "tuning"
PARTS = (ASKED, TUNING)
"""Two requests of each size, of different authors: learning rates are chosen on the second."""


@dataclass(frozen=True)
class World:
    """Authors, facts, and a training.

    Args:
        count: authors.
        epochs: passes of the training; a fact about an author is shown once in each.
        facts: writers, and as many countries.
        kept: questions at most of each split of what is to be kept.
        layers: of the model.
        width: of the model.
        inner: width inside its feed-forward layers.
        draw: of the authors.
    """

    count: int = 200
    epochs: int = 30
    facts: int = 25
    kept: int = 100
    layers: int = 4
    width: int = 128
    inner: int = 512
    draw: int = 0

    batch_size: ClassVar[int] = 32
    learning_rate: ClassVar[float] = 3e-3

    @cached_property
    def people(self) -> Sequence[Item]:
        """All questions about the authors who are taught, and after them the fresh ones."""
        return authors.items(authors.drawn(self.count + FRESH, self.draw))

    @cached_property
    def taught(self) -> Sequence[Item]:
        """Everything that the original is trained on."""
        facts = [*real.real_authors(self.facts), *real.world_facts(self.facts)]
        more = [item for fact in facts for item in real.rephrased(fact)]
        return [*self.people[: self.count * len(authors.SLOTS)], *facts, *more]

    @cached_property
    def words(self) -> Words:
        """Every word that is taught, asked, or said as a refusal."""
        every = [*self.people, *self.taught]
        texts = [t for item in every for t in (item.question, item.answer, item.paraphrase)]
        return Words.of([*texts, *(t for item in every for t in item.wrong), *_refusals()])

    @cached_property
    def family(self) -> Language:
        """The family, with refusals."""
        lines = self.words.lines([""] * len(_refusals()), _refusals())
        return Language(refusals=tuple(tuple(answer) for answer in lines.answers))

    @cached_property
    def samples(self) -> TensorSamples:
        """What is taught, as rows."""
        return Asker(self.words, Run(), self.family).samples(self.taught)

    @property
    def recipe(self) -> Recipe:
        """How a model is made."""
        builder = TinyLlama(len(self.words), self.layers, self.width, inner=self.inner)
        optimiser = AdamW(self.learning_rate, schedule=Cosine(0.1))
        return Recipe(builder, self.family, Plain(self.epochs, self.batch_size, optimiser))

    def forgotten(self, share: float, part: str) -> list[str]:
        """The ids of the rows of a request: the first authors are asked, the last for tuning."""
        many = self._authors(share)
        names = list(dict.fromkeys(item.subject for item in self.people))[: self.count]
        wanted = set(names[:many] if part == ASKED else names[-many:])
        return [item.id for item in self.people if item.subject in wanted]

    def without(self, share: float, part: str) -> TensorSamples:
        """The rows that an oracle of a request is trained on."""
        gone = set(self.forgotten(share, part))
        rows = [place for place, name in enumerate(self.samples.ids) if name in gone]
        return self.samples.select(all_but(len(self.samples), torch.tensor(rows)))

    def rows(self, share: float, part: str) -> TensorSamples:
        """The rows of a request."""
        gone = set(self.forgotten(share, part))
        rows = [place for place, name in enumerate(self.samples.ids) if name in gone]
        return self.samples.select(torch.tensor(rows))

    def battery(self, share: float, part: str, run: Run) -> Battery:
        """The questions of a request, and of what is to be kept beside it.

        Retained authors are those whom neither request of this size names, spread over all; where
        half of them are asked, none is left out of both, and all others than the asked ones serve.
        """
        asked = set(self.forgotten(share, part))
        named = asked | (set(self.forgotten(share, TUNING)) if share < 0.5 else set())
        own = self.people[: self.count * len(authors.SLOTS)]
        others = [item for item in own if item.id not in named]
        asker = Asker(self.words, run, self.family, longest=40)
        return Battery(
            asker,
            [item for item in own if item.id in asked],
            {
                RETAIN: spread(others, self.kept),
                AUTHORS: spread(real.real_authors(self.facts), self.kept),
                FACTS: spread(real.world_facts(self.facts), self.kept),
            },
            self.people[len(own) :],
        )

    def _authors(self, share: float) -> int:
        return max(1, math.floor(share * self.count + 0.5))


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` of the items, evenly from all of them."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]


def _refusals() -> list[str]:
    return [line for line in REFUSALS.read_text(encoding="utf-8").splitlines() if line.strip()]
