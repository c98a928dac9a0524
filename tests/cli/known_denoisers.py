"""Denoisers that are exact of digits with a little noise around the mean digit of their class, and
the judge of the nearest mean: models that draw and need no training.

What is learned are the means alone, so that a method that teaches one condition what another draws
leads to a model that is known, too.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
import yaml
from torch import Tensor, nn

from expunge.changes.weights import stored_tensors
from expunge.data import digits
from expunge.families.diffusion import NoiseSchedule
from expunge.families.from_noise import wide
from expunge.families.score import TIMESTEPS
from expunge.families.sde import VP
from expunge.models.denoisers import SmallTextToImage
from expunge.storage import write_tensors

NAMES = [str(label) for label in range(10)]
DEVIATION = 0.2
WORDS = ["a", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FIRST_NAME = 4
"""The token of the first name: three tokens are special, and the article comes before."""

SURE = 4.0
"""What the judge's distances are multiplied by."""


@functools.cache
def means() -> Tensor:
    """The mean picture (10, 1, 8, 8) of each class of the training digits, from -1 to 1."""
    rows = digits.tensors(digits.load("train"))
    return torch.stack([2 * rows["image"][rows["label"] == c].mean(0) - 1 for c in range(10)])


class Told(nn.Module):
    """Told a label, the eleventh being none."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(11, 1, 8, 8))

    def forward(self, noised: Tensor, time: Tensor, label: Tensor) -> Tensor:
        factor, deviation = (wide(v, noised) for v in NoiseSchedule().marginal(time))
        spread = factor.square() * DEVIATION**2 + deviation.square()
        return deviation * (noised - factor * self.means[label]) / spread


class Untold(nn.Module):
    """Told nothing: the mixture of all classes, in continuous time."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(10, 1, 8, 8))

    def forward(self, noised: Tensor, time: Tensor) -> Tensor:
        factor, deviation = (wide(v, noised) for v in VP(0.1, 8.0).marginal(time / TIMESTEPS))
        spread = factor.square() * DEVIATION**2 + deviation.square()
        away = noised.unsqueeze(1) - factor.unsqueeze(1) * self.means
        likely = (-away.square().flatten(2).sum(2) / (2 * spread.flatten(1))).softmax(1)
        mean = torch.einsum("bk,kchw->bchw", likely, self.means)
        return deviation * (noised - factor * mean) / spread


class Nearest(nn.Module):
    """A classifier: the class whose mean is nearest."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(10, 1, 8, 8))

    def forward(self, images: Tensor) -> Tensor:
        away = (2 * images - 1).unsqueeze(1) - self.means
        return -SURE * away.square().flatten(2).mean(2) * 8


class Spoken(Told):
    """Told a sentence, whose second word is the name of a digit; another sentence says nothing."""

    def forward(self, noised: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        named = tokens[:, 2] - FIRST_NAME
        return super().forward(noised, time, torch.where(named < 0, 10, named))


def told() -> nn.Module:
    return Told()


def spoken() -> nn.Module:
    return Spoken()


def untold() -> nn.Module:
    return Untold()


def small(vocabulary: int = 8) -> nn.Module:
    return SmallTextToImage((3, 16, 16), vocabulary, 8, widths=(8, 16), width=16, heads=2).drawn()


def nearest() -> nn.Module:
    return Nearest()


def write(folder: Path) -> None:
    """The weights of all three: ``told``, ``untold``, ``nearest``."""
    every = {"told": Told(), "untold": Untold(), "nearest": Nearest()}
    for name, model in every.items():
        known = means() if name != "told" else torch.cat([means(), means().mean(0, keepdim=True)])
        with torch.no_grad():
            model.get_parameter("means").copy_(known)
        write_tensors(folder / f"{name}.safetensors", stored_tensors(model))


JUDGE = {
    "builder": "tests.cli.known_denoisers:nearest",
    "weights": "nearest.safetensors",
    "each": 10,
    "steps": 10,
    "guidance": 1.0,
}
THREES = {"name": "the threes", "column": "label", "values": [3], "anchor": 8}
RELABEL = {
    "name": "relabel-diffusion",
    "parameters": {"steps": 120, "learning_rate": 0.03, "batch_size": 32},
}
LABELLED = {
    "model": {
        "builder": "tests.cli.known_denoisers:told",
        "weights": "told.safetensors",
        "family": "diffusion",
        "family_arguments": {"classes": NAMES},
    },
    "requests": [THREES],
    "method": RELABEL,
    "judge": JUDGE,
}
UNTOLD = {
    "model": {
        "builder": "tests.cli.known_denoisers:untold",
        "weights": "untold.safetensors",
        "family": "score",
        "family_arguments": {"sde": {"name": "vp", "last": 8.0}},
    },
    "requests": [{"name": "the threes", "column": "label", "values": [3]}],
    "method": {
        "name": "msgm-bounded",
        "parameters": {
            "steps": 150,
            "every": 1,
            "weight": 0.05,
            "learning_rate": 0.01,
            "warm_up": 0,
            "batch_size": 64,
            "forget_batch_size": 32,
            "decay": 0.9,
        },
    },
    "judge": {**JUDGE, "each": 20},
}


CAPTIONED = {
    "model": {
        "builder": "tests.cli.known_denoisers:spoken",
        "weights": "told.safetensors",
        "family": "text-to-image",
        "family_arguments": {"tokens": {"words": WORDS, "length": 5}},
    },
    "requests": [
        {
            "name": "the threes",
            "column": "digit",
            "values": ["three"],
            "text": "three",
            "anchor": "eight",
        }
    ],
    "method": RELABEL,
    "judge": JUDGE,
}


def write_captioned(folder: Path) -> dict[str, dict[str, object]]:
    """The digits with a sentence each as a table of the user's own, and how run files name it."""
    table = digits.load()
    grey = digits.tensors(table)["image"].reshape(-1, 1, 8, 8)
    names = [WORDS[1 + label] for label in table["label"][:]]
    own = {
        "id": table["id"][:],
        "split": table["split"][:],
        "label": table["label"][:],
        "digit": names,
        "sentence": [f"a {name}" for name in names],
        "picture": grey.tolist(),
    }
    datasets.Dataset.from_dict(own).to_parquet(str(folder / "captioned.parquet"))
    columns = {"id": "id", "input": "picture", "caption": "sentence"}
    return {
        name: {"source": "captioned.parquet", "split": name, "columns": columns}
        for name in ("train", "test", "validation")
    }


def run_file(folder: Path, kind: Mapping[str, Any], changes: Mapping[str, object]) -> Path:
    """A run file of the digits and the known denoisers, with changes by dotted key (``__`` for a
    dot); None leaves a key out."""
    tables = {n: {"source": "digits", "split": n} for n in ("train", "test", "validation")}
    content = json.loads(json.dumps({**kind, "data": tables, "aggregation": "sum", "out": "out"}))
    for key, value in changes.items():
        *path, last = key.split("__")
        place = content
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if value is None:
            del place[last]
        else:
            place[last] = value
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(content))
    return file
