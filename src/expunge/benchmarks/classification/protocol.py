"""The protocol: bases and oracles, tuning, answers, and what they say of every method.

Every step is a list of jobs that run beside each other and are stored, so that a benchmark which
was stopped goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from expunge import registry
from expunge.audit.case import source_of
from expunge.audit.tuning import STARTUP
from expunge.benchmarks.classification.work import (
    TOLERANCE,
    Answering,
    Asking,
    Place,
    References,
    Training,
    Tuning,
)
from expunge.benchmarks.classification.worlds import WORLDS, Kind, world
from expunge.benchmarks.generative_methods import GENERATIVE_METHODS
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.language_methods import LANGUAGE_METHODS
from expunge.benchmarks.number_methods import NUMBER_METHODS
from expunge.errors import ExpungeError

LEFT_OUT = {
    "retrain": "it is the oracle",
    "guardrail": "it leaves the weights as they are, and weights are compared",
    "redact": "it leaves the weights as they are, and weights are compared",
    "concept-poisoning": "it needs examples of concepts (`expunge bench concepts`)",
    "concept-poisoning-target": "it needs examples of concepts (`expunge bench concepts`)",
    "prune-then-unlearn": "it needs a pruned model (`expunge bench sparsity`)",
    "dmm": "it trains a thousand models for every base (`expunge bench dmm`)",
    "laf": "it trains two networks for every request (`expunge bench label-free`)",
    "laf-repaired": "it trains two networks for every request (`expunge bench label-free`)",
}
LEFT_OUT |= dict.fromkeys(LANGUAGE_METHODS, "it was made for language models")
LEFT_OUT |= dict.fromkeys(NUMBER_METHODS, "it was made for models that answer with numbers")
LEFT_OUT |= dict.fromkeys(GENERATIVE_METHODS, "it was made for models that draw")
"""Registered methods that are not compared, and why."""

QUICK = ("digits",)
"""The worlds of the quick form: no set has to be fetched for it."""


@dataclass(frozen=True)
class Protocol:
    """What is compared on what.

    Args:
        folder: where models, trials and results are kept.
        worlds: names of :data:`WORLDS`.
        methods: registered names; every one by default.
        seeds: number of seeds, and of oracles.
        trials: of every method with something to tune; 0 for presets alone.
        processes: jobs that run at once.
        requests: kinds of request; every one of a world by default.
    """

    folder: Path
    worlds: tuple[str, ...] = QUICK
    methods: tuple[str, ...] = ()
    seeds: int = 3
    trials: int = 6
    processes: int = 2
    requests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.worlds:
            if name not in WORLDS:
                raise ExpungeError(f"There is no world {name!r}; there are {', '.join(WORLDS)}.")
        for name in self.methods:
            registry.load("methods", name)
        for kind in self.requests:
            if kind not in get_args(Kind):
                raise ExpungeError(
                    f"There is no request of the kind {kind!r}; there are "
                    f"{', '.join(get_args(Kind))}."
                )
        for given in (self.worlds, self.methods, self.requests):
            if len(set(given)) < len(given):
                raise ExpungeError(
                    f"{', '.join(given)} was given; each world, each method and each request is "
                    "expected once."
                )
        if self.seeds < 2:
            raise ExpungeError(
                f"{self.seeds} seed was given; at least 2 are expected, since one oracle alone "
                "does not say how far oracles are apart."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        seeds = tuple(range(self.seeds))
        places = [Place(name, world(name).digest, self.folder) for name in self.worlds]
        asked = [Asking(p, kind, seeds) for p in places for kind in self._kinds(p)]
        sources = {name: source_of(registry.load("methods", name)) for name in self._methods()}
        trained = self._jobs(
            [Training(p, None, seed) for p in places for seed in seeds]
            + [Training(a.place, a.kind, seed) for a in asked for seed in seeds],
            told,
        )
        references = self._jobs([References(a) for a in asked], told)
        tuned = self._jobs(
            [Tuning(a, name, its, self.trials) for a in asked for name, its in sources.items()],
            told if self.trials else lambda title, stored: None,  # each only asks what fits
        )
        answers = self._jobs(
            [
                Answering(t.asking, t.method, t.source, seed, given)
                for t, result in tuned.items()
                for given in _parameters(result).values()
                for seed in seeds
            ],
            told,
        )
        worlds: dict[str, Any] = {}
        for place in places:
            room = place.room
            worlds[place.world] = {
                "about": room.about,
                "rows": {"train": len(room.train), "test": len(room.test), "shown": room.shown},
                "training seconds": _seconds(trained, place, None),
                "requests": {},
            }
        for asking, its in zip(asked, references.values(), strict=True):
            of_request = {t.method: r for t, r in tuned.items() if t.asking == asking}
            room = asking.place.room
            request = room.request(asking.kind)
            worlds[asking.place.world]["requests"][asking.kind] = {
                "request": request.name,
                "forget rows": len(request.target.rows(room.train_table)),
                "retraining seconds": _seconds(trained, asking.place, asking.kind),
                "references": its,
                "unfit": {n: r["unfit"] for n, r in of_request.items() if "unfit" in r},
                "tuning": {n: r for n, r in of_request.items() if "unfit" not in r},
                "methods": {
                    name: {
                        setting: [
                            answers[Answering(asking, name, sources[name], seed, given)]
                            for seed in seeds
                        ]
                        for setting, given in _parameters(result).items()
                    }
                    for name, result in of_request.items()
                    if "unfit" not in result
                },
            }
        return {
            "seeds": self.seeds,
            "trials": self.trials,
            "random trials": min(STARTUP, self.trials),
            "tolerance": TOLERANCE,
            "left out": {n: why for n, why in LEFT_OUT.items() if n not in self.methods},
            "worlds": worlds,
        }

    def _kinds(self, place: Place) -> list[Kind]:
        """The requests of a world that are asked.

        Raises:
            ExpungeError: the world has none of them.
        """
        held = place.room.requests
        found = [kind for kind in held if not self.requests or kind in self.requests]
        if not found:
            raise ExpungeError(
                f"The world {place.world!r} has no request of the kind "
                f"{' or '.join(map(repr, self.requests))}; it has {', '.join(held)}."
            )
        return found

    def _methods(self) -> list[str]:
        named = self.methods or tuple(registry.names("methods"))
        return [name for name in named if name not in LEFT_OUT or name in self.methods]

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def _seconds(trained: Mapping[Training, Result], place: Place, kind: Kind | None) -> float:
    """Mean processor seconds of a training."""
    return fmean(
        float(result["seconds"])
        for job, result in trained.items()
        if job.place == place and job.kind == kind
    )


def _parameters(tuned: Result) -> dict[str, tuple[tuple[str, Any], ...] | None]:
    """What a method is run with, by setting; None stands for its preset."""
    if "unfit" in tuned:
        return {}
    given: Mapping[str, Any] | None = tuned["parameters"]
    if tuned["preset"]:
        return {"preset": None, "tuned": None}
    best = {} if given is None else {"tuned": tuple(sorted(given.items()))}
    return {"preset": None, **best}
