"""Presets for language models: one rule for every method that weighs forget rows against others.

Published rates and numbers of passes belong to models a thousand times as large. Here a step of
Adam moves a weight of typical size by a fixed share of it (:data:`STRIDE`), half of the forget rows
and :data:`RETAIN_ROWS` retain rows are in every step, and the descent ends at the first step at
which the forgotten answers are not given any more while the retain rows still are, as far as they
were at the start (:class:`~expunge.descent.until.Until`). Where no step is like that, the descent
raises an error. What is looked at is what the method reads anyway: no row is held out, and no
second descent made.

A method that reads no retain row ends where the answers are gone, whatever that costs; nothing in
what it sees says how much.

The numbers were found on facts about invented people of whom nothing is reported
(docs/language.md), with a model of :data:`DEPTH` layers of width :data:`WIDTH`. A step of Adam
moves every weight alike, and what it does to an output adds up over the inputs of a layer and over
the layers: in a larger model the share is smaller by width times depth. By about that factor the
rate is smaller that was best in SmolLM2-135M, on countries of which nothing is reported.
"""

import dataclasses
import math
from dataclasses import replace
from typing import Any, TypeVar

from expunge.descent.until import Until
from expunge.families.abilities import HasAnswers
from expunge.methods.presets import typical_weight
from expunge.methods.protocol import Method
from expunge.problem import Problem
from expunge.recipe import Role

M = TypeVar("M", bound=Method)

STRIDE, ALONE, FACTORS = 0.02, 0.006, 0.2
"""Share of a typical weight that a step of Adam moves each weight by: with retain rows in every
step, without, and where it moves low-rank factors in the place of weights."""

WIDTH, DEPTH = 112, 4
"""Of the model that these shares were found with; smaller models have the same."""

STEPS = 60
"""Steps at most."""

RETAIN_ROWS = 64
"""Rows of the retain set a step."""

FORGET_ROWS, HALVES = (4, 64), 2
"""Fewest and most rows of the forget set a step, and steps of a pass over it within these."""

UNTIL = Until(forgotten=0.04, kept=0.97)
"""When it is enough."""

RULE = (
    "language models: half of the forget set and 64 retain rows a step, at a learning rate that is "
    "a fiftieth of a typical weight, less in wide and deep models, until the forgotten answers are "
    "not given any more and the retained are; refused where that does not happen in 60 steps"
)


def speaks(problem: Problem) -> bool:
    """Whether the rule is for the problem's models."""
    return isinstance(problem.family, HasAnswers)


def answering(
    method: M, problem: Problem, stride: float = STRIDE, alone: float = ALONE, **weights: float
) -> M:
    """The method with the fields of the rule.

    Args:
        method: a dataclass with ``learning_rate``, ``epochs``, ``batch_size`` and ``until``.
        problem: as :meth:`~expunge.methods.presets.HasPreset.for_problem` sees it.
        stride: share of a typical weight that a step moves weights by, where retain rows are read.
        alone: the same where none is read.
        weights: further fields, by which the method weighs its terms.
    """
    given: Any = replace(method, **weights)  # type: ignore[type-var]
    guarded = Role.RETAIN in given.unlearns_with.roles
    rows = len(problem.data[Role.FORGET])
    size = min(rows, FORGET_ROWS[1], max(FORGET_ROWS[0], math.ceil(rows / HALVES)))
    fields = {
        "learning_rate": (stride if guarded else alone)
        * typical_weight(problem)
        * smaller(problem),
        "epochs": max(1, STEPS // math.ceil(rows / size)),
        "batch_size": size,
        "retain_batch_size": RETAIN_ROWS,
        "until": UNTIL if guarded else replace(UNTIL, kept=None, every=1),
    }
    own = {field.name for field in dataclasses.fields(given)}
    found: M = replace(given, **{name: value for name, value in fields.items() if name in own})
    return found


def smaller(problem: Problem) -> float:
    """The factor of a rate for the size of a model: 1 up to :data:`WIDTH` times :data:`DEPTH`."""
    anatomy = problem.family.anatomy(problem.model)
    shown = dict(problem.model.named_parameters())
    widths = [shown[name].shape[-1] for name in anatomy.embeddings if name in shown]
    return min(1.0, WIDTH * DEPTH / max(1, len(anatomy.taps) * min(widths, default=1)))
