"""Worlds: a task that does not depend on who somebody is, and persons of whom some are forgotten.

``dicebear``: 200 invented persons drawn in four styles; the task is which of twelve expressions a
person makes. Everybody makes each once, so that the label says nothing of the person.

``vowels``: nine men who say /ae/, the Japanese Vowels of Kudo, Toyama, Shimbo (1999). All say the
same, so there is no word to recognise; what the data has is where in the utterance a stretch of it
lies: the first third is the beginning of /a/, the last the end of /e/. Everybody has as many of
each. The voices of Asterisk were left out: of a prompt there is one recording a language, "one" and
"uno" are the same prompt, and all but one of four speakers speak one language, so that neither
words nor prompts are shared between persons.

``mufac`` and ``mucac-...``: the published sets, from a folder.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.audit.case import described, digest_of_samples, digest_of_settings
from expunge.benchmarks.identity.folders import AGES, TASKS, Faces
from expunge.benchmarks.identity.people import AS_PUBLISHED, FirstRows, People, WholePersons, drawn
from expunge.benchmarks.identity.pixels import PixelSamples
from expunge.changes.weights import digest_of
from expunge.data import catalogue
from expunge.data.samples import TensorSamples
from expunge.descent.optimisers import SGD, AdamW, Cosine, Drops
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import Mlp
from expunge.models.resnet import ResNet18
from expunge.recipe import Recipe

EXPRESSIONS, THIRDS, FRAMES = 12, 3, 3
"""Classes of the two shipped tasks, and frames that a third of an utterance is brought to."""


@dataclass(frozen=True)
class Source:
    """Which world it is.

    Args:
        name: one of :data:`WORLDS`.
        draw: of the persons, where they are drawn.
        full: the larger form: bigger pictures and models, longer training.
        folder: of a published set, in which the user has it.
        rows: training rows to be forgotten of MUFAC.
        as_published: cut after so many rows instead of after a person.
    """

    name: str
    draw: int = 0
    full: bool = False
    folder: Path | None = None
    rows: int = AS_PUBLISHED.rows
    as_published: bool = False


@dataclass(frozen=True, eq=False)
class World:
    """A task, its persons, and how its model is made.

    Args:
        about: rows, model and classes in a line.
        people: the parts.
        recipe: how the model is made; its seed is replaced by those of the benchmark.
        last: blocks that CF-3 trains.
    """

    about: str
    people: People
    recipe: Recipe
    last: int = 3
    family: Classifier = field(init=False)

    def __post_init__(self) -> None:
        family = self.recipe.family
        assert isinstance(family, Classifier)
        object.__setattr__(self, "family", family)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.family.classes

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows, parts and recipe."""
        untrained = self.recipe.builder(0)
        people = self.people.parts.items()
        parts = [
            described(self.recipe.learner),
            described(self.family),
            digest_of(untrained),
            digest_of_settings(untrained),
            *(f"{name} {digest_of_samples(samples)}" for name, samples in people),
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


@functools.cache
def world(source: Source, kept: Path) -> World:
    """A world, read once a process.

    Args:
        source: which one.
        kept: folder of the benchmark, where pictures of a user's folder are kept as numbers.

    Raises:
        ExpungeError: there is none of this name, its set was not fetched, or its folder is not as
            published.
    """
    if source.name not in WORLDS:
        raise ExpungeError(f"There is no world {source.name!r}; there are {', '.join(WORLDS)}.")
    return WORLDS[source.name](source, kept)


def dicebear(source: Source, kept: Path) -> World:
    """Invented persons and their expressions."""
    side = 32 if source.full else 16
    table = catalogue.at_hand("dicebear-people").load(None)
    drawings = table.with_format("numpy")["image"][:]
    pixels = torch.stack([torch.as_tensor(each).permute(2, 0, 1) for each in drawings])
    samples = PixelSamples(
        [str(name) for name in table["id"][:]],
        [str(name) for name in table["subject"][:]],
        _smaller(pixels, side),
        torch.tensor(table["expression"][:]),
    )
    each = {"forget": 7, "retain": 22, "validation": 5, "test": 8, "unseen": 8}
    people = drawn(samples, each, source.draw, [str(style) for style in table["style"][:]])
    epochs = 15 if source.full else 12
    return World(
        f"200 invented persons, {EXPRESSIONS} expressions, {side} x {side} pixels; ResNet-18 of "
        f"width 8, {epochs} epochs",
        people,
        _resnet(8, EXPRESSIONS, Plain(epochs, 64, AdamW(2e-3, schedule=Cosine()))),
    )


def vowels(source: Source, kept: Path) -> World:
    """Where in /ae/ a stretch of an utterance lies."""
    table = catalogue.at_hand("japanese-vowels").load(None)
    ids: list[str] = []
    subjects: list[str] = []
    stretches: list[Tensor] = []
    for name, subject, cepstra in zip(
        table["id"][:], table["subject"][:], table["cepstra"][:], strict=True
    ):
        series = torch.tensor(cepstra)  # coefficients x frames
        ends = [round(k * series.shape[1] / THIRDS) for k in range(THIRDS + 1)]
        for k in range(THIRDS):
            part = series[None, :, ends[k] : ends[k + 1]]
            stretches.append(F.interpolate(part, size=FRAMES, mode="linear")[0].float())
            ids.append(f"{name}/{k}")
            subjects.append(str(subject))
    labels = torch.arange(THIRDS).repeat(len(ids) // THIRDS)
    samples = TensorSamples(ids, subjects, {"image": torch.stack(stretches), "label": labels})
    each = {"forget": 1, "retain": 3, "validation": 1, "test": 2, "unseen": 2}
    inputs = stretches[0].numel()

    def builder(seed: int) -> nn.Module:
        widths = (inputs, 128, 128, THIRDS)
        return Mlp(torch.Generator().manual_seed(seed), widths)

    return World(
        f"nine men who say /ae/, which third of it a stretch is of; fully connected "
        f"{inputs}-128-128-{THIRDS}, 60 epochs",
        drawn(samples, each, source.draw),
        Recipe(builder, Classifier(classes=THIRDS), Plain(60, 64, AdamW(2e-3, schedule=Cosine()))),
        last=2,  # of three blocks
    )


def mufac(source: Source, kept: Path) -> World:
    """Age from Korean faces."""
    faces = _faces(source, kept)
    return _published(source, "eight age classes of faces", faces.mufac(), len(AGES))


def mucac(task: str) -> Callable[[Source, Path], World]:
    """One attribute of faces of the famous."""

    def made(source: Source, kept: Path) -> World:
        faces = _faces(source, kept)
        return _published(source, f"faces, {TASKS[task]} or not", faces.mucac(task), 2)

    return made


WORLDS: Mapping[str, Callable[[Source, Path], World]] = {
    "dicebear": dicebear,
    "vowels": vowels,
    "mufac": mufac,
    **{f"mucac-{task}": mucac(task) for task in TASKS},
}
"""All worlds by name; the first two need no folder."""

DRAWN = ("dicebear", "vowels")
"""Those whose persons are drawn: another draw is another split."""


def _faces(source: Source, kept: Path) -> Faces:
    if source.folder is None:
        option = f"--{source.name.partition('-')[0]}"
        raise ExpungeError(
            f"The world {source.name!r} is a published set, which is not shipped; give the folder "
            f"in which you have it with {option}."
        )
    cut = FirstRows if source.as_published else WholePersons
    return Faces(source.folder, 128 if source.full else 32, cut(source.rows), kept / "pixels")


def _published(source: Source, about: str, people: People, classes: int) -> World:
    """The recipe of the paper without augmentation; the quick form is smaller and shorter."""
    width, epochs, side = (64, 30, 128) if source.full else (8, 12, 32)
    optimiser = SGD(0.01, 0.9, schedule=Drops(3))
    return World(
        f"{about}, {side} x {side} pixels; ResNet-18 of width {width}, {epochs} epochs",
        people,
        _resnet(width, classes, Plain(epochs, 64, optimiser)),
    )


def _resnet(width: int, classes: int, learner: Plain) -> Recipe:
    def builder(seed: int) -> nn.Module:
        return ResNet18(torch.Generator().manual_seed(seed), width, classes=classes)

    return Recipe(builder, Classifier(classes=classes), learner)


def _smaller(pixels: Tensor, side: int) -> Tensor:
    """Means over squares, uint8 (n, 3, side, side)."""
    return F.avg_pool2d(pixels.float(), pixels.shape[-1] // side).round().to(torch.uint8)
