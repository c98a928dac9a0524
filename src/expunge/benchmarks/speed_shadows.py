"""Speed of training many models: stacked, in processes, one by one, and which is chosen.

Every engine trains the same members on halves of the digits; what they answer is compared first.
The seconds are those of the wall clock, since processes are one of the engines. Two models are
trained beforehand, so that what torch loads at its first step counts for none.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.data.samples import Samples
from expunge.descent.optimisers import SGD
from expunge.families.classifier import Classifier
from expunge.learning.population import Engine, Member, Population, halves, members
from expunge.learning.supervised.plain import Plain
from expunge.models.mlp import small_digits_classifier
from expunge.recipe import Recipe, Role
from expunge.run import Run
from expunge.signals.ask import predict

ENGINES: Sequence[Engine] = ("one by one", "processes", "stacked")
FLOOR = 8.0
"""Times faster that 64 stacked fully connected networks are to be at batches of 32."""


def cnn(seed: int) -> nn.Module:
    """Two convolutions and a linear layer for 8 x 8 pixels."""
    with Run(seed).seeded("cnn"):
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 10),
        )


@dataclass(frozen=True)
class Setting:
    """One population to be trained."""

    name: str
    build: Callable[[int], nn.Module]
    models: int
    batch_size: int


SETTINGS = (
    Setting("fully connected 64-64-10", small_digits_classifier, 64, 32),
    Setting("fully connected 64-64-10", small_digits_classifier, 64, 128),
    Setting("two convolutions", cnn, 16, 32),
    Setting("two convolutions", cnn, 16, 128),
)


def run(full: bool, told: Callable[[str], None]) -> dict[str, Any]:
    """Train each population with every engine.

    Args:
        full: 20 passes and the best of three trainings, otherwise 4 passes and one.
        told: is told what is done.

    Returns:
        JSON values: seconds of each engine, what was chosen, and the largest difference of answers.
    """
    epochs, repeats = (20, 3) if full else (4, 1)
    samples = digits_classifier_work().data[Role.TRAIN]
    rows = []
    for setting in SETTINGS:
        told(f"{setting.models} models, {setting.name}, batches of {setting.batch_size}")
        rows.append(_measured(setting, samples, epochs, repeats))
    return {
        "threads": torch.get_num_threads(),
        "processes": os.cpu_count() or 1,
        "epochs": epochs,
        "repeats": repeats,
        "floor": FLOOR,
        "populations": rows,
    }


def _measured(setting: Setting, samples: Samples, epochs: int, repeats: int) -> dict[str, Any]:
    learner = Plain(epochs, setting.batch_size, SGD(0.1, 0.9, 1e-4))
    recipe = Recipe(setting.build, Classifier(classes=10), learner)
    those = Population(recipe, samples, Run(0))
    wanted = members(halves(setting.models, len(samples), seed=0))
    for engine in ("one by one", "stacked"):
        list(those.trained(wanted[:2], engine))
    seconds: dict[str, float] = {}
    answers: dict[str, Tensor] = {}
    for engine in ENGINES:
        for _ in range(repeats):
            start = time.perf_counter()
            made = list(those.trained(wanted, engine))
            took = time.perf_counter() - start
            seconds[engine] = min(took, seconds.get(engine, took))
        answers[engine] = _answers(recipe, samples, made)
    alone = answers["one by one"]
    timing = those.timed(wanted)
    return {
        "name": setting.name,
        "models": setting.models,
        "batch size": setting.batch_size,
        "seconds": seconds,
        "gain": {name: seconds["one by one"] / took for name, took in seconds.items()},
        "largest difference": {
            name: float((found - alone).abs().max()) for name, found in answers.items()
        },
        "chosen": timing.engine,
        "estimated": dict(timing.seconds),
    }


def _answers(recipe: Recipe, samples: Samples, made: Sequence[tuple[Member, nn.Module]]) -> Tensor:
    """Probabilities (models, rows, classes), the models in the order of their seeds."""
    in_order = sorted(made, key=lambda each: each[0].seed)
    found = [predict(recipe.family, model, samples, Run()) for _, model in in_order]
    return torch.cat([each.probabilities() for each in found])


Table = tuple[str, Sequence[str], list[Sequence[object]], str]


def table(result: dict[str, Any]) -> Table:
    """Title, columns, rows and the sentence below."""
    columns = ["", "batch", *ENGINES, "chosen", "largest difference"]
    rows: list[Sequence[object]] = [
        [
            f"{row['models']} x {row['name']}",
            row["batch size"],
            *(f"{row['seconds'][e]:.2f} s, {row['gain'][e]:.1f} x" for e in ENGINES),
            row["chosen"],
            f"{max(row['largest difference'].values()):.1e}",
        ]
        for row in result["populations"]
    ]
    below = (
        f"{result['epochs']} passes over halves of the digits, {result['threads']} threads, "
        f"{result['processes']} processes (their start counts). Times faster than one by one; "
        f"64 fully connected networks at batches of 32 are to be at least {FLOOR:.0f} x stacked. "
        "chosen: by a short trial. largest difference: of any probability, between engines."
    )
    return "Training many models", columns, rows, below
