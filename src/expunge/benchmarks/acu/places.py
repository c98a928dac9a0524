"""Places: real rows as a frozen backbone sees them, and a head on top that is to be learned."""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.audit.case import digest_of_samples
from expunge.benchmarks.classification.worlds import FEW, world
from expunge.changes.weights import digest_of
from expunge.data import emoji_grid, own, splits
from expunge.data.cache import cached
from expunge.data.samples import Batch, TensorSamples
from expunge.errors import ExpungeError
from expunge.families.abilities import UnitLosses
from expunge.families.classifier import Classifier
from expunge.learning.supervised.ridge import Chunk
from expunge.learning.supervised.ridge_head import RidgeHead
from expunge.models.efficientnet_lite import (
    DEVIATION,
    HEAD_CHANNELS,
    MEAN,
    SHA256,
    EfficientNetLite0,
    imagenet_weights,
)
from expunge.models.random_features import RandomReLU
from expunge.run import Run
from expunge.storage import Bundle

WIDTH = 512
"""Random features of what the backbone gives, or of the pixels."""

BLOCK = 64
"""Pictures that the backbone is given at once."""


@dataclass(frozen=True)
class OnSquares(Classifier):
    """A classifier whose loss is the one that a ridge head minimises: the squared distance of the
    logits to the one-hot label. Baselines descend and climb this."""

    name: str = "classifier on squares"

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Squared distances (B, 1)."""
        logits = self.logits(model, batch)
        hot = F.one_hot(batch["label"], logits.shape[1]).to(logits.dtype)
        return UnitLosses.per_sample((logits - hot).square().sum(1))


@dataclass(frozen=True, eq=False)
class Place:
    """Rows of three splits, and the model whose last layer is learned.

    Args:
        about: rows and features in a line.
        classes: of the labels.
        model: from the field ``image`` to logits, its head not learned yet.
    """

    about: str
    classes: int
    model: nn.Module
    train: TensorSamples
    validation: TensorSamples
    test: TensorSamples

    @property
    def family(self) -> OnSquares:
        """The family of the model."""
        return OnSquares(classes=self.classes)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows and model."""
        parts = [digest_of(self.model)]
        parts += [digest_of_samples(s) for s in (self.train, self.validation, self.test)]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @functools.cached_property
    def read(self) -> Chunk:
        """What the head reads of every training row, rounded, and one-hot labels."""
        parts = list(RidgeHead().gathered(self.model, self.family, self.train, Run()))
        labels = torch.cat([part.labels for part in parts])
        features = torch.cat([part.features for part in parts])
        return Chunk(features, F.one_hot(labels, self.classes).double())


@functools.cache
def place(name: str) -> Place:
    """The place of a name; its rows are read once a process.

    Raises:
        ExpungeError: there is none, or its set is not at hand.
    """
    if name not in PLACES:
        raise ExpungeError(f"There is no place {name!r}; there are {', '.join(PLACES)}.")
    return PLACES[name]()


def emoji() -> Place:
    """Drawings of emoji under the eight groups of Unicode: random features of what
    EfficientNet-lite0 sees, as the paper has it."""
    head = nn.Sequential(RandomReLU(HEAD_CHANNELS, WIDTH), _head(WIDTH, len(_groups())))
    return _emoji(f"{WIDTH:,} random features of the {HEAD_CHANNELS:,}", head)


def emoji_whole() -> Place:
    """The same, with the features themselves."""
    return _emoji(f"the {HEAD_CHANNELS:,} features", _head(HEAD_CHANNELS, len(_groups())))


def _groups() -> list[str]:
    return sorted(set(emoji_grid.concepts()["group"]))


def _emoji(features: str, model: nn.Module) -> Place:
    groups, parts = _groups(), []
    for split in splits.NAMES:
        table = emoji_grid.load(split)
        labels = torch.tensor([groups.index(group) for group in table["group"]])
        found = cached(
            f"efficientnet-lite0-features/{SHA256[:16]}-{split}-{_digest(table['id'])}",
            functools.partial(_features, table),
        )
        parts.append(own.samples(table, {"image": found.tensors["features"], "label": labels}))
    train, validation, test = parts
    return Place(
        f"emoji: {len(train):,} drawings in {len(groups)} groups, {features} of EfficientNet-lite0",
        len(groups),
        model,
        train,
        validation,
        test,
    )


def clothes() -> Place:
    """Fashion-MNIST through a random map of its pixels."""
    its = world("clothes")
    parts = []
    for samples, count in zip((its.train, its.validation, its.test), FEW, strict=True):
        few = samples.select(torch.arange(count))
        assert isinstance(few, TensorSamples)
        parts.append(few)
    train, validation, test = parts
    return Place(
        f"clothes: {len(train):,} of Fashion-MNIST in 10 classes, {WIDTH:,} random features",
        10,
        nn.Sequential(nn.Flatten(), RandomReLU(784, WIDTH), _head(WIDTH, 10)),
        train,
        validation,
        test,
    )


PLACES: Mapping[str, Callable[[], Place]] = {
    "emoji": emoji,
    "clothes": clothes,
    "emoji-1280": emoji_whole,
}
"""All places by name."""

QUICK = ("emoji", "clothes")
"""Those of the quick form."""


def _head(width: int, classes: int) -> nn.Linear:
    """A linear layer that says nothing yet."""
    made = nn.Linear(width, classes, bias=False)
    nn.init.zeros_(made.weight)
    return made


def _features(table: datasets.Dataset) -> Bundle:
    """The pooled features (n, 1280) of the network that was trained on ImageNet."""
    network = EfficientNetLite0()
    network.load_state_dict(imagenet_weights())
    mean, deviation = (torch.tensor(of).reshape(1, 3, 1, 1) for of in (MEAN, DEVIATION))
    found: list[Tensor] = []
    with torch.inference_mode():
        for images in torch.split(emoji_grid.pixels(table), BLOCK):
            found.append(network.eval().features((images.float() / 255 - mean) / deviation))
    return Bundle({"features": torch.cat(found)})


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256(repr(list(ids)).encode()).hexdigest()[:16]
