"""A tiny text-to-image model, emoji of three kinds by two hands at 8 x 8 pixels, and a problem."""

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.data import emoji_grid
from expunge.data.augmentation import augmented
from expunge.data.samples import TensorSamples
from expunge.families.diffusion import TextDiffusion
from expunge.families.prompts import PromptTokens
from expunge.models.denoisers import SmallTextToImage
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows

OBJECTS = {"tree": "1f332", "fish": "1f41f", "heart": "2764"}
STYLES = ("noto", "twemoji")
CELLS = [(thing, style) for style in STYLES for thing in OBJECTS]
SENTENCES = tuple(f"a {thing} in {style} style" for thing, style in CELLS)
TOKENS = PromptTokens(("a", "in", "style", *OBJECTS, *STYLES), length=10)
FAMILY = TextDiffusion((3, 8, 8), tokens=TOKENS)
FISH = Request("the fish", Rows("subject", ("1f41f",)), anchor="heart", text="fish")
COPIES = 24


@cache
def rows() -> TensorSamples:
    table = emoji_grid.load()
    places = {
        (c, s): i for i, (s, c) in enumerate(zip(table["style"], table["subject"], strict=True))
    }
    chosen = [places[OBJECTS[thing], style] for thing, style in CELLS]
    drawings = emoji_grid.pixels(table.select(chosen)).repeat_interleave(COPIES, 0)
    copies = augmented(drawings, torch.Generator().manual_seed(0)).float() / 255
    told = FAMILY.conditions(SENTENCES).repeat_interleave(COPIES, 0)
    ids = [f"{s}/{t}/{copy}" for t, s in CELLS for copy in range(COPIES)]
    images = torch.nn.functional.avg_pool2d(copies, 8)
    return TensorSamples(ids, ids, {"image": images, "prompt": told})


LOUD = 30.0
"""What its answers to the text are multiplied by: untrained weights hardly listen."""


@cache
def model() -> nn.Module:
    """An untrained network that listens to its text: what is tested holds of any weights."""
    made = SmallTextToImage((3, 8, 8), TOKENS.size, 10, (8, 16), attending=1, width=32)(0)
    with torch.no_grad():
        for name, weights in made.named_parameters():
            if ".attn2.to_out." in name:
                weights.mul_(LOUD)
    return made


def prompts() -> TensorSamples:
    return TensorSamples(SENTENCES, SENTENCES, {"prompt": FAMILY.conditions(SENTENCES)})


def problem(request: Request = FISH) -> Problem:
    return Problem(model(), FAMILY, request, {Role.PROMPTS: prompts()}, History())


def unanchored() -> Problem:
    return problem(replace(FISH, anchor=None))


def seen(network: nn.Module, texts: list[str], time: int = 600) -> Tensor:
    """The noise that a network sees in the same noised pictures, told each of some texts."""
    clean = 2 * rows().columns["image"][:: COPIES // 2][: len(texts)] - 1
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    times = torch.full((len(texts),), time)
    factor, deviation = (v.view(-1, 1, 1, 1) for v in FAMILY.schedule.marginal(times))
    with torch.no_grad():
        return FAMILY.noise(
            network, factor * clean + deviation * noise, times, FAMILY.conditions(texts)
        )
