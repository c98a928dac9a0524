"""The protocol: bases and oracles, tuning on other people, one request at once, and streams.

Every step is a list of jobs that run beside each other and are stored, so that a benchmark which
was stopped goes on where it was.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge import registry
from expunge.audit.case import source_of
from expunge.benchmarks.facts.people import FIRST_TUNING, REPORTED
from expunge.benchmarks.facts.work import (
    Answering,
    Asking,
    Describing,
    Mode,
    Parameters,
    Streaming,
    Training,
    Tuning,
)
from expunge.benchmarks.facts.world import Place, Size
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.errors import ExpungeError
from expunge.methods.protocol import Method, missing

LEFT_OUT = {
    "retrain": "it is the oracle",
    "guardrail": "it leaves the weights as they are",
    "redact": "it leaves the weights as they are",
    "dmm": "it trains a thousand models for every base",
}
"""Registered methods that are not compared unless they are named, and why."""

FEW = ("gradient-ascent", "gradient-difference", "negation", "npo-rt", "simnpo")
"""The methods of the quick form, those of them that are registered."""


@dataclass(frozen=True)
class Form:
    """How much is done; as the fields of :class:`Protocol`."""

    draws: int
    seeds: int
    oracles: int
    streams: tuple[int, ...]
    trials: int


QUICK, FULL = Form(1, 1, 2, (5,), 0), Form(3, 3, 3, (5, 20), 8)


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models, trials and results are kept.
        methods: registered names; every one that fits by default.
        draws: how many draws of people, from 0.
        seeds: how many seeds of bases.
        oracles: how many seeds of oracles, at least as many.
        streams: numbers of requests.
        trials: of every method with something to tune; 0 for none.
        processes: jobs that run at once.
        size: of every world.
    """

    folder: Path
    methods: tuple[str, ...] = ()
    draws: int = 1
    seeds: int = 1
    oracles: int = 2
    streams: tuple[int, ...] = (5,)
    trials: int = 0
    processes: int = 2
    size: Size = field(default_factory=Size)

    def __post_init__(self) -> None:
        for name in self.methods:
            registry.load("methods", name)
        if not 1 <= self.draws <= len(REPORTED):
            raise ExpungeError(
                f"{self.draws} draws were given; 1 to {len(REPORTED)} are expected, since presets "
                "were found on the others."
            )
        if not 1 <= self.seeds <= self.oracles or self.oracles < 2:
            raise ExpungeError(
                f"{self.seeds} seeds and {self.oracles} oracles were given; at least one seed, and "
                "as many oracles or more, at least 2, are expected: one alone does not say how far "
                "oracles are apart."
            )
        longest = max(self.streams, default=0) * self.size.together
        if longest > self.size.people - 2 or min(self.streams, default=2) < 2:
            raise ExpungeError(
                f"Streams of {', '.join(map(str, self.streams))} requests for "
                f"{self.size.together} people each were given, of {self.size.people} people in "
                "all; two requests or more, and people who stay, are expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        places = [Place(self.folder, draw, self.size) for draw in REPORTED[: self.draws]]
        fitting, unfit = self._fitting(places[0])
        tuned = self._tuned(fitting, told)
        every = range(self.oracles)
        gone = self.size.corner
        trained = self._jobs(
            [Training(p, 0, seed) for p in places for seed in range(self.seeds)]
            + [Training(p, gone, seed) for p in places for seed in every],
            told,
        )
        described = self._jobs([Describing(job, gone) for job in trained], told)
        asked = [
            Asking(place, name, source, mode, seed, given)
            for name, source in fitting.items()
            for mode, given in self._modes(tuned.get(name))
            for place in places
            for seed in range(self.seeds)
        ]
        answers = self._jobs([Answering(a) for a in asked], told)
        rules = tuple(registry.names("aggregations"))
        streams = self._jobs(
            [
                Streaming(a, length, way, rules)
                for a in asked
                if a.mode != "published"
                for length in self.streams
                for way in _ways(a.method)
            ],
            told,
        )
        return {
            "size": vars(self.size),
            "draws": self.draws,
            "seeds": self.seeds,
            "unfit": unfit,
            "tuning": tuned,
            "retraining rows": {
                str(length): places[0].world.retraining(places[0].world.stream(length))
                for length in self.streams
            },
            "references": [
                {"draw": job.place.draw, "seed": job.seed, "without": job.without}
                | dict(result)
                | dict(described[Describing(job, gone)])
                for job, result in trained.items()
            ],
            "answers": [_cell(job.asking, result) for job, result in answers.items()],
            "streams": [
                _cell(job.asking, result) | {"length": job.length, "sequential": job.sequential}
                for job, result in streams.items()
            ],
        }

    def _fitting(self, place: Place) -> tuple[dict[str, str], dict[str, str]]:
        """The methods that can be run, each with the digest of its code; and why others cannot."""
        world = place.world
        untrained = world.recipe(0).builder(0)
        deployment = world.deployment(untrained, 0)
        fitting, unfit = {}, {}
        for name in self.methods or registry.names("methods"):
            if name in LEFT_OUT and name not in self.methods:
                unfit[name] = LEFT_OUT[name]
                continue
            kind = registry.load("methods", name)
            try:
                method: Method = kind()
            except TypeError:  # a field has no default: it is put around another method
                unfit[name] = "it is put around another method"
                continue
            lacks = missing(method, deployment.problem(world.corner(), method))
            if lacks:
                unfit[name] = " and ".join(lack.clause for lack in lacks)
            else:
                fitting[name] = source_of(kind)
        return fitting, unfit

    def _tuned(self, fitting: dict[str, str], told: Told) -> dict[str, Result]:
        if not self.trials:
            return {}
        place = Place(self.folder, FIRST_TUNING, self.size)
        self._jobs([Training(place, 0, 0)], told)
        jobs = [
            Tuning(Asking(place, name, source, "tuned", 0), self.trials)
            for name, source in fitting.items()
        ]
        return {job.asking.method: result for job, result in self._jobs(jobs, told).items()}

    def _modes(self, tuned: Result | None) -> Iterator[tuple[Mode, Parameters]]:
        yield "published", ()
        yield "preset", ()
        if tuned is not None and not tuned["preset"] and tuned["parameters"] is not None:
            yield "tuned", tuple(sorted(tuned["parameters"].items()))

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def quick_methods() -> tuple[str, ...]:
    """Those of :data:`FEW` that are registered."""
    known = registry.names("methods")
    return tuple(name for name in FEW if name in known)


def _ways(name: str) -> tuple[bool, ...]:
    """Whether a method can start from the base, and from the current model."""
    kind = registry.load("methods", name)
    if "sequential" in {field.name for field in dataclasses.fields(kind)}:
        return (False, True)
    return (bool(kind().sequential),)


def _cell(asking: Asking, result: Result) -> dict[str, Any]:
    where = {"draw": asking.place.draw, "seed": asking.seed}
    return {"method": asking.method, "mode": asking.mode, **where, **result}
