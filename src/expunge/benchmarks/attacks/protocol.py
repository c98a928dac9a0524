"""The protocol: bases and oracles of the facts, methods at their presets, every attack on each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge import registry
from expunge.audit.case import source_of
from expunge.benchmarks.attacks.work import AttackingTrained, AttackingUnlearned
from expunge.benchmarks.facts.people import REPORTED
from expunge.benchmarks.facts.work import Asking, Training
from expunge.benchmarks.facts.world import Place, Size
from expunge.benchmarks.jobs import Some, Told, by_job
from expunge.benchmarks.language_methods import LANGUAGE_METHODS
from expunge.errors import ExpungeError

FEW = ("npo-rt", "simnpo", "idk", "wga", "gradient-difference", "npo-sam")
"""The methods of the quick form."""

EVERY = (*LANGUAGE_METHODS, "gradient-ascent", "gradient-difference")
"""Those of the full form; what has no preset for language models refuses, and the table says so."""


@dataclass(frozen=True)
class Form:
    """How much is done; as the fields of :class:`Protocol`."""

    methods: tuple[str, ...]
    draws: int
    oracles: int = 3


QUICK, FULL = Form(FEW, 1), Form(tuple(sorted(EVERY)), 3)


@dataclass(frozen=True)
class Protocol:
    """What is attacked.

    Args:
        folder: where models and results are kept; that of the benchmark of facts may be given.
        methods: registered names, each at its preset.
        draws: how many draws of people, from 0.
        oracles: how many seeds of oracles.
        processes: jobs that run at once.
        size: of every world.
    """

    folder: Path
    methods: tuple[str, ...] = FEW
    draws: int = 1
    oracles: int = 3
    processes: int = 2
    size: Size = field(default_factory=Size)

    def __post_init__(self) -> None:
        for name in self.methods:
            registry.load("methods", name)
        if not 1 <= self.draws <= len(REPORTED) or self.oracles < 2:
            raise ExpungeError(
                f"{self.draws} draws and {self.oracles} oracles were given; 1 to {len(REPORTED)} "
                "draws are expected, since presets were found on others, and at least 2 oracles, "
                "since one alone does not say how far they are apart."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        places = [Place(self.folder, draw, self.size) for draw in REPORTED[: self.draws]]
        seeds = range(self.oracles)
        bases = [Training(place, 0, 0) for place in places]
        oracles = [Training(place, self.size.corner, seed) for place in places for seed in seeds]
        self._jobs([*bases, *oracles], told)
        asked = [
            Asking(place, name, source_of(registry.load("methods", name)), "preset", 0)
            for name in self.methods
            for place in places
        ]
        trained = self._jobs([AttackingTrained(job) for job in (*bases, *oracles)], told)
        unlearned = self._jobs([AttackingUnlearned(asking) for asking in asked], told)
        return {
            "size": vars(self.size),
            "draws": self.draws,
            "references": [
                {"draw": job.training.place.draw, "seed": job.training.seed}
                | {"oracle": bool(job.training.without), **result}
                for job, result in trained.items()
            ],
            "methods": [
                {"method": job.asking.method, "draw": job.asking.place.draw, **result}
                for job, result in unlearned.items()
            ],
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Any]:
        return by_job(jobs, self.folder / "results", self.processes, told)
