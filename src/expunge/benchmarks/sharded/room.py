"""Rooms: public rows for a backbone, private rows for everything else, a small transformer."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import nn

from expunge.audit.case import digest_of_samples
from expunge.benchmarks.classification.worlds import grey, world
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.families.classifier import Classifier
from expunge.models.vit import VisionTransformer
from expunge.recipe import Role


@dataclass(frozen=True, eq=False)
class Room:
    """What is trained on what.

    Args:
        name: by which it is asked for.
        about: rows and model in a line.
        builder: the transformer before any training.
        public: rows that the backbone is trained on; nobody asks for their removal.
        private: training rows of everything else.
        validation: rows that learning rates are chosen on.
        test: rows that everything is measured on.
    """

    name: str
    about: str
    builder: Callable[[int], nn.Module]
    public: Samples
    private: Samples
    validation: Samples
    test: Samples

    @property
    def family(self) -> Classifier:
        """Ten classes, in all rooms."""
        return Classifier(classes=10)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows and architecture."""
        rows = [self.public, self.private, self.validation, self.test]
        parts = [digest_of(self.builder(0)), *map(digest_of_samples, rows)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _clothes() -> Room:
    clothes, count = world("clothes-vit"), 600
    digits, _ = grey("mnist-10k", "train")
    return Room(
        "clothes",
        "private: 600 clothes of 28 x 28 pixels, ten classes; backbone: vision transformer, 4 "
        "blocks of width 64, patch 7, trained on 6,000 handwritten digits",
        clothes.recipe.builder,
        digits,
        clothes.train.select(torch.arange(count)),
        clothes.validation.select(torch.arange(1000)),
        clothes.test.select(torch.arange(1000)),
    )


def _digits() -> Room:
    work = digits_classifier_work()
    rows = work.data[Role.TRAIN]
    return Room(
        "digits",
        "private: 240 digits of 8 x 8 pixels; backbone: vision transformer, 4 blocks of width 16, "
        "patch 2, trained on 500 others",
        _small,
        rows.select(torch.arange(500)),
        rows.select(torch.arange(500, 740)),
        work.validation,
        work.test,
    )


def _small(seed: int) -> nn.Module:
    return VisionTransformer(torch.Generator().manual_seed(seed), 8, 4, 16, 2, 2, 1)


ROOMS: Mapping[str, Callable[[], Room]] = {"clothes": _clothes, "digits": _digits}
"""All rooms by name."""


@cache
def room(name: str, rows: int | None = None) -> Room:
    """The room of a name, with its first private rows alone; read once a process."""
    found = ROOMS[name]()
    if rows is None:
        return found
    return replace(found, private=found.private.select(torch.arange(rows)))
