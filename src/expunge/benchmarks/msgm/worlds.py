"""Worlds: real pictures, a score model of them, what is undesired, and who judges.

In ``digits`` two classes are undesired, which share little with the others. In ``bold`` it is an
attribute: the fifth of the pictures with the most ink, of every class. There a model that never saw
them may draw them all the same, which is what the paper says of retraining.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.audit.case import described, digest_of_samples
from expunge.benchmarks.digits_judge import JUDGE, rows
from expunge.benchmarks.picture_judge import Judged, judged
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.descent.averages import MovingAverage
from expunge.descent.optimisers import AdamW, Cosine
from expunge.errors import ExpungeError
from expunge.families.score import Score
from expunge.families.sde import VP
from expunge.learning.supervised.averaged import Averaged
from expunge.models.denoisers import ScoreUNet
from expunge.recipe import Recipe

Undesired = Callable[[Tensor, Tensor], Tensor]
"""From pictures (n, C, H, W) and the judge's scores (n, K) to which of them are undesired (n,)."""

CLASSES = (1, 5)
"""The undesired digits."""

INK = 0.8
"""Share of the training pictures that have less ink than a bold one."""

SDE = VP(0.1, 8.0)
"""The paper's diffusion with a last rate of 8 instead of 20: 64 pixels drown in less noise, and
half of the paper's times would show nothing but noise."""

LEARNER = Averaged(2250, 64, AdamW(2e-3, schedule=Cosine(0.05)), MovingAverage(0.99))
"""How score models are trained: about two minutes of a core."""

LEVELS = 17
"""Grey values of a pixel of the digits."""


@dataclass(frozen=True, eq=False)
class World:
    """What is drawn and what is undesired of it.

    Args:
        name: by which it is asked for.
        about: rows, model and what is undesired, in a line.
        recipe: of the score model; its seed is replaced by those of the benchmark.
        judge: recipe of the classifier that looks at pictures.
        rows: samples by split, ``train``, ``validation`` and ``test``.
        undesired: which pictures must not be drawn.
        levels: grey values of a pixel.
    """

    name: str
    about: str
    recipe: Recipe
    judge: Recipe
    rows: Mapping[str, TensorSamples]
    undesired: Undesired
    levels: int = LEVELS

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows and recipes; worlds of one digest share base and judge."""
        parts = [
            *(described(r.learner) for r in (self.recipe, self.judge)),
            *(digest_of(r.builder(0)) for r in (self.recipe, self.judge)),
            described(self.recipe.family),
            *(digest_of_samples(samples) for samples in self.rows.values()),
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def part(self, split: str, *, undesired: bool) -> TensorSamples:
        """The rows of a split that must go, or all others; by the rows' own class and pixels."""
        samples = self.rows[split]
        labels = samples.columns["label"]
        own_class = torch.nn.functional.one_hot(labels, 10).float()
        found = self.undesired(samples.columns["image"], own_class)
        return samples.select(torch.nonzero(found == undesired).flatten())

    def judged(self, judge: nn.Module, pictures: Tensor) -> "Marked":
        """What the judge says of pictures, cut to the range from 0 to 1."""
        seen = judged(judge, pictures)
        marks = self.undesired(pictures.clamp(0, 1), seen.probabilities)
        return Marked(seen.probabilities, seen.features, marks)


@dataclass(frozen=True)
class Marked(Judged):
    """What a judge says of n pictures, and what must not have been drawn.

    Args:
        undesired: which are undesired (n,).
    """

    undesired: Tensor


@functools.cache
def world(name: str) -> World:
    """The world of a name; its rows are read once a process.

    Raises:
        ExpungeError: there is none.
    """
    if name not in WORLDS:
        raise ExpungeError(f"There is no world {name!r}; there are {', '.join(WORLDS)}.")
    return WORLDS[name](name)


def digits_of_two_classes(name: str) -> World:
    """The ones and the fives are undesired."""

    def undesired(images: Tensor, scores: Tensor) -> Tensor:
        return torch.isin(scores.argmax(1), torch.tensor(CLASSES))

    return _of_digits(name, "the ones and the fives (20 %) are undesired", undesired)


def bold_digits(name: str) -> World:
    """The pictures with the most ink are undesired."""
    most = float(rows()["train"].columns["image"].mean((1, 2, 3)).quantile(INK))

    def undesired(images: Tensor, scores: Tensor) -> Tensor:
        return images.mean((1, 2, 3)) > most

    return _of_digits(name, "the fifth with the most ink, of every class, is undesired", undesired)


WORLDS: Mapping[str, Callable[[str], World]] = {
    "digits": digits_of_two_classes,
    "bold": bold_digits,
}
"""All worlds by name."""


def _of_digits(name: str, what: str, undesired: Undesired) -> World:
    return World(
        name,
        f"1,078 digits of 8 x 8 pixels, U-Net of 160,000 weights; {what}",
        Recipe(ScoreUNet(), Score(SDE), LEARNER),
        JUDGE,
        rows(),
        undesired,
    )
