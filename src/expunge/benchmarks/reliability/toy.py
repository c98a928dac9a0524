"""A toy-sized model that is trained, asked and changed as any other: one run takes a moment."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from expunge.data import digits, own
from expunge.data.samples import Samples
from expunge.deployment import Deployment
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.ledger import Material, Policy, Source
from expunge.ledger.policy import Gate, Strength
from expunge.methods.negation import Negation
from expunge.models.mlp import Mlp
from expunge.recipe import Recipe, Role
from expunge.requests import Named, Request, Rows
from expunge.run import Run

ROWS, HELD_OUT = 240, 120
WIDTHS = (64, 16, 10)
SOURCE = Source.of_function(f"{__name__}:material")

WEIGHTS = Policy(
    gate=Gate(kept=0.8, forgotten=0.5, re_emergence=0.5),
    repairs=(Strength(factors=(0.5, 2.0)),),
    duplicates="ignore",
)
"""A wide gate, so that most requests pass it, some after a repair, and a few do not."""
GUARD_FIRST = WEIGHTS.model_copy(update={"guard_first": True, "batch": 2})
"""Two phases, and two requests in one run."""
OPEN = Policy(gate=Gate(kept=0.0, forgotten=1.0, re_emergence=1.0), duplicates="ignore")
"""No gate: what is looked at is something else."""
METHODS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "negation": {"epochs": 1, "learning_rate": 1e-3},
        "gradient-difference": {"epochs": 1, "learning_rate": 1e-3},
        "gradient-ascent": {"epochs": 1, "learning_rate": 1e-3, "sequential": True},
    }
)
"""A delta, a delta made with retain rows, and new weights."""
PAIR = ("weights", "guard-first")
"""Policies of the models that are worked on beside each other."""
POLICIES = {"weights": WEIGHTS, "guard-first": GUARD_FIRST, "open": OPEN}


@functools.cache
def material() -> Material:
    """A small classifier of digits, and task negation with one pass."""
    (table, train), (held_out_table, held_out) = _rows("train", ROWS), _rows("validation", HELD_OUT)
    recipe = Recipe(_network, Classifier(classes=10), Plain(20, 32), 0)
    return Material(
        recipe.make({Role.TRAIN: train}, Run()).model,
        recipe.family,
        train,
        table,
        held_out,
        held_out_table,
        Negation(epochs=1, learning_rate=1e-3),
        recipe=recipe,
    )


def rehearse() -> None:
    """Answer a request by every method in memory: what is imported and compiled at the first use is
    there for every process that is forked afterwards."""
    made = material()
    for method, fields in METHODS.items():
        deployment = Deployment(
            made.model, made.family, made.train, made.train_table, made.rule(), data=made.data
        )
        request = Request("rehearsal", Rows("id", (made.train.ids[0],)))
        deployment.forget(request, made.method_named(method, fields), made.run())
        assert deployment.model is not None


def _network(seed: int) -> nn.Module:
    return Mlp(torch.Generator().manual_seed(seed), WIDTHS)


def _rows(split: str, count: int) -> tuple[Named, Samples]:
    table = digits.load(split).select(range(count))
    return table, own.samples(table, digits.tensors(table))
