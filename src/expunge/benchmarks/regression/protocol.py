"""Whether Blindspot and Gaussian make a regressor forget a range of targets, or a group of rows.

Tarun, Chundawat, Mandal, Kankanhalli (2023). Deep Regression Unlearning. On real data of five
kinds, beside three originals and three models retrained without the rows. Learning rates are chosen
on validation rows; the published settings stand beside them as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.audit.anamnesis import anamnesis_index, counted_to_the_end
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.regression.verdict import verdict
from expunge.benchmarks.regression.work import (
    RELEARNING,
    SUBJECTS,
    Answering,
    Asking,
    Figures,
    Place,
    Reading,
    Training,
    Tuning,
    sources,
)
from expunge.benchmarks.regression.worlds import LEARNING_RATE, NEEDS, WORLDS, world
from expunge.data import catalogue
from expunge.errors import ExpungeError
from expunge.signals import MEAN_ABSOLUTE_ERROR


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        worlds: names of :data:`~expunge.benchmarks.regression.worlds.WORLDS`.
        subjects: names of :data:`~expunge.benchmarks.regression.work.SUBJECTS`.
        seeds: number of seeds, and of oracles.
        processes: jobs that run at once.

    Raises:
        ExpungeError: a name is not known or was given twice, or there are fewer than two seeds.
    """

    folder: Path
    worlds: tuple[str, ...] = tuple(WORLDS)
    subjects: tuple[str, ...] = tuple(SUBJECTS)
    seeds: int = 3
    processes: int = 1

    def __post_init__(self) -> None:
        for given, known, what in (
            (self.worlds, WORLDS, "world"),
            (self.subjects, SUBJECTS, "method"),
        ):
            for name in given:
                if name not in known:
                    raise ExpungeError(
                        f"There is no {what} {name!r} here; there are {', '.join(known)}."
                    )
                if given.count(name) > 1:
                    raise ExpungeError(
                        f"The {what} {name!r} was given {given.count(name)} times; give it once."
                    )
        if self.seeds < 2:
            raise ExpungeError(
                f"{self.seeds} seeds were given; at least 2 are expected, since an oracle is read "
                "beside the others."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values.

        Raises:
            ExpungeError: a set was not fetched.
        """
        for name in self.worlds:
            for needed in NEEDS[name]:
                catalogue.at_hand(needed)
        asked = [
            Asking(Place(name, world(name).digest, self.folder), request, tuple(range(self.seeds)))
            for name in self.worlds
            for request in world(name).requests
        ]
        originals = [Training(a.place, None, seed) for a in asked for seed in a.seeds]
        oracles = [Training(a.place, a.request, seed) for a in asked for seed in a.seeds]
        trained = self._jobs([*originals, *oracles], told)
        known = sources()
        tunings = [Tuning(a, name, known[name]) for a in asked for name in self.subjects]
        tuned = self._jobs([job for job in tunings if SUBJECTS[job.subject].rates], told)
        answerings = [
            Answering(job.asking, job.subject, job.source, _rate(job, tuned), seed)
            for job in tunings
            for seed in job.asking.seeds
        ]
        answers = self._jobs(answerings, told)
        readings = self._jobs([Reading(a, seed) for a in asked for seed in a.seeds], told)
        found: dict[str, Any] = {}
        for asking in asked:
            its = found.setdefault(asking.place.world, _about(asking.place.world))
            beside = [readings[Reading(asking, seed)] for seed in asking.seeds]
            seconds = [trained[Training(asking.place, asking.request, s)] for s in asking.seeds]
            rows: dict[str, Any] = {
                "original": _read([one["original"] for one in beside], beside),
                "oracle": _read(
                    [
                        {**one["oracle"], "seconds": training["seconds"]}
                        for one, training in zip(beside, seconds, strict=True)
                    ],
                    beside,
                ),
            }
            for job in tunings:
                if job.asking == asking:
                    done = [answers[one] for one in answerings if _same(one, job)]
                    rows[job.subject] = {
                        **_read([one.get("figures") for one in done], beside),
                        "failed": next((o["failed"] for o in done if o.get("failed")), None),
                        "rate": _rate(job, tuned),
                        "tried": tuned[job]["tried"] if job in tuned else [],
                    }
            its["requests"][asking.request] = {
                "forget rows": len(asking.place.its.part(asking.request, "train", meant=True)),
                "rows": rows,
            }
        return {
            "seeds": self.seeds,
            "relearning": {"passes": 10, "rate": LEARNING_RATE, "rows": RELEARNING.batch_size},
            "worlds": found,
            "verdict": verdict(found),
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def _rate(job: Tuning, tuned: Mapping[Tuning, Result]) -> float | None:
    """The rate that was chosen; none where a subject has no choice, or failed at every rate."""
    return tuned[job]["rate"] if job in tuned else None


def _same(answering: Answering, job: Tuning) -> bool:
    return (answering.asking, answering.subject) == (job.asking, job.subject)


def _about(name: str) -> dict[str, Any]:
    its = world(name)
    rows = {part: len(samples) for part, samples in its.rows.items()}
    return {
        "about": its.about,
        "unit": its.unit,
        "scale": its.scale,
        "rows": rows,
        "requests": {},
    }


def _read(figures: Sequence[Figures | None], beside: Sequence[Result]) -> dict[str, Any]:
    """Figures by name, a value a seed; relearning as steps and as the anamnesis index.

    Who has not relearned within the ten passes counts with all their steps, as in the paper's code;
    the relation says where the index is a bound for that.
    """
    names = ("retain test", "forget test", "forget train", "W1", "SVC-MIA", "seconds")
    found: dict[str, Any] = {
        name: [None if its is None else its.get(name) for its in figures] for name in names
    }
    raced = [
        None
        if its is None
        else anamnesis_index(
            its["relearning"],
            one["oracle"]["relearning"],
            one["original"]["forget train"],
            MEAN_ABSOLUTE_ERROR,
        )
        for its, one in zip(figures, beside, strict=True)
    ]
    found["AIN"] = [None if its is None else counted_to_the_end(its) for its in raced]
    found["AIN relation"] = [None if its is None else its.relation for its in raced]
    found["steps"] = [None if its is None else str(its.model) for its in raced]
    return found
