"""The shipped models that draw: those of the benchmarks, and how well they do.

A diffusion model is asked for every condition that it knows, and judges, which learn from the same
rows, say whether they see what was asked for. A score model is told nothing; what it says of real
rows is measured instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.benchmarks.canvas import worlds as canvas
from expunge.benchmarks.digits_judge import NAMES, jittered, judged
from expunge.benchmarks.drawing import worlds as drawing
from expunge.benchmarks.drawing.rivals import SEVERAL
from expunge.benchmarks.msgm import work as scoring
from expunge.benchmarks.msgm import worlds as scored
from expunge.data.samples import Samples
from expunge.families.score import Score
from expunge.models.modes import evaluating
from expunge.recipe import Recipe, Role
from expunge.run import Run
from expunge.signals.accuracy import binomial_interval, bootstrap_interval
from expunge.signals.likelihood import Likelihood

EACH = 20
"""Pictures that are drawn of every condition."""

Scores = dict[str, dict[str, float]]
"""By what is measured: its ``value``, and the ``low`` and ``high`` of its 95 % interval."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A recipe, the rows that it trains on, and what is measured of the trained model.

    Args:
        recipe: of the model.
        rows: samples to train on.
        measured: looks at a trained model.
    """

    figures: ClassVar[str] = "measured"

    recipe: Recipe
    rows: Samples
    measured: Callable[[nn.Module, Run], Scores]

    @property
    def data(self) -> Mapping[Role, Samples]:
        """The training rows."""
        return {Role.TRAIN: self.rows}

    def score(self, model: nn.Module, run: Run) -> Scores:
        """What is measured, by name."""
        return self.measured(model, run)


def digits_diffusion() -> Drawing:
    """A label-conditional diffusion model of the scikit-learn digits."""
    world = drawing.world()

    def measured(model: nn.Module, run: Run) -> Scores:
        lessons = jittered(world.rows["train"], run.generator("judge"))
        judge = world.judge.make({Role.TRAIN: lessons}, run).model
        told = world.family.conditions(NAMES).repeat_interleave(EACH)
        pictures = SEVERAL.drawn(world.family, model, told, run, "shipped")
        found = judged(judge, pictures)
        return {"drawn as told": _share(found.classes == told)}

    return Drawing(world.recipe, world.rows["train"], measured)


def digits_score() -> Drawing:
    """A score model of the scikit-learn digits in continuous time."""
    world = scored.world("digits")

    def measured(model: nn.Module, run: Run) -> Scores:
        family, rows = world.recipe.family, world.rows["test"]
        assert isinstance(family, Score)
        rows = rows.select(torch.arange(scoring.ASKED))
        bits = Likelihood(scoring.FLOW, world.levels).bits(family, model, rows, run)
        spread = bootstrap_interval(bits, rows.subjects)
        mean = float(bits.double().mean())
        return {
            "bits a dimension, test rows": {"value": mean, "low": spread.low, "high": spread.high}
        }

    return Drawing(world.recipe, world.rows["train"], measured)


def emoji_canvas() -> Drawing:
    """A text-conditional diffusion model of objects in the styles of several vendors."""
    world = canvas.world("small")

    def measured(model: nn.Module, run: Run) -> Scores:
        texts = world.canvas.prompts()
        told = world.family.conditions(texts).repeat_interleave(EACH, 0)
        pictures = world.sampler.drawn(world.family, model, told, run, "shipped")
        scores = {}
        for domain in canvas.DOMAINS:
            judge = world.judge(domain).make({Role.TRAIN: world.lessons(domain)}, run).model
            with evaluating(judge) as asked, torch.inference_mode():
                seen: Tensor = asked(pictures).argmax(1)
            scores[f"{domain} drawn as told"] = _share(seen == _asked(world, domain))
        return scores

    return Drawing(world.recipe, world.rows("train"), measured)


SHIPPED: Mapping[str, Callable[[], Drawing]] = {
    "digits-diffusion": digits_diffusion,
    "digits-score": digits_score,
    "emoji-canvas": emoji_canvas,
}
"""What ``expunge train`` can make beside :data:`expunge.benchmarks.shipped.MODELS`."""


def _asked(world: canvas.World, domain: canvas.Domain) -> Tensor:
    """The word (n,) of a domain that each picture was asked for, cell by cell."""
    things = len(world.canvas.objects)
    cells = torch.arange(len(world.canvas.cells)).repeat_interleave(EACH)
    return cells % things if domain == "object" else cells // things


def _share(hits: Tensor) -> dict[str, float]:
    """A share of pictures, with Wilson's interval."""
    spread = binomial_interval(int(hits.sum()), len(hits))
    return {"value": float(hits.double().mean()), "low": spread.low, "high": spread.high}
