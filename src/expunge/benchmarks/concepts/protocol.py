"""Whether rows that concepts choose forget a class better than a random half of the same size.

Chang, Zhu, Xu, Liu, Zhou (2024), Class Machine Unlearning for Complex Data via Concepts Inference
and Data Poisoning, choose them so. Here a class is poisoned through the half of its rows that
carries its concepts most, through random halves, and whole; at several learning rates, with one
budget. Two halves are controls: the one that carries the concepts least, and the one of which the
model itself is most confident. If that one does as well, concepts are not what it takes.

The rate that is shown in full is the one that suits the random half on validation rows: nothing is
chosen in favour of concepts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from expunge.audit.case import source_of
from expunge.benchmarks.concepts.work import (
    CONCEPTS,
    DRAWN,
    LEFT,
    SURE,
    Laddering,
    Making,
    Place,
    Reading,
)
from expunge.benchmarks.concepts.worlds import WORLDS, concept_world
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.errors import ExpungeError
from expunge.methods.concept_poisoning import ConceptPoisoning

QUICK = ("digits",)
"""The worlds of the quick form: no set has to be fetched for it."""

COST = 0.01
"""Accuracy on the other classes that concept-chosen rows may cost more than random ones."""

Level = Mapping[str, Sequence[Mapping[str, float]]]
"""Of one seed at one rate: accuracies by row of poison, one for each random half."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        worlds: names of :data:`~expunge.benchmarks.concepts.worlds.WORLDS`.
        seeds: number of seeds, and of oracles.
        processes: jobs that run at once.
    """

    folder: Path
    worlds: tuple[str, ...] = QUICK
    seeds: int = 3
    processes: int = 1

    def __post_init__(self) -> None:
        for name in self.worlds:
            if name not in WORLDS:
                raise ExpungeError(
                    f"There is no world {name!r} here; there are {', '.join(WORLDS)}."
                )
        if self.seeds < 2 or len(set(self.worlds)) < len(self.worlds):
            raise ExpungeError(
                f"{self.seeds} seeds and the worlds {', '.join(self.worlds)} were given; at least "
                "2 seeds and each world once are expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        return {"seeds": self.seeds, "worlds": {n: self._of_world(n, told) for n in self.worlds}}

    def _of_world(self, name: str, told: Told) -> dict[str, Any]:
        its = concept_world(name)
        place, seeds = Place(name, its.world.digest, self.folder), range(self.seeds)
        makings = [Making(place, oracle, seed) for oracle in (False, True) for seed in seeds]
        self._jobs(makings, told)
        source = source_of(ConceptPoisoning)
        ladder = [Laddering(place, rate, seed, source) for rate in its.rates for seed in seeds]
        found = self._jobs(ladder, told)
        levels = {
            f"{rate:g}": [found[job]["rows"] for job in ladder if job.rate == rate]
            for rate in its.rates
        }
        rate = chosen(levels)
        readings = [Reading(place, float(rate), seed, self.seeds, source) for seed in seeds]
        read = self._jobs(readings, told)
        return {
            "about": its.world.about,
            "request": its.world.request("class").name,
            "classes": getattr(its.world.family, "classes", 0),
            "concepts": {concept: int(held.sum()) for concept, held in its.concepts.items()},
            "examples": len(its.world.validation),
            "ladder": levels,
            "rate": rate,
            "verdict": verdict(levels),
            "seeds": [read[job] for job in readings],
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def right(level: Level, row: str, part: str, which: str) -> float:
    """An accuracy of a row of poison in one seed at one rate, its mean over random halves."""
    halves: Sequence[Any] = level[row]
    return fmean(half[part][which] for half in halves)


def chosen(levels: Mapping[str, Sequence[Level]]) -> str:
    """The rate at which the random half leaves most between the other classes and the one that
    goes, on validation rows."""

    def between(rate: str) -> float:
        return fmean(
            right(level, DRAWN, "validation", "others") - right(level, DRAWN, "validation", "class")
            for level in levels[rate]
        )

    return max(levels, key=between)


def verdict(levels: Mapping[str, Sequence[Level]]) -> dict[str, Any]:
    """Whether concept-chosen rows forget better than random ones, over all rates on test rows.

    ``less`` is by how much less of the class a model answers after the concept half than after a
    random one, a mean over rates, by seed; ``cost`` by how much less of the other classes;
    ``other half`` and ``confident half`` the same as ``less`` for the controls, ``beyond
    confidence`` how much less after the concept half than after the confident one. Reproduced: less
    in every seed, at a mean cost of :data:`COST` at most. Contradicted: more in every seed.
    """

    def gain(row: str, which: str, beside: str = DRAWN) -> list[float]:
        seeds = range(len(next(iter(levels.values()))))
        return [
            fmean(
                right(level[seed], beside, "test", which) - right(level[seed], row, "test", which)
                for level in levels.values()
            )
            for seed in seeds
        ]

    less, cost = gain(CONCEPTS, "class"), gain(CONCEPTS, "others")
    said = "not shown"
    if all(value > 0 for value in less):
        said = "reproduced" if fmean(cost) <= COST else "reproduced at a cost"
    elif all(value < 0 for value in less):
        said = "contradicted"
    return {
        "verdict": said,
        "less": less,
        "cost": cost,
        "other half": gain(LEFT, "class"),
        "confident half": gain(SURE, "class"),
        "beyond confidence": gain(CONCEPTS, "class", beside=SURE),
    }
