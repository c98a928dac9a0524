"""The models of the benchmark: 600 digits, a small network, originals, oracles, half-data models.

What is to be forgotten are twenty eights that are alike: a model that saw other eights answers most
of them, and how surely it does so is what tells an oracle from the original.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from expunge.audit.populations import KeptPopulation
from expunge.changes.history import History
from expunge.data import digits, own
from expunge.data.samples import Joined, TensorSamples, all_but
from expunge.descent.optimisers import SGD
from expunge.errors import IntegrityError
from expunge.families.classifier import Classifier
from expunge.learning.attribution import answers
from expunge.learning.datamodels import kept_answers
from expunge.learning.population import Member, Population, halves, members
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import small_digits_classifier
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Request
from expunge.requests import Rows as Named
from expunge.run import Run
from expunge.signals.predictions import Predictions
from expunge.storage import Bundle, read_tensors, write_tensors

CLASSES = 10

TRAIN, FORGET, CLASS = 600, 20, 8
"""Training rows, rows to forget, and the class that they are of."""

LEARNER = Plain(25, 32, SGD(0.05, 0.9, 5e-4))

BLOCK = 500
"""Half-data models of a job."""

Kind = Literal["original", "oracle", "other oracle"]

FIRST_SEED: dict[Kind, int] = {"original": 0, "oracle": 100_000, "other oracle": 200_000}
HALVES = 300_000
"""First seeds: no two models of the benchmark share one."""


def recipe() -> Recipe:
    """How every model is made."""
    return Recipe(small_digits_classifier, Classifier(classes=CLASSES), LEARNER)


@dataclass(frozen=True, eq=False)
class Rows:
    """Training and validation rows, and which of the first are to be forgotten."""

    train: TensorSamples
    validation: TensorSamples
    forget: Tensor

    @property
    def retain(self) -> Tensor:
        """Positions of the other training rows."""
        return all_but(len(self.train), self.forget)

    @property
    def everything(self) -> Joined:
        """All rows, the training rows first."""
        return Joined.of(self.train, self.validation)

    @property
    def sets(self) -> dict[str, tuple[str, ...]]:
        """Ids by the name of the set."""
        ids = self.train.ids
        return {
            "forget": tuple(ids[row] for row in self.forget.tolist()),
            "retain": tuple(ids[row] for row in self.retain.tolist()),
            "validation": tuple(self.validation.ids),
        }


@cache
def rows() -> Rows:
    """The first 600 training digits and all validation digits. To be forgotten: the eight of median
    distance from the mean of all eights, and the eights whose pixels are nearest to it."""
    train, validation = (
        own.samples(table, digits.tensors(table))
        for table in (digits.load("train").select(range(TRAIN)), digits.load("validation"))
    )
    alike = (train.columns["label"] == CLASS).nonzero().reshape(-1)
    pixels = train.columns["image"].flatten(1).double()[alike]
    middle = _by_distance(pixels, pixels.mean(0))[len(alike) // 2]
    nearest = _by_distance(pixels, pixels[middle])[:FORGET]
    return Rows(train, validation, alike[nearest].sort().values)


def _by_distance(pixels: Tensor, point: Tensor) -> Tensor:
    """Positions (n,) of rows (n, pixels), the nearest to a point first."""
    return (pixels - point).square().sum(1).argsort(stable=True)


@dataclass(frozen=True)
class Place:
    """Where models and results are kept, and the digest of the code that they depend on."""

    folder: Path
    code: str

    @property
    def population(self) -> Population:
        """How models are trained."""
        return Population(recipe(), rows().train, Run(), processes=1)

    @property
    def kept(self) -> KeptPopulation:
        """Originals and oracles on disk."""
        return KeptPopulation(self.population, self.folder / "populations")

    def members(self, kind: Kind, models: int) -> list[Member]:
        """So many models of a kind."""
        kept = torch.ones(models, TRAIN, dtype=torch.bool)
        if kind != "original":
            kept[:, rows().forget] = False
        return members(kept, FIRST_SEED[kind])

    def models(self, kind: Kind, count: int) -> list[nn.Module]:
        """The models themselves."""
        return self.kept.models(self.members(kind, count), engine="stacked")

    def predictions(self, kind: Kind, count: int) -> Predictions:
        """What they answer on all rows."""
        wanted = self.members(kind, count)
        return self.kept.predictions(wanted, rows().everything, engine="stacked")

    def halves(self, block: int) -> Tensor:
        """Answers (BLOCK, rows, classes) of a block of the half-data models on the training
        rows."""
        name = hashlib.sha256(repr((self.code, repr(LEARNER), block)).encode()).hexdigest()
        path = self.folder / "halves" / f"{name}.safetensors"
        try:
            return read_tensors(path)["outputs"]
        except (IntegrityError, KeyError):  # none, or damaged: they are trained again
            pass
        wanted = self.half_members((block + 1) * BLOCK)[block * BLOCK :]
        answered = dict(answers(self.population, wanted, rows().train, "stacked"))
        outputs = torch.stack([answered[one] for one in wanted])
        write_tensors(path, {"outputs": outputs})
        return outputs

    def half_members(self, models: int) -> list[Member]:
        """The half-data models; the first of many are those of few."""
        return members(halves(models, TRAIN, HALVES), HALVES)

    def artifact(self, models: int) -> Bundle:
        """What datamodel matching prepares with so many half-data models."""
        outputs = torch.cat([self.halves(block) for block in range(models // BLOCK)])
        return kept_answers(halves(models, TRAIN, HALVES), outputs, rows().train.ids)


def problem_of(model: nn.Module) -> Problem:
    """The request on one original."""
    here = rows()
    data = {
        Role.TRAIN: here.train,
        Role.FORGET: here.train.select(here.forget),
        Role.RETAIN: here.train.select(here.retain),
    }
    request = Request("near eights", Named("id", here.sets["forget"]))
    return Problem(model, recipe().family, request, data, History(), recipe=recipe())


def shuffled(artifact: Bundle) -> Bundle:
    """The same answers with who was trained on what assigned to other rows: a wrong attribution."""
    member = artifact.tensors["member"]
    order = torch.randperm(member.shape[1], generator=Run().generator("shuffled"))
    return Bundle({**artifact.tensors, "member": member[:, order]}, artifact.facts)
