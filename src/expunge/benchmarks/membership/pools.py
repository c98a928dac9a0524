"""Pools: populations of small networks on halves of the digits, whose labels are partly redrawn.

A model that generalises hides its members; one that had to learn wrong labels by heart shows them.
The settings are those of the published small check of the attacks: 1,797 digits, one hidden layer
of 64 units.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.audit.populations import KeptPopulation
from expunge.data import digits, own
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import AdamW
from expunge.families.classifier import Classifier
from expunge.families.from_logits import other_labels
from expunge.learning.population import Member, Population, halves, members
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import small_digits_classifier
from expunge.recipe import Recipe
from expunge.requests import Named
from expunge.run import Run
from expunge.signals.predictions import Predictions

CLASSES = 10


@dataclass(frozen=True)
class Place:
    """Where models and results are kept, and the digest of the code that they depend on."""

    folder: Path
    code: str


@dataclass(frozen=True)
class Setting:
    """How the models of a pool are made.

    Args:
        name: by which tables call it.
        redrawn: share of the rows whose label is drawn again.
        other: whether a redrawn label is always another one.
        learner: how each is trained.
    """

    name: str
    redrawn: float
    other: bool
    learner: Plain


SETTINGS = (
    Setting("noisy", 0.3, False, Plain(150, 32, AdamW(1.4e-3))),
    Setting("clean", 0.0, False, Plain(40, 32, AdamW(1e-3, weight_decay=0.01))),
    Setting("canaries", 0.03, True, Plain(150, 32, AdamW(1e-3))),
)
"""Rows that are learned by heart beside others, none, and few planted ones."""


@dataclass(frozen=True, eq=False)
class Rows:
    """All digits under the labels of a setting, and which of these were redrawn, bool (n,)."""

    samples: TensorSamples
    table: Named
    redrawn: Tensor


@cache
def rows_of(setting: Setting, seed: int) -> Rows:
    """The rows of a setting; the seed draws the labels."""
    table = digits.load()
    columns = digits.tensors(table)
    draws = Run(seed).generator(f"labels of {setting.name}")
    labels = columns["label"]
    count = round(setting.redrawn * len(labels))
    redrawn = torch.zeros(len(labels), dtype=torch.bool)
    redrawn[torch.randperm(len(labels), generator=draws)[:count]] = True
    if setting.other:
        drawn = other_labels(labels, CLASSES, draws)
    else:
        drawn = torch.randint(CLASSES, labels.shape, generator=draws)
    found = {**columns, "label": torch.where(redrawn, drawn, labels)}
    return Rows(own.samples(table, found), table, redrawn)


def recipe_of(setting: Setting) -> Recipe:
    """How a model of a setting is made."""
    return Recipe(small_digits_classifier, Classifier(classes=CLASSES), setting.learner)


@dataclass(frozen=True, eq=False)
class Pool:
    """Models on halves of the rows.

    Args:
        setting: how they are made.
        seed: draws labels, halves, and the order of positions.
        models: how many, an even number.
        place: where they are kept.
    """

    setting: Setting
    seed: int
    models: int
    place: Place

    @property
    def rows(self) -> Rows:
        """What the models are trained on parts of."""
        return rows_of(self.setting, self.seed)

    @property
    def member(self) -> Tensor:
        """Who is trained on what, bool (models, rows)."""
        return halves(self.models, len(self.rows.samples), self.seed)

    def kept(self) -> KeptPopulation:
        """The population on disk."""
        run = Run(self.seed)
        population = Population(recipe_of(self.setting), self.rows.samples, run, processes=1)
        return KeptPopulation(population, self.place.folder / "populations")

    def members(self) -> list[Member]:
        """The members of the pool; every pool's seeds are its own."""
        return members(self.member, first_seed=1000 * self.seed)

    def trained(self) -> list[nn.Module]:
        """The models."""
        return self.kept().models(self.members(), engine="stacked")

    def predictions(self) -> Predictions:
        """What every model answers on every row."""
        return self.kept().predictions(self.members(), self.rows.samples, engine="stacked")

    def without(self, forgotten: Tensor) -> list[nn.Module]:
        """The same models retrained without the rows that each is to forget, bool (models, rows):
        from the same initial weights."""
        kept = members(self.member & ~forgotten, first_seed=1000 * self.seed)
        return self.kept().models(kept, engine="stacked")


def shares_right(found: Predictions, member: Tensor) -> tuple[float, float]:
    """Mean accuracy of the models on their own rows, and on the others."""
    right = found.answers() == found.labels
    return float(right[member].double().mean()), float(right[~member].double().mean())
