"""Recipe: how a model was built, initialised and trained, so that it can be made again.

Retraining, oracles, shadow models and random teachers all need it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, Self, runtime_checkable

import torch
from torch import nn

from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.families.abilities import Family
from expunge.run import Run
from expunge.storage import Bundle

Record = Bundle
"""What a learner kept while training: shards, statistics, client updates.

It is data about people: the record before a removal and the one after it show what was removed. Its
fact :data:`LEARNER` is the registered name of the learner, and :data:`MODEL` says which weights it
is the record of.
"""

LEARNER, MODEL = "learner", "model"
"""Facts of a record: who kept it, and the digest of the model that it belongs to."""


class Role(StrEnum):
    """The part a data set plays."""

    TRAIN = "train"
    FORGET = "forget"
    RETAIN = "retain"
    VALIDATION = "validation"
    TEST = "test"
    UNLABELLED = "unlabelled"
    PRIOR = "prior"
    CONTRAST = "contrast"
    ALTERNATIVES = "alternatives"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    PROMPTS = "prompts"


def record_of(model: nn.Module, record: Record) -> Record:
    """The record, with the digest of the model that it belongs to among its facts."""
    return Record(record.tensors, {**record.facts, MODEL: digest_of(model)})


def belongs(record: Record, model: nn.Module) -> bool:
    """Whether a record is that of a model; one that names no model is left to the method."""
    return record.facts.get(MODEL, digest := digest_of(model)) == digest


@dataclass(frozen=True)
class Trained:
    """A model that a learner made, and what it kept for later removals."""

    model: nn.Module
    record: Record | None = None


class Learner(Protocol):
    """A way to train: plain, sharded, federated, analytic.

    Those that a run file may name are frozen dataclasses, registered under ``expunge.learners``.
    Their fields are numbers, texts and lists of these; of a field that takes an object, a class
    attribute ``choices`` gives the classes by name: ``{"loss": {"squared": Squared}}``.
    """

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """Train a copy of ``model`` on ``data``; ``model`` itself is not changed."""
        ...


@runtime_checkable
class Reshapes(Protocol):
    """A learner that returns a module of another architecture than the one it is given, such as an
    ensemble of it."""

    def architecture(self, model: nn.Module) -> nn.Module:
        """A module as :meth:`Learner.fit` returns it for ``model``, for weights that were stored;
        its own are of no use."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How to make a model again.

    Args:
        builder: makes the untrained module; its argument is the seed of the initial weights.
        family: the family it belongs to.
        learner: how it is trained.
        seed: fixes initial weights and the order of the rows.
    """

    builder: Callable[[int], nn.Module]
    family: Family
    learner: Learner
    seed: int = 0

    def make(self, data: Mapping[Role, Samples], run: Run) -> Trained:
        """Build and train; the seed of the recipe, not of the run, is used."""
        own = replace(run, seed=self.seed)
        trained = self.learner.fit(self.builder(self.seed), self.family, data, own)
        if trained.record is None:
            return trained
        return Trained(trained.model, record_of(trained.model, trained.record))

    def untrained(self, run: Run) -> nn.Module:
        """The module before training, its weights drawn by the seed of the run."""
        draws = run.generator("untrained")
        return self.builder(int(torch.randint(2**31, (), generator=draws)))

    def with_seed(self, seed: int) -> Self:
        """The same recipe from other initial weights and another order."""
        return type(self)(self.builder, self.family, self.learner, seed)
