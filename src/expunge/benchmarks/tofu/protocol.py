"""The protocol of mini-TOFU: a gate, learning rates chosen on other authors, and curves.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs.
The original is taught everything; oracles of two seeds are taught everything but a request.
Forgetting can be measured only where the test tells the original from the oracles and not the
oracles from each other: the gate. A learning rate of a method is chosen by how near its end comes
to the oracles of a request for OTHER authors, never on those it is then reported on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge import registry
from expunge.audit.case import source_of
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.tofu.work import ORACLES as ORACLE_SEEDS
from expunge.benchmarks.tofu.work import (
    Answering,
    Asking,
    Place,
    References,
    Training,
    at_part,
    distance,
    fitting,
)
from expunge.benchmarks.tofu.world import ASKED, TUNING, World
from expunge.errors import ExpungeError
from expunge.signals.forget_quality import ALIKE

APART = 1e-3
"""The p-value below which original and oracles have to be told apart."""

LADDER = (1e-4, 3e-4, 1e-3)
"""Learning rates that are tried; those of the papers are for models a thousand times as large."""

QUICK_RATES: Mapping[str, float] = {
    "gradient-ascent": 1e-4,
    "gradient-difference": 1e-4,
    "npo": 1e-4,
    "npo-rt": 1e-4,
    "simnpo": 1e-3,
    "idk": 3e-4,
}
"""The methods of the quick form, with the rates that ``expunge bench tofu --tune`` chose on other
authors (docs/language.md)."""

LEFT_OUT = {
    "dmm": "it trains a thousand models (`expunge bench dmm`)",
    "smoothed": "it is put around another method",
}
"""Registered methods that are not compared, and why."""


@dataclass(frozen=True)
class Form:
    """How large the benchmark is.

    Args:
        world: authors and training.
        shares: of the authors, one request each.
        epochs: passes of a method over the forget set.
        looks: points of a curve.
    """

    world: World
    shares: tuple[float, ...]
    epochs: int = 10
    looks: int = 10


QUICK = Form(World(count=60, epochs=24, facts=12, kept=40), (0.2,), looks=5)
FULL = Form(World(), (0.05, 0.1, 0.5))


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        form: how large it is.
        rates: learning rate by method, for methods of which none is to be chosen.
        methods: registered names to choose rates for; empty: every one that fits, unless rates are
            given.
        ladder: rates among which is chosen.
        processes: jobs that run at once.
    """

    folder: Path
    form: Form = QUICK
    rates: Mapping[str, float] = field(default_factory=lambda: dict(QUICK_RATES))
    methods: tuple[str, ...] = ()
    ladder: tuple[float, ...] = LADDER
    processes: int = 2

    def __post_init__(self) -> None:
        for name in (*self.rates, *self.methods):
            registry.load("methods", name)
        if len({*self.rates, *self.methods}) < len(self.rates) + len(self.methods):
            raise ExpungeError(
                f"{', '.join((*self.rates, *self.methods))} was given; each method is expected "
                "once, with a learning rate or without."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        place = Place(self.form.world, self.folder)
        asked = [Asking(place, share, ASKED) for share in self.form.shares]
        fits = fitting(asked[0].problem(place.world.recipe.builder(0)))
        chosen_among = self._to_tune(fits)
        tuning = [at_part(asking, TUNING) for asking in asked if chosen_among]
        trained = self._jobs(
            [Training(place, None, 0)]
            + [Training(place, each, s) for each in (*asked, *tuning) for s in ORACLE_SEEDS],
            told,
        )
        references = self._jobs([References(each) for each in (*asked, *tuning)], told)
        tuned = self._tuned(tuning, chosen_among, references, told)
        answers = self._jobs(
            [
                self._answering(asking, name, rate)
                for asking in asked
                for name, rate in {**self.rates, **tuned[asking.share]["rates"]}.items()
            ],
            told,
        )
        return {
            "authors": place.world.count,
            "words": len(place.world.words),
            "rows": len(place.world.samples),
            "epochs": self.form.epochs,
            "training seconds": {job.title: r["seconds"] for job, r in trained.items()},
            "left out": {**{name: why for name, why in fits.items() if why}, **LEFT_OUT},
            "requests": {
                f"{100 * asking.share:g} %": {
                    **references[References(asking)],
                    "measurable": measurable(references[References(asking)]),
                    "tuning": tuned[asking.share],
                    "methods": {
                        job.method: {"rate": job.rate, **result}
                        for job, result in answers.items()
                        if job.asking == asking
                    },
                }
                for asking in asked
            },
        }

    def _to_tune(self, fits: Mapping[str, str]) -> tuple[str, ...]:
        if self.methods or self.rates:
            return self.methods
        return tuple(name for name, why in fits.items() if not why and name not in LEFT_OUT)

    def _tuned(
        self,
        tuning: Sequence[Asking],
        methods: Sequence[str],
        references: Mapping[References, Result],
        told: Told,
    ) -> dict[float, Any]:
        """By share: the rates that come nearest to the oracles, and what each gave."""
        jobs = [
            self._answering(asking, name, rate, looks=1)
            for asking in tuning
            for name in methods
            for rate in self.ladder
        ]
        found = self._jobs(jobs, told)
        result: dict[float, Any] = {s: {"rates": {}, "tried": {}} for s in self.form.shares}
        for job in jobs:
            oracles = references[References(job.asking)]["oracles"]
            final = found[job].get("final")
            apart = math.inf if final is None else distance(final, oracles)
            tried = result[job.asking.share]["tried"].setdefault(job.method, {})
            tried[f"{job.rate:g}"] = None if math.isinf(apart) else apart
        for its in result.values():
            for name, tried in its["tried"].items():
                sound = {rate: apart for rate, apart in tried.items() if apart is not None}
                if sound:
                    its["rates"][name] = float(min(sound, key=lambda rate: sound[rate]))
        return result

    def _answering(
        self, asking: Asking, name: str, rate: float, looks: int | None = None
    ) -> Answering:
        source = source_of(registry.load("methods", name))
        epochs = self.form.epochs
        return Answering(asking, name, source, rate, epochs, looks or self.form.looks)

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def measurable(reference: Mapping[str, Any]) -> bool:
    """Whether forgetting can be measured: the gate of the benchmark."""
    gate = reference["gate"]
    alike = gate["oracle against oracle (log10 p)"] > math.log10(ALIKE)
    return bool(alike and gate["original against oracle (log10 p)"] < math.log10(APART))
