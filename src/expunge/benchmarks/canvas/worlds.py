"""The canvas as a world: rows in words, the recipe of the model that draws, and the two judges."""

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from expunge.audit.case import described, digest_of_samples
from expunge.changes.weights import digest_of
from expunge.data.augmentation import Jitter, augmented
from expunge.data.canvas import FULL, SMALL, TEMPLATE, Canvas
from expunge.data.samples import TensorSamples
from expunge.descent.averages import MovingAverage
from expunge.descent.optimisers import AdamW, Cosine
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.diffusion import TextDiffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.families.prompts import PromptTokens
from expunge.learning.supervised.averaged import Averaged
from expunge.models.denoisers import SmallTextToImage
from expunge.models.judge_cnn import JudgeCnn
from expunge.recipe import Recipe
from expunge.requests import Request, Rows

Domain = Literal["object", "style"]
DOMAINS: tuple[Domain, ...] = ("object", "style")

LENGTH = 12
"""Tokens of a prompt."""

FEATURES = 16
"""Of a judge's picture: few, so that distances can be taken of a hundred pictures."""

COPIES, NOISE = 2, 0.1
"""Copies of a row that a judge learns from, and the largest deviation of the noise in them."""

SAMPLER = DDIM(25, 1.5, eta=1.0)
"""By which every model draws: the guidance changes these accuracies more than most methods do, and
without noise in the steps the grain that a short training leaves stays in the pictures."""

LESSONS = 200
"""Steps of a judge's training."""

RECOLOURED = Jitter(0.0, 0.0, 0.0, 0.0, 0.0, math.pi, 0.0, 0.0, 0.0)
"""Any hue, and nothing else: what a judge says then, it says of shapes."""


@dataclass(frozen=True)
class Target:
    """What is to be forgotten, and what takes its place.

    Args:
        domain: which of the two it is a word of.
        word: the target.
        anchor: another word of the domain.
    """

    domain: Domain
    word: str
    anchor: str

    @property
    def request(self) -> Request:
        """As a method sees it."""
        rows = Rows(self.domain, (self.word,))
        return Request(f"the {self.domain} {self.word}", rows, anchor=self.anchor, text=self.word)


@dataclass(frozen=True, eq=False)
class World:
    """A canvas, and all that is made of it.

    Args:
        name: by which it is asked for.
        canvas: the grid.
        recipe: of the model that draws.
        sampler: by which every model draws.
    """

    name: str
    canvas: Canvas
    recipe: Recipe
    sampler: DDIM

    @property
    def family(self) -> TextDiffusion:
        """Of the models that draw."""
        assert isinstance(self.recipe.family, TextDiffusion)
        return self.recipe.family

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of rows, recipes and sampler."""
        recipes = [self.recipe, *(self.judge(domain) for domain in DOMAINS)]
        parts = [
            *(described(part) for r in recipes for part in (r.learner, r.family)),
            *(digest_of(r.builder(0)) for r in recipes),
            *(digest_of_samples(self.canvas.samples(s)) for s in ("train", "validation", "test")),
            repr((self.sampler, TEMPLATE, COPIES, NOISE)),
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def words(self, domain: Domain) -> tuple[str, ...]:
        """The words of a domain."""
        return self.canvas.objects if domain == "object" else self.canvas.styles

    def target(self, domain: Domain, word: str, anchor: str) -> Target:
        """A target whose words are known.

        Raises:
            ExpungeError: a word is none of the domain, or both are the same.
        """
        words = self.words(domain)
        for given in (word, anchor):
            if given not in words:
                raise ExpungeError(
                    f"{given!r} is no {domain} of the canvas; {', '.join(words)} are."
                )
        if word == anchor:
            raise ExpungeError(
                f"The anchor is {anchor!r}, and so is the target; another {domain} is expected."
            )
        return Target(domain, word, anchor)

    def rows(self, split: str, without: Target | None = None) -> TensorSamples:
        """Rows of a split with their prompts; all but those of a target where one is named."""
        rows = self._told(split)
        return rows if without is None else rows.select((~self.of(rows, without)).nonzero()[:, 0])

    def of(self, rows: TensorSamples, target: Target) -> Tensor:
        """Which rows (n,) show a target."""
        return rows.columns[target.domain] == self.words(target.domain).index(target.word)

    def prompts(self) -> TensorSamples:
        """The prompt of every cell, as methods read them."""
        texts = self.canvas.prompts()
        return TensorSamples(texts, texts, {"prompt": self.family.conditions(texts)})

    def judge(self, domain: Domain) -> Recipe:
        """The recipe of a judge."""
        words, side = self.words(domain), self.canvas.side

        def build(seed: int) -> nn.Module:
            draws = torch.Generator().manual_seed(seed)
            return JudgeCnn(draws, len(words), 3, side, FEATURES)

        moves = AdamW(2e-3, weight_decay=0.01, schedule=Cosine())
        learner = Averaged(LESSONS, 64, moves, MovingAverage(0.0))
        return Recipe(build, Classifier(classes=len(words)), learner)

    def lessons(self, domain: Domain) -> TensorSamples:
        """What a judge learns from: training rows, and copies of them with noise in them."""
        rows = self.canvas.samples("train")
        draws = torch.Generator().manual_seed(0)
        images, labels = rows.columns["image"], rows.columns[domain]
        noise = NOISE * torch.rand(len(images), 1, 1, 1, generator=draws)
        noised = images + noise * torch.randn(images.shape, generator=draws)
        ids = [f"{name}#{copy}" for copy in range(COPIES) for name in rows.ids]
        columns = {"image": torch.cat([images, noised.clamp(0, 1)]), "label": labels.repeat(COPIES)}
        return TensorSamples(ids, list(rows.subjects) * COPIES, columns)

    def recoloured(self, split: str) -> TensorSamples:
        """Rows of a split in any hue."""
        rows = self.canvas.samples(split)
        whole = (rows.columns["image"] * 255).round().to(torch.uint8)
        turned = augmented(whole, torch.Generator().manual_seed(0), RECOLOURED).float() / 255
        return TensorSamples(rows.ids, rows.subjects, {**rows.columns, "image": turned})

    @functools.cache  # noqa: B019 - a world lives as long as its process
    def _told(self, split: str) -> TensorSamples:
        rows = self.canvas.samples(split)
        told = self.family.conditions(self.canvas.prompts())[rows.columns["cell"]]
        return TensorSamples(rows.ids, rows.subjects, {**rows.columns, "prompt": told})


def _world(name: str, canvas: Canvas, widths: tuple[int, ...], steps: int) -> World:
    tokens = PromptTokens(canvas.words, LENGTH)
    shape = (3, canvas.side, canvas.side)
    builder = SmallTextToImage(shape, tokens.size, LENGTH, widths, attending=len(widths) - 1)
    learner = Averaged(steps, 32, AdamW(1e-3, schedule=Cosine()), MovingAverage(0.995))
    recipe = Recipe(builder, TextDiffusion(shape, tokens=tokens), learner)
    return World(name, canvas, recipe, SAMPLER)


@functools.cache
def world(name: str) -> World:
    """The world of a name.

    Raises:
        ExpungeError: there is none.
    """
    if name not in WORLDS:
        raise ExpungeError(f"There is no canvas {name!r}; there are {', '.join(WORLDS)}.")
    canvas, widths, steps = WORLDS[name]
    return _world(name, canvas, widths, steps)


WORLDS: Mapping[str, tuple[Canvas, tuple[int, ...], int]] = {
    "small": (SMALL, (24, 48), 3000),
    "full": (FULL, (32, 64, 96), 8000),
}
"""Grid, widths of the U-Net and steps of its training."""
