"""Does a method that reads no label forget as those that read them? Three removals, side by side.

Shen, Zhang, Zhao, Bialkowski, Chen, Xu (2024). Label-Agnostic Forgetting. Originals and oracles of
several seeds, LAF with and without repair and each of its steps alone, two others that need no
label, and four that read them; figures on test rows, strengths chosen on validation rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarks.classification.rows import Figures, gap
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.label_free.tasks import TASKS, WORLDS, removal, room
from expunge.benchmarks.label_free.work import (
    FOLLOWERS,
    LAF_ROW,
    SUBJECTS,
    Answering,
    Place,
    Training,
)
from expunge.errors import ExpungeError

QUICK = ("digits",)
FULL = tuple(WORLDS)

SETTINGS = ("preset", "tuned")


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        worlds: names of :data:`WORLDS`.
        tasks: names of :data:`TASKS`.
        seeds: number of seeds, and of oracles.
        processes: jobs that run at once.

    Raises:
        ExpungeError: a name is unknown or comes twice, or there are fewer than two seeds.
    """

    folder: Path
    worlds: tuple[str, ...] = QUICK
    tasks: tuple[str, ...] = TASKS
    seeds: int = 3
    processes: int = 2

    def __post_init__(self) -> None:
        for given, known, what in ((self.worlds, WORLDS, "world"), (self.tasks, TASKS, "task")):
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
                f"{self.seeds} seeds were given; at least 2 are expected, since a gap is read "
                "against several oracles."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        places = [
            Place(name, task, self.folder)
            for name in self.worlds
            for task in TASKS
            if task in self.tasks
        ]
        models = self._jobs(
            [
                Training(place, kind, seed)
                for place in places
                for kind in ("original", "oracle")
                for seed in range(self.seeds)
            ],
            told,
        )
        whole = [
            Answering(place, name, self.seeds)
            for place in places
            for name in SUBJECTS
            if name not in FOLLOWERS
        ]
        answers = self._jobs(whole, told)
        chosen = {
            place: answers[Answering(place, LAF_ROW, self.seeds)].get("strength", 1.0)
            for place in places
        }
        parts = [
            Answering(place, name, self.seeds, chosen[place])
            for place in places
            for name in FOLLOWERS
        ]
        answers |= self._jobs(parts, told)
        found: dict[str, Any] = {}
        for place in places:
            found.setdefault(place.world, {})[place.task] = self._of(place, models, answers)
        return {
            "seeds": self.seeds,
            "about": {name: room(name).about for name in self.worlds},
            "worlds": found,
        }

    def _of(
        self, place: Place, models: Mapping[Training, Result], answers: Mapping[Answering, Result]
    ) -> dict[str, Any]:
        """What was found of a task: each list holds a value a seed."""
        seeds = range(self.seeds)
        originals, oracles = (
            [models[Training(place, kind, seed)] for seed in seeds]
            for kind in ("original", "oracle")
        )
        true = [one["test"] for one in oracles]
        columns = place.averaged()
        rows: dict[str, Any] = {
            "original": _row([one["test"] for one in originals], true, columns, "-"),
            "oracle": {
                **_row(true, true, columns, "retain"),
                "gap": [
                    gap(one, [o for other, o in enumerate(true) if other != own], columns)
                    for own, one in enumerate(true)
                ],
                "seconds": [one["seconds"] for one in oracles],
            },
        }
        tables = {}
        for setting in SETTINGS:
            tables[setting] = dict(rows)
            for job, answer in answers.items():
                if job.place == place and (setting in answer or "none" in answer):
                    tables[setting][job.subject] = self._answered(job, answer, setting, true)
        order = ["original", "oracle", *SUBJECTS]
        its = removal(place.world, place.task)
        return {
            "forget rows": len(its.forget),
            "train rows": len(its.train),
            "columns": list(columns),
            **{s: {n: tables[s][n] for n in order if n in tables[s]} for s in SETTINGS},
            "tried": {
                job.subject: a.get("tried") for job, a in answers.items() if job.place == place
            },
        }

    def _answered(
        self, job: Answering, answer: Result, setting: str, oracles: Sequence[Figures]
    ) -> dict[str, Any]:
        labels = SUBJECTS[job.subject].labels
        if "none" in answer:
            return {"labels": labels, "failed": answer["none"]}
        figures = answer[setting]
        failed = [one["failed"] for one in figures if "failed" in one]
        sound = [one for one in figures if "failed" not in one]
        strength = 1.0 if setting == "preset" else answer["strength"]
        if not sound:
            return {"labels": labels, "failed": failed[0], "strength": strength}
        return {
            **_row(sound, oracles, job.place.averaged(), labels),
            "seconds": [one["seconds"] for one in sound],
            "strength": strength,
            "failures": failed,
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def _row(
    figures: Sequence[Figures], oracles: Sequence[Figures], columns: Sequence[str], labels: str
) -> dict[str, Any]:
    """Figures by column, the gap of each to the mean of the oracles, and whose labels were read."""
    return {
        "labels": labels,
        **{name: [one[name] for one in figures] for name in columns},
        "gap": [gap(one, oracles, columns) for one in figures],
    }
