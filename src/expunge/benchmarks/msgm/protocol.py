"""The protocol: acceptance of judge and bases, strengths by validation, then figures on test rows.

The strength of a form is found on the first seed and taken for all: of those that cost desired
validation rows at most :data:`TOLERANCE` bits a dimension, the one that leaves the smallest share
of undesired pictures. A form that always costs more is reported at the weakest one, and marked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.msgm.work import (
    ANEW,
    FORMS,
    JUDGE_SEED,
    PUBLISHED,
    STRENGTHS,
    Judging,
    Looking,
    Moderating,
    Place,
    Strength,
    Training,
    Trying,
)
from expunge.benchmarks.msgm.worlds import WORLDS, world
from expunge.errors import ExpungeError

TOLERANCE = 0.15
"""Bits a dimension by which desired validation rows may become less likely."""

JUDGE, FALSE_ALARMS, FLOORS = 0.97, 0.05, 3.0
"""Accuracy that the judge has to have on real test rows, false alarms that it may give there, and
how many times the distance of two real halves a base may be away."""

QUICK = ("digits",)
"""Worlds of the default form."""

PAPERS = ("erase", "orthogonal", "perpendicular", "obtuse", "obtuse-released", "bounded")
"""Forms of the default: the paper's, and what this package adds to them."""

EVERY = (*FORMS, ANEW)
"""All forms; the last is trained from untrained weights, at the paper's strength alone."""

_BOTH = ("base", "oracle")


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept.
        worlds: names of :data:`WORLDS`.
        forms: names of :data:`EVERY`.
        seeds: of bases and oracles, from 0.
        processes: jobs that run at once.

    Raises:
        ExpungeError: a world or a form is not known, or given twice.
    """

    folder: Path
    worlds: tuple[str, ...] = QUICK
    forms: tuple[str, ...] = PAPERS
    seeds: int = 3
    processes: int = 2

    def __post_init__(self) -> None:
        for given, known, what in (
            (self.worlds, tuple(WORLDS), "world"),
            (self.forms, EVERY, "form"),
        ):
            if set(given) - set(known) or len(set(given)) < len(given):
                raise ExpungeError(
                    f"As {what}s were given {', '.join(map(repr, given))}; each of "
                    f"{', '.join(map(repr, known))} is expected at most once."
                )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values.

        Raises:
            ExpungeError: judge or bases are not good enough for any figure to mean something.
        """
        found = {name: self._of_world(name, told) for name in self.worlds}
        return {"seeds": self.seeds, "tolerance": TOLERANCE, "worlds": found}

    def _of_world(self, name: str, told: Told) -> dict[str, Any]:
        place, seeds = Place(name, world(name).digest, self.folder), range(self.seeds)
        self._jobs([Training(place, "judge", JUDGE_SEED)], told)
        judged = self._jobs([Judging(place)], told)[Judging(place)]
        trained = self._jobs([Training(place, "base", seed) for seed in seeds], told)
        bases = [Looking(place, Training(place, "base", seed), seed) for seed in seeds]
        looked = self._jobs(bases, told)
        accepted(name, judged, [looked[job] for job in bases])
        trained |= self._jobs([Training(place, "oracle", seed) for seed in seeds], told)
        plain = [Moderating(place, None, PUBLISHED, seed) for seed in seeds]
        first = [Moderating(place, f, how, 0) for f in self.forms for how in strengths(f)]
        made = self._jobs([*plain, *first], told)
        tried = {
            job.what: its
            for job, its in self._jobs([Trying(j) for j in (plain[0], *first)], told).items()
        }
        chosen = {form: strength_of(place, form, tried) for form in self.forms}
        rest = [Moderating(place, f, chosen[f][0], seed) for f in self.forms for seed in seeds]
        made |= self._jobs(rest, told)
        rows = {
            "original": bases,
            "oracle": [Looking(place, Training(place, "oracle", s), s) for s in seeds],
            "destroyed": [Looking(place, None, seed) for seed in seeds],
            "fine-tune": [Looking(place, job, job.seed) for job in plain],
            **{
                form: [Looking(place, job, job.seed) for job in rest if job.form == form]
                for form in self.forms
            },
        }
        looked = self._jobs([job for its in rows.values() for job in its], told)
        return {
            "about": place.room.about,
            "judge": judged,
            "rows": {
                row: [{**looked[job], "seconds": _seconds(job.what, trained, made)} for job in its]
                for row, its in rows.items()
            },
            "strengths": {
                form: {"weight": how.weight, "every": how.every, "kept": kept}
                for form, (how, kept) in chosen.items()
            },
            "validation": [_told(job, tried[job]) for job in [*plain[:1], *first]],
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def accepted(name: str, judged: Result, bases: Sequence[Result]) -> None:
    """Refuse to go on where no figure would mean anything.

    Raises:
        ExpungeError: the judge errs too often on real rows, or a base draws pictures that are far
            from real ones.
    """
    if judged["accuracy"] < JUDGE or judged["false alarms"] > FALSE_ALARMS:
        raise ExpungeError(
            f"The judge of {name!r} is right on {judged['accuracy']:.3f} of the real test rows and "
            f"calls {judged['false alarms']:.3f} of the desired ones undesired; at least {JUDGE} "
            f"and at most {FALSE_ALARMS} are expected before anything is judged by it."
        )
    for seed, base in enumerate(bases):
        ratio = float(base.get("distance", math.nan)) / float(judged["distance"])
        if not ratio <= FLOORS:
            raise ExpungeError(
                f"The base of seed {seed} in {name!r} draws pictures {ratio:.1f} times as far from "
                f"real ones as two real halves are from each other; {FLOORS:g} times at most is "
                "expected before anything is forgotten. Train it longer."
            )


def strengths(form: str) -> tuple[Strength, ...]:
    """What is tried for a form, the weakest first."""
    return (PUBLISHED,) if form == ANEW else STRENGTHS


def strength_of(
    place: Place, form: str, tried: Mapping[Moderating, Result]
) -> tuple[Strength, bool]:
    """The strength that is taken for all seeds, and whether it kept the desired rows."""
    before = tried[Moderating(place, None, PUBLISHED, 0)]["bits"]["g"]
    found = {how: tried[Moderating(place, form, how, 0)] for how in strengths(form)}
    kept = [
        how
        for how, its in found.items()
        if "bits" in its and its["bits"]["g"] <= before + TOLERANCE
    ]
    if not kept:
        return PUBLISHED, False
    return min(kept, key=lambda how: (found[how]["ratio"], -found[how]["bits"]["u"])), True


def _told(job: Moderating, its: Result) -> dict[str, Any]:
    how = {"weight": job.strength.weight, "every": job.strength.every}
    return {"form": job.form or "fine-tune", **(how if job.form else {}), **its}


def _seconds(
    what: Training | Moderating | None,
    trained: Mapping[Training, Result],
    made: Mapping[Moderating, Result],
) -> float | None:
    if what is None:
        return None
    found = (trained[what] if isinstance(what, Training) else made[what]).get("seconds")
    return None if found is None else float(found)
