"""What is chosen, retrained and answered, and what is gathered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from expunge.benchmarks.classification.rows import Figures, gap
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.worst_case.work import (
    ANSWERED,
    BUDGET,
    EASIEST,
    METHODS,
    NOISE,
    RANDOM,
    SEARCHES,
    SETS,
    TRAININGS,
    WORST,
    Answering,
    Choosing,
    Classes,
    Place,
    Retraining,
    Training,
)
from expunge.errors import ExpungeError

AVERAGED = ("UA", "RA", "TA", "LR-MIA")
"""The figures whose mean distance to the retrained model is the gap."""

ACCURACIES = AVERAGED[:3]
"""Without the attack, which on rows that all look alike says all or nothing."""

QUICK, FULL = ("trained long",), tuple(TRAININGS)

MOST_WORST, LEAST_RANDOM, MOST_NOISE, LEAST_EASIEST = 0.01, 0.05, 0.01, 0.5
"""What is expected: UA of the retrained model on the worst case, on random rows and on the easiest
ones, and the share of wrong labels in the worst case."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        trainings: names of :data:`~expunge.benchmarks.worst_case.work.TRAININGS`.
        seeds: number of seeds, from 0.
        processes: jobs that run at once.
    """

    folder: Path
    trainings: tuple[str, ...] = QUICK
    seeds: int = 3
    processes: int = 2

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.processes < 1:
            raise ExpungeError(
                f"{self.seeds} seeds and {self.processes} processes were given; at least one of "
                "each is expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        places = {
            training: [Place(training, seed, self.folder) for seed in range(self.seeds)]
            for training in self.trainings
        }
        every = [place for each in places.values() for place in each]
        bases = self._jobs([Training(place) for place in every], told)
        choosings = [Choosing(place, name) for place in every for name in SETS]
        sets = self._jobs(choosings, told)
        classes = self._jobs([Classes(place) for place in every], told)
        found = _Found(bases, sets, classes, {}, {})
        retrained = self._jobs([found.retraining(job) for job in choosings], told)
        answers = self._jobs(
            [
                Answering(job.place, found.rows(job), method)
                for job in choosings
                if job.name in ANSWERED
                for method in METHODS
            ],
            told,
        )
        found = _Found(bases, sets, classes, retrained, answers)
        return {
            "seeds": self.seeds,
            "wrong labels": NOISE,
            "budget": BUDGET,
            "searches": {name: repr(search) for name, search in SEARCHES.items()},
            "trainings": {name: found.of(each) for name, each in places.items()},
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


@dataclass(frozen=True)
class _Found:
    """The results of all jobs."""

    bases: Mapping[Training, Result]
    sets: Mapping[Choosing, Result]
    classes: Mapping[Classes, Result]
    retrained: Mapping[Retraining, Result]
    answers: Mapping[Answering, Result]

    def rows(self, job: Choosing) -> tuple[int, ...]:
        """The rows of a set."""
        return tuple(self.sets[job]["rows"])

    def retraining(self, job: Choosing) -> Retraining:
        """The retraining without a set."""
        return Retraining(job.place, self.rows(job))

    def of(self, places: Sequence[Place]) -> dict[str, Any]:
        """What was found with one training: every list holds a value a seed."""
        sets = {name: self._set([Choosing(p, name) for p in places]) for name in SETS}
        return {
            "bases": [self.bases[Training(place)] for place in places],
            "rows": len(sets[RANDOM]["rows"][0]),
            "sets": sets,
            "gaps": {name: self._gaps([Choosing(p, name) for p in places]) for name in ANSWERED},
            "classes": [self.classes[Classes(place)] for place in places],
            "checks": checks(sets),
        }

    def _set(self, jobs: Sequence[Choosing]) -> dict[str, Any]:
        found = {name: [self.sets[job][name] for job in jobs] for name in self.sets[jobs[0]]}
        found.pop("warnings", None)
        models = [self.retrained[self.retraining(job)] for job in jobs]
        for model in ("original", "retrained"):
            found[f"UA of the {model}"] = [one[model]["UA"] for one in models]
        return found

    def _gaps(self, jobs: Sequence[Choosing]) -> dict[str, Any]:
        """Figures, and gaps to the model retrained with the seed of the base, by model."""
        models = [self.retrained[self.retraining(job)] for job in jobs]
        references: list[Figures] = [one["retrained"] for one in models]
        found: dict[str, Sequence[Figures | None]] = {
            "original": [one["original"] for one in models],
            "retrained": references,
            "retrained with another seed": [one["another"] for one in models],
        }
        for method in METHODS:
            answering = [Answering(job.place, self.rows(job), method) for job in jobs]
            found[method] = [self.answers[job].get("figures") for job in answering]
        return {
            name: {
                "figures": figures,
                "gap": _gaps(figures, references, AVERAGED),
                "gap without the attack": _gaps(figures, references, ACCURACIES),
            }
            for name, figures in found.items()
        }


def _gaps(
    figures: Sequence[Figures | None], references: Sequence[Figures], names: Sequence[str]
) -> list[float | None]:
    """By seed; None where a method failed."""
    return [
        None if own is None else gap(own, [reference], names)
        for own, reference in zip(figures, references, strict=True)
    ]


def checks(sets: Mapping[str, Any]) -> dict[str, bool]:
    """What is expected, and whether it was so in every seed.

    Random rows are judged by the mean: of a hundred of them, a few more or fewer have a wrong label
    by chance.
    """
    worst, random, easiest = (
        sets[name]["UA of the retrained"] for name in (WORST, RANDOM, EASIEST)
    )
    return {
        "the retrained model's UA on the worst case is below 1 %": max(worst) < MOST_WORST,
        "it is above 5 % on random rows, on average over seeds": fmean(random) > LEAST_RANDOM,
        "below 1 % of the worst case have a wrong label": (
            max(sets[WORST]["wrong labels"]) < MOST_NOISE
        ),
        "the retrained model's UA on the easiest rows is above 50 %": min(easiest) > LEAST_EASIEST,
        "the objective ends below its start": all(
            end < start for start, end in zip(sets[WORST]["start"], sets[WORST]["end"], strict=True)
        ),
    }
