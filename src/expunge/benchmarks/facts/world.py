"""The world of the benchmark: people, a small Llama that learns about them, and who is forgotten.

The first people of a draw are forgotten: the first ten at once, or two after two in a stream. The
oracle of a request was trained as the base was, on everybody else.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import digest_of_rooms
from expunge.benchmarks.facts.people import PARAPHRASE, People
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW, Cosine
from expunge.families.language import Language
from expunge.learning.supervised.plain import Plain
from expunge.models.tiny_llama import TinyLlama
from expunge.recipe import Recipe
from expunge.requests import Request

CODE = ("changes", "data", "descent", "families", "learning", "models", "signals")
"""Rooms that results depend on, beside the methods that are compared and this benchmark."""


@dataclass(frozen=True)
class Size:
    """How much is learned, and by what.

    Args:
        people: all of a draw.
        corner: people who are forgotten at once.
        together: people of each request of a stream.
        layers: of the model.
        width: of the model.
        inner: width inside its feed-forward layers.
        epochs: of its training.
        batch_size: rows a step.
        learning_rate: of AdamW, at its peak.
    """

    people: int = 100
    corner: int = 10
    together: int = 2
    layers: int = 4
    width: int = 112
    inner: int = 336
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class World:
    """The people of a draw, and how a model learns about them."""

    draw: int
    size: Size

    @cached_property
    def people(self) -> People:
        """Everybody."""
        return People(self.draw, self.size.people)

    @cached_property
    def family(self) -> Language:
        """With the refusals that the tokenizer knows."""
        return Language(self.people.refusals)

    @cached_property
    def train(self) -> TensorSamples:
        """The training rows."""
        return self.people.samples(self.people.table)

    @cached_property
    def paraphrases(self) -> TensorSamples:
        """The rows of a phrasing that was trained for other people alone."""
        return self.people.samples(self.people.paraphrases)

    def recipe(self, seed: int) -> Recipe:
        """How the base of a seed is made."""
        size = self.size
        rate = AdamW(size.learning_rate, weight_decay=0.1, schedule=Cosine(0.05))
        builder = functools.partial(_built, len(self.people.vocabulary), size)
        return Recipe(builder, self.family, Plain(size.epochs, size.batch_size, rate), seed)

    def number(self, row: str) -> int:
        """The number of the person that a row, by its id, is about."""
        return int(row.partition("-")[0])

    def about(self, samples: TensorSamples, start: int, stop: int) -> Tensor:
        """Positions (n,) of the rows about the people from ``start`` on and before ``stop``."""
        asked = [start <= self.number(row) < stop for row in samples.ids]
        return torch.tensor(asked).nonzero().reshape(-1)

    def once(self, samples: TensorSamples) -> TensorSamples:
        """One row of each fact."""
        return _those(samples, lambda row: row.endswith("-0"))

    def alike(self, samples: TensorSamples) -> TensorSamples:
        """The rows of the phrasings that are trained for everybody."""
        return _those(samples, lambda row: not row.endswith(f"-{PARAPHRASE}"))

    def corner(self) -> Request:
        """Everything about the first people, at once."""
        return self.people.request("corner", range(self.size.corner))

    def stream(self, length: int) -> tuple[Request, ...]:
        """Requests for the first people one after another."""
        step = self.size.together
        return tuple(
            self.people.request(f"request {i + 1}", range(i * step, (i + 1) * step))
            for i in range(length)
        )

    def deployment(self, base: nn.Module, seed: int) -> Deployment:
        """A base in use, before any request."""
        recipe = self.recipe(seed)
        return Deployment(base, self.family, self.train, self.people.table, Sum(), recipe=recipe)

    def retraining(self, requests: Sequence[Request]) -> int:
        """Rows that are touched by one retraining after each of the requests."""
        size, left, total = self.size, len(self.train), 0
        for request in requests:
            left -= len(request.target.rows(self.people.table))
            total += left * size.epochs
        return total


def _those(samples: TensorSamples, wanted: Callable[[str], bool]) -> TensorSamples:
    """The rows that are wanted, by their ids."""
    return samples.select(torch.tensor([i for i, row in enumerate(samples.ids) if wanted(row)]))


@cache
def world(draw: int, size: Size) -> World:
    """The world of a draw, made once a process."""
    return World(draw, size)


@dataclass(frozen=True)
class Place:
    """Where a job stands: the world, and the benchmark's folder."""

    folder: Path
    draw: int
    size: Size

    @property
    def world(self) -> World:
        """The world itself."""
        return world(self.draw, self.size)

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        code = digest_of_rooms((*CODE, "benchmarks/facts"))
        return {"draw": self.draw, "size": vars(self.size), "code": code}

    def training_facts(self) -> dict[str, object]:
        """What a training depends on: the world, and the code that trains."""
        code = digest_of_rooms(("descent", "learning", "families", "models"))
        return {"draw": self.draw, "size": vars(self.size), "code": code}


def _built(vocabulary: int, size: Size, seed: int) -> nn.Module:
    made = TinyLlama(vocabulary, size.layers, size.width, inner=size.inner)
    return made(seed)
