"""The methods as they enter: their fields, what is tuned of them, and what they prepare with.

The first seven are those of Goel, Prabhu, Torr, Kumaraguru, Sanyal (2024), Corrective Machine
Unlearning, in its settings as far as the methods have them: their last iterate instead of the best,
SCRUB at a constant rate, SSD over the ranges of its own paper. Theirs are for 50,000 rows; here a
batch has as many rows as one of the training. Every other registered method enters with its own
fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Self

from expunge import registry
from expunge.audit.case import source_of
from expunge.benchmarks.generative_methods import GENERATIVE_METHODS
from expunge.benchmarks.language_methods import LANGUAGE_METHODS
from expunge.benchmarks.number_methods import NUMBER_METHODS
from expunge.errors import ExpungeError
from expunge.methods.presets import AtPreset, HasPreset
from expunge.methods.protocol import Method
from expunge.methods.search import Range, Space, WholeNumber, space_of

BATCH = 64
"""Rows of a batch, as in the training of both worlds."""

RETRAIN, SSD, SSD_FIXED, BAD_T = "retrain", "ssd", "ssd, alpha 5", "bad-teacher"
"""Names that the expected direction speaks of."""


@dataclass(frozen=True)
class Form:
    """One row of the tables.

    Args:
        name: of the row.
        registered: the method's name.
        fields: values that differ from its defaults.
        ranges: ranges of further fields, or other ones of those it declares.
        follows: fields that take the value of another one in every trial.
        tuned: whether anything is varied.
        prepared_once: whether one preparation serves all trials, since nothing of it is varied.
        spared: how many of the model's blocks never train; None for methods that count no blocks.
        retain_only: whether the importance of weights on the training set is taken on what is not
            identified, as this benchmark's paper does; the methods' own papers take all rows.
        at_preset: whether the method finds its fields for each request itself, as where a user
            gives none.
    """

    name: str
    registered: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    follows: Mapping[str, str] = field(default_factory=dict)
    tuned: bool = True
    prepared_once: bool = False
    spared: int | None = None
    retain_only: bool = False
    at_preset: bool = False

    def on(self, blocks: int, epochs: int) -> Self:
        """The form for a model of so many blocks, within so many epochs.

        How many of the last blocks train is varied, where a method counts blocks.
        """
        if self.at_preset:
            return self
        fields, ranges = dict(self.fields), dict(self.ranges)
        if self.spared is not None:
            most = blocks - self.spared
            fields["k"] = min(2, most)
            if most > 1:
                ranges["k"] = WholeNumber(1, most)
        declared = space_of(registry.load("methods", self.registered)).ranges.get("epochs")
        if isinstance(declared, WholeNumber) and declared.high > epochs:
            made: Any = self.made({})
            fields["epochs"] = min(made.epochs, epochs)
            ranges["epochs"] = WholeNumber(declared.low, epochs)
        return replace(self, fields=fields, ranges=ranges)

    def made(self, parameters: Mapping[str, Any]) -> Method:
        """The method with parameters of a trial."""
        values = {**self.fields, **parameters}
        values |= {name: values[leader] for name, leader in self.follows.items()}
        method: Method = registry.load("methods", self.registered)(**values)
        return AtPreset.of(method) if self.at_preset else method

    def space(self) -> Space:
        """What is varied; the first trial has this form's own fields."""
        if not self.tuned:
            return Space({}, {}, True)
        found = space_of(registry.load("methods", self.registered))
        ranges = {**found.ranges, **self.ranges}
        method: Any = self.made({})
        return Space(ranges, {name: getattr(method, name) for name in ranges}, found.declared)

    def facts(self) -> dict[str, object]:
        """What a result depends on: fields, ranges, and the method's code."""
        return {
            "method": self.registered,
            "source": source_of(registry.load("methods", self.registered)),
            "made": repr(self.made({})),
            "space": repr(self.space()),
            "follows": dict(self.follows),
            "retain only": self.retain_only,
        }


OF_THE_PAPER = (
    Form(RETRAIN, "retrain"),
    Form("eu-k", "eu-k", {"batch_size": BATCH}, spared=1),
    Form("cf-k", "cf-k", {"batch_size": BATCH}, spared=0),
    Form(
        "scrub",
        "scrub",
        {
            "alpha": 1.0,
            "epochs": 10,
            "forget_epochs": 5,
            "forget_loss": 1.0,
            "retain_first": False,
            "learning_rate": 0.0025,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "batch_size": BATCH,
        },
        follows={"forget_divergence": "alpha"},
    ),
    Form(BAD_T, "bad-teacher", {"batch_size": BATCH}),
    Form(SSD, "ssd", prepared_once=True, retain_only=True),
    Form(SSD_FIXED, "ssd", {"alpha": 5.0}, tuned=False, prepared_once=True, retain_only=True),
)
"""Exact unlearning of all blocks is retraining, so ``eu-k`` spares one. The last row is the setting
that the expected direction was measured with."""

LEFT_OUT = (
    "concept-poisoning",
    "concept-poisoning-target",
    "dmm",
    "guardrail",
    "prune-then-unlearn",
    "redact",
    *LANGUAGE_METHODS,
    *NUMBER_METHODS,
    *GENERATIVE_METHODS,
)
"""The first two need examples of concepts and forget whole classes; the third trains a thousand
models for every base; guardrail and redact leave the weights as they
are, and what is wrong in them cannot be corrected by refusing, or by what is served beside them;
these models are not pruned.
Those for language models are measured on language models, those for numbers on numbers;
those for models that draw need the noise of one."""

PRESET = ", preset"
"""What the names of forms at their preset end with."""

DAMPENING = ("lfssd",)
"""Other registered methods whose one preparation serves all trials: strengths alone are varied."""


@cache
def forms() -> Mapping[str, Form]:
    """All forms by name: those of the paper, every other registered method, and the presets."""
    found = {form.name: form for form in OF_THE_PAPER}
    there = {form.registered for form in OF_THE_PAPER}
    others = [name for name in registry.names("methods") if name not in {*there, *LEFT_OUT}]
    found |= {name: Form(name, name, prepared_once=name in DAMPENING) for name in others}
    found["ssd, all rows"] = Form("ssd, all rows", "ssd", prepared_once=True)
    return found | {
        f"{name}{PRESET}": Form(f"{name}{PRESET}", name, tuned=False, at_preset=True)
        for name in (*sorted(there), *others)
        if issubclass(registry.load("methods", name), HasPreset)
    }


def form(name: str) -> Form:
    """The form of a name.

    Raises:
        ExpungeError: there is none.
    """
    if name not in forms():
        raise ExpungeError(f"There is no method {name!r} here; there are {', '.join(forms())}.")
    return forms()[name]
