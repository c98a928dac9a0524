"""The protocol: judges and bases that are good enough, strengths by other answers, then figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarks.canvas.work import (
    FORMS,
    JUDGE_SEED,
    Accepting,
    Forgetting,
    InTurn,
    Judging,
    Looking,
    Place,
    Training,
)
from expunge.benchmarks.canvas.worlds import DOMAINS, WORLDS, Target, world
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.errors import ExpungeError

JUDGE, BASE, FLOORS = 0.98, 0.9, 3.0
"""Accuracy that the judges need on real test rows, and the base's pictures by them; how many times
the distance of two real halves the base may be away."""

KEPT = 0.8
"""Mean of the two retain accuracies that a strength has to leave."""

OBJECT, STYLE = ("object", "fish", "tree"), ("style", "outline", "noto")
"""Targets by default, with their anchors."""

REFERENCES = ("original", "oracle", "real", "destroyed")


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept.
        world: name of a canvas.
        targets: what is forgotten, each for itself.
        forms: names of :data:`FORMS`.
        seeds: of bases, from 0.
        count: pictures of every cell.
        oracles: train a model without each target, which takes as long as the base.
        in_turn: answer all targets one after another as well.
        relearn: look whether a few steps bring a target back.
        processes: jobs that run at once.

    Raises:
        ExpungeError: a canvas, form, target or anchor is not known.
    """

    folder: Path
    world: str = "small"
    targets: tuple[Target, ...] = (Target(*OBJECT), Target(*STYLE))  # type: ignore[arg-type]
    forms: tuple[str, ...] = tuple(FORMS)
    seeds: int = 1
    count: int = 4
    oracles: bool = False
    in_turn: bool = False
    relearn: bool = False
    processes: int = 2

    def __post_init__(self) -> None:
        if self.world not in WORLDS:
            raise ExpungeError(
                f"The canvas {self.world!r} was asked for; there are {', '.join(WORLDS)}."
            )
        unknown = [form for form in self.forms if form not in FORMS]
        if unknown or len(set(self.forms)) < len(self.forms):
            raise ExpungeError(
                f"The forms {', '.join(self.forms)} were given; each of {', '.join(FORMS)} is "
                "expected at most once."
            )
        if not self.targets:
            raise ExpungeError("No target was given; name at least one object or style.")
        for target in self.targets:
            world(self.world).target(target.domain, target.word, target.anchor)

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values.

        Raises:
            ExpungeError: judges, bases or what a base draws of a target are not good enough for any
                figure to mean something.
        """
        place, seeds = self.place, range(self.seeds)
        self._jobs([Training(place, domain, JUDGE_SEED) for domain in DOMAINS], told)
        [judged] = self._jobs([Judging(place, self.count)], told).values()
        sound_judges(judged)
        trained = self._jobs([Training(place, "base", seed) for seed in seeds], told)
        bases = self._jobs([Accepting(place, seed, self.count) for seed in seeds], told)
        for job, found in bases.items():
            sound_base(self.world, job.seed, found, judged, self.targets)
        tried = self._jobs(
            [
                Forgetting(place, form, strength, target, seed)
                for target in self.targets
                for form in self.forms
                for strength in range(len(FORMS[form]))
                for seed in seeds
            ],
            told,
        )
        oracles = [Training(place, "base", s, t) for t in self.targets for s in seeds]
        trained |= self._jobs(oracles if self.oracles else [], told)
        rows = self._looked(tried, told)
        result: dict[str, Any] = {
            "world": self.world,
            "cells": len(place.room.canvas.cells),
            "seeds": self.seeds,
            "count": self.count,
            "judges": judged,
            "bases": list(bases.values()),
            "seconds": {job.title: found["seconds"] for job, found in trained.items()},
            "targets": rows,
        }
        if self.in_turn:
            result["in turn"] = self._in_turn(tried, told)
        return result

    @property
    def place(self) -> Place:
        """Where every job stands."""
        return Place(self.world, world(self.world).digest, self.folder)

    def _looked(self, tried: Mapping[Forgetting, Result], told: Told) -> dict[str, Any]:
        place = self.place
        jobs: dict[tuple[Target, str, int], Looking] = {}
        found: dict[str, Any] = {}
        for target in self.targets:
            for seed in range(self.seeds):
                whats: dict[str, Any] = {
                    "original": Training(place, "base", seed),
                    "oracle": Training(place, "base", seed, target),
                    "real": "real",
                    "destroyed": "destroyed",
                } | {form: self.chosen(form, target, seed, tried)[0] for form in self.forms}
                if not self.oracles:
                    del whats["oracle"]
                for row, what in whats.items():
                    again = self.relearn and row not in ("original", "real", "destroyed")
                    jobs[target, row, seed] = Looking(place, what, target, seed, self.count, again)
        looked = self._jobs(list(jobs.values()), told)
        for (target, row, seed), job in jobs.items():
            told_of = dict(looked[job])
            if row in self.forms:
                taken, kept = self.chosen(row, target, seed, tried)
                cost = {n: tried[taken][n] for n in ("seconds", "gigabytes", "stored megabytes")}
                told_of |= {**cost, "strength": taken.strength, "kept": kept}
            its = found.setdefault(
                target.word, {"domain": target.domain, "anchor": target.anchor, "rows": {}}
            )
            its["rows"].setdefault(row, []).append(told_of)
        return found

    def chosen(
        self, form: str, target: Target, seed: int, tried: Mapping[Forgetting, Result]
    ) -> tuple[Forgetting, bool]:
        """The strength that unlearns most among those that keep the rest, and whether one does; the
        weakest where none does."""
        jobs = [Forgetting(self.place, form, k, target, seed) for k in range(len(FORMS[form]))]

        def retained(job: Forgetting) -> float:
            found = tried[job]
            return (float(found["in_domain"]) + float(found["cross_domain"])) / 2

        kept = [job for job in jobs if retained(job) >= KEPT]
        if not kept:
            return jobs[0], False
        return max(kept, key=lambda job: (tried[job]["unlearning"], retained(job))), True

    def _in_turn(self, tried: Mapping[Forgetting, Result], told: Told) -> dict[str, Any]:
        """Of every form whose vectors can be added, at the strength of the first target."""
        jobs = [
            InTurn(
                self.place,
                form,
                self.chosen(form, self.targets[0], 0, tried)[0].strength,
                self.targets,
                0,
                self.count,
            )
            for form in self.forms
            if not form.startswith("sld")
        ]
        return {job.form: found for job, found in self._jobs(jobs, told).items()}

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        if not jobs:
            return {}
        return by_job(jobs, self.folder / "results", self.processes, told)


def sound_judges(judged: Result) -> None:
    """Refuse judges that err on real rows.

    Raises:
        ExpungeError: they do.
    """
    for domain, right in judged["real"].items():
        if right < JUDGE:
            raise ExpungeError(
                f"The judge of the {domain}s is right on {right:.3f} of the real test rows; "
                f"{JUDGE} at least is expected before anything is judged by it."
            )


def sound_base(
    name: str, seed: int, found: Result, judged: Result, targets: Sequence[Target]
) -> None:
    """Refuse a base that does not draw what it is told.

    Raises:
        ExpungeError: its pictures are not what was asked for, or far from real ones; or it cannot
            draw a target, so that nothing could be unlearned of it.
    """
    ratio = float(found["distance"]) / float(judged["distance"])
    right = ", ".join(f"{d} {found[d]:.3f}" for d in DOMAINS)
    if min(found[d] for d in DOMAINS) < BASE or not ratio <= FLOORS:
        raise ExpungeError(
            f"The base of seed {seed} on the canvas {name!r} draws what it is told in these shares "
            f"of its pictures: {right}; they are {ratio:.1f} times as far from real ones as two "
            f"real halves from each other. At least {BASE} and at most {FLOORS:g} times are "
            "expected before anything is forgotten; train it longer."
        )
    for target in targets:
        place = world(name).words(target.domain).index(target.word)
        share = found["words"][target.domain][place]
        if share < BASE:
            raise ExpungeError(
                f"The base draws the {target.domain} {target.word!r} in {share:.2f} of the "
                f"pictures that it is asked for, by the judge; {BASE} at least is expected of what "
                "is to be forgotten. Name another target, or train the base longer."
            )
