"""The shipped models that draw: those of the benchmarks, and how well they do.

A model that is told what to draw is asked for every condition that it knows, and judges, which
learn from the same rows, say whether they see what was asked for. A score model is told nothing;
what it says of real rows is measured instead. Both draw, and how far that is from real pictures
stands beside the floor: real rows that no model learned from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.benchmarks import clothes, digits_judge
from expunge.benchmarks.canvas import worlds as canvas
from expunge.benchmarks.drawing import worlds as drawing
from expunge.benchmarks.drawing.rivals import SEVERAL
from expunge.benchmarks.msgm import work as scoring
from expunge.benchmarks.msgm import worlds as scored
from expunge.benchmarks.picture_judge import Gallery, Pick, judged
from expunge.data.samples import Samples
from expunge.families.diffusion import LabelDiffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.families.score import Score
from expunge.families.score_sampling import PredictorCorrector, ProbabilityFlow
from expunge.models.modes import evaluating
from expunge.recipe import Recipe, Role
from expunge.run import Run
from expunge.signals.accuracy import binomial_interval, bootstrap_interval
from expunge.signals.likelihood import Likelihood

EACH = 20
"""Pictures that are drawn of every cell of the canvas."""

SHOWN, ACROSS = 3, 10
"""Rows of drawn pictures on a contact sheet, and pictures of a row that nobody told anything."""

Scores = dict[str, dict[str, float]]
"""By what is measured: its ``value``, and where it has one the ``low`` and ``high`` of its 95 %
interval."""


@dataclass(frozen=True)
class Sheet:
    """What is put on a contact sheet: rows of pictures (n, C, H, W), and names of the columns."""

    rows: Mapping[str, Tensor]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Drawing:
    """A recipe, the rows that it trains on, and what is measured of the trained model.

    Args:
        recipe: of the model.
        rows: samples to train on.
        measured: looks at a trained model.
        shown: real pictures, and what a trained model draws.
    """

    figures: ClassVar[str] = "measured"

    recipe: Recipe
    rows: Samples
    measured: Callable[[nn.Module, Run], Scores]
    shown: Callable[[nn.Module, Run], Sheet]

    @property
    def data(self) -> Mapping[Role, Samples]:
        """The training rows."""
        return {Role.TRAIN: self.rows}

    def score(self, model: nn.Module, run: Run) -> Scores:
        """What is measured, by name."""
        return self.measured(model, run)


@dataclass(frozen=True, eq=False)
class Told:
    """How a model is looked at that is told a class.

    Args:
        gallery: real rows and their judge.
        family: of the model.
        sampler: by which it draws.
    """

    gallery: Gallery
    family: LabelDiffusion
    sampler: DDIM

    def measured(self, model: nn.Module, run: Run) -> Scores:
        """What the judge sees in the drawings and in real rows, and how far apart they are."""
        gallery, judge = self.gallery, self.gallery.judging(run)
        told = self.family.conditions(self.family.classes).repeat_interleave(gallery.each)
        pictures = self.sampler.drawn(self.family, model, told, run, "shipped")
        return {
            "drawn as told": _share(judged(judge, pictures).classes == told),
            "judge, real test rows": _share(gallery.right(judge)),
            **_apart(gallery, judge, pictures, gallery.evenly),
        }

    def shown(self, model: nn.Module, run: Run) -> Sheet:
        """The first test row of every class, and what is drawn of it."""
        test, told = self.gallery.rows["test"].columns, self.family.conditions(self.family.classes)
        first = torch.stack([(test["label"] == c).nonzero()[0, 0] for c in told])
        drawn = {
            _row(i): self.sampler.drawn(self.family, model, told, run, f"sheet/{i}")
            for i in range(SHOWN)
        }
        return Sheet({"real": test["image"][first], **drawn}, self.family.classes)


@dataclass(frozen=True, eq=False)
class Untold:
    """How a score model is looked at.

    Args:
        gallery: real rows and their judge.
        family: of the model.
        sampler: by which it draws.
        likelihood: how bits are counted.
        asked: test rows whose bits are counted, the first ones.
    """

    gallery: Gallery
    family: Score
    sampler: PredictorCorrector | ProbabilityFlow
    likelihood: Likelihood
    asked: int

    def measured(self, model: nn.Module, run: Run) -> Scores:
        """Bits a dimension of test rows, and how far drawings are from real rows."""
        rows = self.gallery.rows["test"].select(torch.arange(self.asked))
        bits = self.likelihood.bits(self.family, model, rows, run)
        spread = bootstrap_interval(bits, rows.subjects)
        gallery, judge = self.gallery, self.gallery.judging(run)
        pictures = self._drawn(model, gallery.count, run, "shipped")
        mean = float(bits.double().mean())
        return {
            "bits a dimension, test rows": {"value": mean, "low": spread.low, "high": spread.high},
            "judge, real test rows": _share(gallery.right(judge)),
            **_apart(gallery, judge, pictures, gallery.anyhow),
        }

    def shown(self, model: nn.Module, run: Run) -> Sheet:
        """The first test rows, and drawings."""
        drawn = self._drawn(model, SHOWN * ACROSS, run, "sheet")
        parts = {_row(i): part for i, part in enumerate(torch.split(drawn, ACROSS))}
        return Sheet({"real": self.gallery.rows["test"].columns["image"][:ACROSS], **parts})

    def _drawn(self, model: nn.Module, count: int, run: Run, name: str) -> Tensor:
        shape = self.gallery.rows["test"].columns["image"].shape[1:]
        return self.sampler.drawn(self.family, model, (count, *shape), run, name)


def digits_diffusion() -> Drawing:
    """A label-conditional diffusion model of the scikit-learn digits."""
    world = drawing.world()
    look = Told(digits_judge.gallery(), world.family, SEVERAL)
    return Drawing(world.recipe, world.rows["train"], look.measured, look.shown)


def digits_score() -> Drawing:
    """A score model of the scikit-learn digits in continuous time."""
    world = scored.world("digits")
    assert isinstance(world.recipe.family, Score)
    bits = Likelihood(scoring.FLOW, world.levels)
    gallery = digits_judge.gallery()
    look = Untold(gallery, world.recipe.family, scoring.SAMPLER, bits, scoring.ASKED)
    return Drawing(world.recipe, world.rows["train"], look.measured, look.shown)


def clothes_diffusion() -> Drawing:
    """A label-conditional diffusion model of Fashion-MNIST."""
    recipe, gallery = clothes.DIFFUSION, clothes.gallery()
    assert isinstance(recipe.family, LabelDiffusion)
    look = Told(gallery, recipe.family, clothes.SAMPLER)
    return Drawing(recipe, gallery.rows["train"], look.measured, look.shown)


def clothes_score() -> Drawing:
    """A score model of Fashion-MNIST in continuous time."""
    recipe, gallery = clothes.SCORE, clothes.gallery()
    assert isinstance(recipe.family, Score)
    bits = Likelihood(clothes.FLOW, clothes.LEVELS)
    look = Untold(gallery, recipe.family, clothes.FLOW, bits, clothes.ASKED)
    return Drawing(recipe, gallery.rows["train"], look.measured, look.shown)


def emoji_canvas() -> Drawing:
    """A text-conditional diffusion model of objects in the styles of several vendors."""
    world = canvas.world("small")
    texts = world.canvas.prompts()

    def measured(model: nn.Module, run: Run) -> Scores:
        told = world.family.conditions(texts).repeat_interleave(EACH, 0)
        pictures = world.sampler.drawn(world.family, model, told, run, "shipped")
        scores = {}
        for domain in canvas.DOMAINS:
            judge = world.judge(domain).make({Role.TRAIN: world.lessons(domain)}, run).model
            with evaluating(judge) as asked, torch.inference_mode():
                seen: Tensor = asked(pictures).argmax(1)
            scores[f"{domain} drawn as told"] = _share(seen == _asked(world, domain))
        return scores

    def shown(model: nn.Module, run: Run) -> Sheet:
        things = len(world.canvas.objects)
        cells = torch.arange(things) + things * (torch.arange(things) % len(world.canvas.styles))
        test = world.canvas.samples("test").columns
        first = torch.stack([(test["cell"] == cell).nonzero()[0, 0] for cell in cells])
        told = world.family.conditions(texts)[cells]
        drawn = {
            _row(i): world.sampler.drawn(world.family, model, told, run, f"sheet/{i}")
            for i in range(SHOWN)
        }
        return Sheet({"real": test["image"][first], **drawn}, world.canvas.objects)

    return Drawing(world.recipe, world.rows("train"), measured, shown)


SHIPPED: Mapping[str, Callable[[], Drawing]] = {
    "digits-diffusion": digits_diffusion,
    "digits-score": digits_score,
    "clothes-diffusion": clothes_diffusion,
    "clothes-score": clothes_score,
    "emoji-canvas": emoji_canvas,
}
"""What ``expunge train`` can make beside :data:`expunge.benchmarks.shipped.MODELS`."""


def _row(number: int) -> str:
    return "drawn" if number == 0 else "from other noise" + " again" * (number > 1)


def _asked(world: canvas.World, domain: canvas.Domain) -> Tensor:
    """The word (n,) of a domain that each picture was asked for, cell by cell."""
    things = len(world.canvas.objects)
    cells = torch.arange(len(world.canvas.cells)).repeat_interleave(EACH)
    return cells % things if domain == "object" else cells // things


def _apart(gallery: Gallery, judge: nn.Module, pictures: Tensor, pick: Pick) -> Scores:
    """Distances to real training rows, of pictures and of real rows that nobody learned from."""
    found, floor = gallery.apart(judge, pictures, pick)
    return {
        "Frechet distance, drawn": {"value": found},
        "Frechet distance, real rows": {"value": floor},
    }


def _share(hits: Tensor) -> dict[str, float]:
    """A share of pictures, with Wilson's interval."""
    spread = binomial_interval(int(hits.sum()), len(hits))
    return {"value": float(hits.double().mean()), "low": spread.low, "high": spread.high}
