"""Does the gap to retraining shrink with sparsity? Prune, unlearn, and hold it against oracles.

Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023). Model Sparsity Can Simplify Machine Unlearning.
A model is pruned at several sparsities; each method answers on each, its strength set on validation
rows once for every method, sparsity and request among equally many. The gap is the mean distance of
UA, RA, TA and the paper's MIA (support vectors on confidence) on test rows to the mean of the
oracles: to the sparse oracles, which were retrained under the same masks without the rows (the
paper's reference), and to the dense ones.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from expunge.audit.case import source_of
from expunge.benchmarks.classification.rows import Figures, gap
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.sparsity.verdict import verdict
from expunge.benchmarks.sparsity.work import (
    ACCURACIES,
    AVERAGED,
    DENSE,
    KINDS,
    ON_DENSE_ALONE,
    PRUNERS,
    ROOMS,
    SUBJECTS,
    Answering,
    Asking,
    Place,
    Reading,
    Training,
    Tuning,
    room,
)
from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Form:
    """A world, and what is compared in it unless another choice is made."""

    world: str
    pruners: tuple[str, ...]
    methods: tuple[str, ...]


QUICK = Form(
    "digits",
    (DENSE, "one-shot 80 %", "one-shot 95 %", "iterative 96 %", "SynFlow 95 %"),
    tuple(SUBJECTS),
)

FULL = Form(
    "clothes-10k",
    tuple(PRUNERS),
    tuple(name for name in SUBJECTS if name != "fisher-forgetting"),
)
"""Without Fisher forgetting, which takes a gradient for every row and class."""


def check_known(given: Sequence[str], known: Collection[str], what: str) -> None:
    """Refuse a name that is not known, and one that is given twice.

    Raises:
        ExpungeError: there is one.
    """
    for name in given:
        if name not in known:
            raise ExpungeError(f"{name!r} is no {what} here; there are {', '.join(known)}.")
        if given.count(name) > 1:
            raise ExpungeError(
                f"The {what} {name!r} was given {given.count(name)} times; give it once."
            )


@dataclass(frozen=True)
class Models:
    """What is pruned.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        world: a name of :data:`ROOMS`.
        pruners: names of :data:`PRUNERS`, the dense model among them.
        seeds: number of seeds, and of oracles.
        processes: jobs that run at once.
    """

    folder: Path
    world: str = QUICK.world
    pruners: tuple[str, ...] = QUICK.pruners
    seeds: int = 3
    processes: int = 2

    def __post_init__(self) -> None:
        check_known((self.world,), ROOMS, "world")
        check_known(self.pruners, PRUNERS, "pruner")
        if DENSE not in self.pruners or self.seeds < 2:
            raise ExpungeError(
                f"The pruners {', '.join(self.pruners)} and {self.seeds} seeds were given; the "
                f"dense model among them and at least 2 seeds are expected."
            )

    def asked(self) -> list[Asking]:
        """Both requests on every pruned model."""
        digest, seeds = room(self.world).digest, tuple(range(self.seeds))
        places = [Place(self.world, digest, self.folder, name) for name in self.pruners]
        return [Asking(place, kind, seeds) for place in places for kind in KINDS]

    def trained(self, told: Told) -> dict[Training, Result]:
        """Train all models, and retrain their oracles; the results of the first."""
        asked = self.asked()
        bases = [Training(a.place, None, seed) for a in asked for seed in a.seeds]
        found = self.jobs(bases, told)
        self.jobs([Training(a.place, a.kind, seed) for a in asked for seed in a.seeds], told)
        return found

    def jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        """Do them beside each other; what is stored is read."""
        return by_job(jobs, self.folder / "results", self.processes, told)


@dataclass(frozen=True)
class Protocol(Models):
    """What is compared, each method at the best of its strengths.

    Args:
        folder: see :class:`Models`.
        world: see :class:`Models`.
        pruners: see :class:`Models`.
        seeds: see :class:`Models`.
        processes: see :class:`Models`.
        methods: names of :data:`SUBJECTS`.
    """

    methods: tuple[str, ...] = QUICK.methods

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known(self.methods, SUBJECTS, "method")

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        its, found = room(self.world), self._found(told)
        requests: dict[str, Any] = {
            kind: {
                "request": its.request(kind).name,
                "forget rows": len(its.request(kind).target.rows(its.train_table)),
                "pruners": {a.place.pruner: found.of(a) for a in self.asked() if a.kind == kind},
            }
            for kind in KINDS
        }
        return {
            "world": self.world,
            "verdict": verdict(requests),
            "verdict without the attack": verdict(requests, "gap without the attack"),
            "about": its.about,
            "rows": {"train": len(its.train), "test": len(its.test)},
            "seeds": self.seeds,
            "strengths": {name: list(SUBJECTS[name].strengths) for name in self.methods},
            "requests": requests,
        }

    def _found(self, told: Told) -> "_Found":
        """Do all jobs: models, strengths on validation rows, then what is read on test rows."""
        asked, bases = self.asked(), self.trained(told)
        sources = {name: source_of(type(SUBJECTS[name].method)) for name in self.methods}
        tunings = [
            Tuning(a, name, source)
            for name, source in sources.items()
            for a in asked
            if a.place.pruner == DENSE or name not in ON_DENSE_ALONE
        ]
        tuned = self.jobs(tunings, told)
        answerings = [
            Answering(job.asking, job.method, job.source, strength, seed)
            for job in tunings
            for strength in _strengths(tuned, job)
            if strength is not None
            for seed in job.asking.seeds
        ]
        answers = self.jobs(answerings, told)
        return _Found(bases, tuned, answers, self.jobs([Reading(a) for a in asked], told))


def _strengths(tuned: Mapping[Tuning, Result], job: Tuning) -> tuple[float | None, float | None]:
    """The strength that was chosen on a pruned model, and that of the dense one."""
    return tuned[job]["strength"], tuned[replace(job, asking=job.asking.dense)]["strength"]


@dataclass(frozen=True)
class _Found:
    """The results of all jobs."""

    bases: Mapping[Training, Result]
    tuned: Mapping[Tuning, Result]
    answers: Mapping[Answering, Result]
    readings: Mapping[Reading, Result]

    def of(self, asking: Asking) -> dict[str, Any]:
        """What was found of a request on one pruned model: every list holds a value a seed."""
        reading = self.readings[Reading(asking)]
        oracles: Sequence[Figures] = reading["oracles"]
        bases = [self.bases[Training(asking.place, None, seed)] for seed in asking.seeds]
        return {
            "sparsity": fmean(base["sparsity"] for base in bases),
            "originals": reading["originals"],
            "oracles": oracles,
            "gap among oracles": [
                gap(one, [o for place, o in enumerate(oracles) if place != own], AVERAGED)
                for own, one in enumerate(oracles)
            ],
            "gap of the originals": _gaps(reading["originals"], oracles),
            "methods": {
                job.method: self._of_method(job, oracles)
                for job in self.tuned
                if job.asking == asking
            },
        }

    def _of_method(self, job: Tuning, oracles: Sequence[Figures]) -> dict[str, Any]:
        dense = self.readings[Reading(job.asking.dense)]["oracles"]
        own, of_dense = _strengths(self.tuned, job)
        found, at_dense = self._figures(job, own), self._figures(job, of_dense)
        return {
            "strength": own,
            "tried": self.tuned[job]["tried"],
            "figures": found,
            "at the dense strength": at_dense,
            "gap": _gaps(found, oracles),
            "gap without the attack": _gaps(found, oracles, ACCURACIES),
            "gap to the dense oracles": _gaps(found, dense),
            "gap at the dense strength": _gaps(at_dense, oracles),
        }

    def _figures(self, job: Tuning, strength: float | None) -> list[Figures | None]:
        """By seed; None where the method failed, or did so at every strength."""
        if strength is None:
            return [None] * len(job.asking.seeds)
        jobs = [
            Answering(job.asking, job.method, job.source, strength, seed)
            for seed in job.asking.seeds
        ]
        return [self.answers[each].get("figures") for each in jobs]


def _gaps(
    figures: Sequence[Figures | None],
    oracles: Sequence[Figures],
    names: Sequence[str] = AVERAGED,
) -> list[float | None]:
    return [None if found is None else gap(found, oracles, names) for found in figures]
