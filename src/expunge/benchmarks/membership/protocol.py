"""The protocol: pools of every setting, and U-LiRA on every method, over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge import registry
from expunge.audit.case import digest_of_rooms, source_of
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.benchmarks.membership.pools import SETTINGS, Place
from expunge.benchmarks.membership.work import (
    ASKED,
    EACH,
    MUTE,
    NOTHING,
    RETRAIN,
    TARGETS,
    Attacking,
    Unlearning,
)
from expunge.errors import ExpungeError

BESIDE = (NOTHING, RETRAIN, MUTE)
"""What stands beside the methods."""

METHODS = ("fine-tune", "gradient-ascent", "random-label", "scrub", "ssd")
"""Methods whose models are attacked, where none are named."""

LEAST_MODELS = 16
"""Models of a pool at least: a quarter of them has forgotten a row, and a fit needs two."""


@dataclass(frozen=True)
class Protocol:
    """What is attacked.

    Args:
        folder: where models and results are kept.
        seeds: number of pools of each setting.
        models: of a pool.
        methods: registered names.
        processes: jobs that run at once.
    """

    folder: Path
    seeds: int = 1
    models: int = 32
    methods: tuple[str, ...] = METHODS
    processes: int = 2

    def __post_init__(self) -> None:
        for name in self.methods:
            registry.load("methods", name)
        if self.models < LEAST_MODELS or self.models % 2:
            raise ExpungeError(
                f"{self.models} models were asked for; an even number, {LEAST_MODELS} at least, is "
                "expected, since each row was forgotten by a quarter of them."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        code = digest_of_rooms(("attacks", "descent", "learning", "signals"))
        place = Place(self.folder, code)
        seeds = range(self.seeds)
        attacks = self._jobs(
            [Attacking(place, s.name, seed, self.models) for s in SETTINGS for seed in seeds], told
        )
        sources = {name: source_of(registry.load("methods", name)) for name in self.methods}
        unlearned = self._jobs(
            [
                Unlearning(place, name, sources.get(name, ""), seed, self.models)
                for name in (*BESIDE, *self.methods)
                for seed in seeds
            ],
            told,
        )
        return {
            "seeds": self.seeds,
            "models": self.models,
            "targets": TARGETS,
            "asked": ASKED,
            "each": EACH,
            "pools": {
                setting.name: [attacks[job] for job in attacks if job.setting == setting.name]
                for setting in SETTINGS
            },
            "unlearning": {
                name: [unlearned[job] for job in unlearned if job.method == name]
                for name in (*BESIDE, *self.methods)
            },
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)
