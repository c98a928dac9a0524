"""The protocol: acceptance of judge and bases, strengths on another class, then the figures.

A strength is that with which the most pictures of the class it is tried on miss it, among those
that cost at most :data:`TOLERANCE` of the retained accuracy; a row that always costs more is
reported at the strength that costs least, and marked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expunge.benchmarks.digits_judge import NAMES
from expunge.benchmarks.drawing.rivals import RIVALS
from expunge.benchmarks.drawing.work import (
    JUDGE_SEED,
    Accepting,
    Judging,
    Looking,
    Place,
    Training,
    Unlearning,
)
from expunge.benchmarks.drawing.worlds import world
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.errors import ExpungeError

FORGOTTEN, TRIED_ON = "3", "7"
"""The class that is reported on, and the one that strengths are chosen on."""

JUDGE, BASE, FLOORS = 0.98, 0.9, 3.0
"""Accuracy of the judge on real test rows and on pictures of every condition of a base, and how
many times the distance of two real halves a base may be away."""

TOLERANCE = 0.05
"""Retained accuracy that a strength may cost."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept.
        forgotten: name of the class.
        tried_on: name of the class that strengths are chosen on.
        rivals: names of :data:`RIVALS`; every one by default.
        seeds: of bases and oracles, from 0.
        processes: jobs that run at once.

    Raises:
        ExpungeError: a class or a row is not known, or both classes are the same.
    """

    folder: Path
    forgotten: str = FORGOTTEN
    tried_on: str = TRIED_ON
    rivals: tuple[str, ...] = field(default_factory=lambda: tuple(RIVALS))
    seeds: int = 3
    processes: int = 2

    def __post_init__(self) -> None:
        unknown = [name for name in self.rivals if name not in RIVALS]
        if unknown or len(set(self.rivals)) < len(self.rivals):
            raise ExpungeError(
                f"The rows {', '.join(self.rivals)} were given; each of {', '.join(RIVALS)} is "
                "expected at most once."
            )
        if world().label(self.forgotten) == world().label(self.tried_on):
            raise ExpungeError(
                f"Strengths were to be chosen on the class {self.tried_on!r}, which is the one "
                "that is reported on; name another one."
            )

    @property
    def place(self) -> Place:
        """Where the figures are found."""
        return Place(self.folder, world().label(self.forgotten))

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values.

        Raises:
            ExpungeError: judge or bases are not good enough for any figure to mean something.
        """
        place, seeds = self.place, range(self.seeds)
        judge = Training(place, "judge", JUDGE_SEED)
        trainings = [Training(place, which, s) for s in seeds for which in ("base", "oracle")]
        trained = self._jobs([judge, *trainings], told)
        judged = self._jobs([Judging(place)], told)[Judging(place)]
        bases = self._jobs([Accepting(place, seed) for seed in seeds], told)
        accepted(judged, [*bases.values()], self.forgotten)
        taken = self._chosen(bases[Accepting(place, 0)], told)
        done = self._jobs(
            [
                Unlearning(place, name, at, seed)
                for name, (at, _) in taken.items()
                for seed in seeds
            ],
            told,
        )
        rows = self._rows(taken)
        looked = self._jobs([job for its in rows.values() for job in its], told)
        seconds = {
            name: [float(done[Unlearning(place, name, at, s)].get("seconds", "nan")) for s in seeds]
            for name, (at, _) in taken.items()
        }
        for row, which in (("original", "base"), ("retrained without it", "oracle")):
            seconds[row] = [float(trained[Training(place, which, s)]["seconds"]) for s in seeds]  # type: ignore[arg-type]
        return {
            "forgotten": self.forgotten,
            "tried on": self.tried_on,
            "seeds": self.seeds,
            "judge": judged,
            "bases": [*bases.values()],
            "rows": {row: [looked[job] for job in its] for row, its in rows.items()},
            "seconds": seconds,
            "strengths": {
                name: {"at": at, "of": len(RIVALS[name].strengths), "kept the rest": kept}
                for name, (at, kept) in taken.items()
            },
        }

    def models(self, taken: Mapping[str, Mapping[str, Any]]) -> dict[str, Looking]:
        """The models of seed 0 by row, for pictures; ``taken`` as in the result."""
        at = {name: (int(one["at"]), True) for name, one in taken.items()}
        return {row: its[0] for row, its in self._rows(at).items()}

    def _rows(self, taken: Mapping[str, tuple[int, bool]]) -> dict[str, list[Looking]]:
        place, seeds = self.place, range(self.seeds)
        bases = [Training(place, "base", seed) for seed in seeds]
        rows = {
            "original": [Looking(place, base, base.seed) for base in bases],
            "retrained without it": [
                Looking(place, Training(place, "oracle", seed), seed) for seed in seeds
            ],
            "destroyed": [Looking(place, None, seed) for seed in seeds],
        }
        for name, (at, _) in taken.items():
            rows[name] = [Looking(place, Unlearning(place, name, at, s), s) for s in seeds]
        rows["original in one step"] = [Looking(place, b, b.seed, once=True) for b in bases]
        return rows

    def _chosen(self, base: Result, told: Told) -> dict[str, tuple[int, bool]]:
        """The strength of every row, and whether it kept the rest: the other class, seed 0."""
        elsewhere = replace(self.place, forgotten=world().label(self.tried_on))
        others = [a for c, a in enumerate(base["by class"]) if c != elsewhere.forgotten]
        before = sum(others) / len(others)
        own = [n for n in self.rivals if RIVALS[n].like not in self.rivals]
        tried = {
            name: [Unlearning(elsewhere, name, i, 0) for i in range(len(RIVALS[name].strengths))]
            for name in own
            if len(RIVALS[name].strengths) > 1
        }
        found = self._jobs([job for jobs in tried.values() for job in jobs], told)
        taken = {
            name: chosen([found[job] for job in tried[name]], before)
            if name in tried
            else (0, True)
            for name in own
        }
        for name in self.rivals:
            if name not in taken:
                taken[name] = taken[str(RIVALS[name].like)]
        return {name: taken[name] for name in self.rivals}

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def accepted(judged: Result, bases: Sequence[Result], forgotten: str) -> None:
    """Refuse to go on where no figure would mean anything.

    Raises:
        ExpungeError: the judge errs too often on real rows, or a base cannot draw a condition, or
            draws pictures that are far from real ones.
    """
    if judged["accuracy"] < JUDGE:
        raise ExpungeError(
            f"The judge is right on {judged['accuracy']:.3f} of the real test rows; at least "
            f"{JUDGE} is expected before anything is judged by it."
        )
    for seed, base in enumerate(bases):
        by_class = dict(zip(NAMES, base["by class"], strict=True))
        if by_class[forgotten] < BASE:
            raise ExpungeError(
                f"The base of seed {seed} cannot draw {forgotten!r}: the judge recognises "
                f"{by_class[forgotten]:.3f} of its pictures, and at least {BASE} is expected "
                "before it is forgotten. Name another class, or train it longer."
            )
        if (mean := sum(by_class.values()) / len(by_class)) < BASE:
            raise ExpungeError(
                f"The judge recognises {mean:.3f} of the pictures of the base of seed {seed}; at "
                f"least {BASE} is expected. Train it longer."
            )
        ratio = float(base["distance"]) / float(judged["distance"])
        if not ratio <= FLOORS:
            raise ExpungeError(
                f"The base of seed {seed} draws pictures {ratio:.1f} times as far from real ones "
                f"as two real halves are from each other; {FLOORS:g} times at most is expected "
                "before anything is forgotten. Train it longer."
            )


def chosen(tried: Sequence[Result], before: float) -> tuple[int, bool]:
    """The position of the strength that is taken, and whether it keeps the rest.

    Args:
        tried: what each strength gave, the weakest first.
        before: retained accuracy to be kept.
    """
    sound = [i for i, one in enumerate(tried) if "missed" in one]
    kept = [i for i in sound if tried[i]["retained"] >= before - TOLERANCE]
    if kept:
        return max(kept, key=lambda i: (tried[i]["missed"], tried[i]["retained"])), True
    return max(sound, key=lambda i: tried[i]["retained"], default=0), False
