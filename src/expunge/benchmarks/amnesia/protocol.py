"""The protocol: bases and oracles, traces, and forgetting by moving chosen layers or all of them.

Every step is a list of jobs that are stored, so that a benchmark which was stopped goes on where it
was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from expunge.benchmarks.amnesia.work import MATCHED, SIZE, Forgetting, Tracing, map_of
from expunge.benchmarks.facts.people import REPORTED
from expunge.benchmarks.facts.work import Describing, Training
from expunge.benchmarks.facts.world import Place, Size
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.errors import ExpungeError
from expunge.methods.selective_amnesia import SelectiveAmnesia
from expunge.run import Run

TRACED, STRONGEST = "traced, last subject token", "traced, strongest token"
EARLY, LATE, RANDOM = "first layers", "last layers", "random layers"
EVERY_MLP, EVERYTHING = "every layer", "all weights"

CHOICES = (TRACED, STRONGEST, EARLY, LATE, RANDOM, EVERY_MLP, EVERYTHING)
"""What moves: the feed-forward parts of some layers, of all, or everything."""

STRIDES: Mapping[str, tuple[float, ...]] = {
    **dict.fromkeys(CHOICES, (0.12, 0.08, 0.05)),
    EVERY_MLP: (0.08, 0.12, 0.05),
    EVERYTHING: (0.03, 0.05, 0.02),
}
"""Shares of a typical weight that a step moves each weight by: the strength of each choice. The
first of each was found on draw 100; less moves, so each step leads further."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept.
        draws: how many draws of people, from 0.
        oracles: how many seeds of oracles of each draw.
        strides: how many of the strengths of each choice.
        processes: jobs that run at once.
        size: of every world.
    """

    folder: Path
    draws: int = 1
    oracles: int = 1
    strides: int = 1
    processes: int = 2
    size: Size = field(default_factory=lambda: SIZE)

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= len(REPORTED) or self.oracles < 1:
            raise ExpungeError(
                f"{self.draws} draws and {self.oracles} oracles were given; 1 to {len(REPORTED)} "
                "draws, since the others are there to choose on, and at least one oracle are "
                "expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        places = [Place(self.folder, draw, self.size) for draw in REPORTED[: self.draws]]
        gone = self.size.corner
        bases = [Training(place, 0, 0) for place in places]
        trained = self._jobs(
            [*bases, *(Training(p, gone, seed) for p in places for seed in range(self.oracles))],
            told,
        )
        described = self._jobs([Describing(job, gone) for job in trained], told)
        traces = self._jobs([Tracing(base, w) for base in bases for w in (1, None)], told)
        jobs = [
            Forgetting(base.place, base.seed, choice, layers, stride)
            for base in bases
            for choice, layers in self._layers(base, traces[Tracing(base, None)]).items()
            for stride in STRIDES[choice][: self.strides]
        ]
        found = self._jobs(jobs, told)
        return {
            "size": vars(self.size),
            "draws": self.draws,
            "matched": MATCHED,
            "references": [
                {"draw": job.place.draw, "without": job.without, "seed": job.seed}
                | dict(result)
                | dict(described[Describing(job, gone)])
                for job, result in trained.items()
            ],
            "traces": [
                {"draw": job.training.place.draw, "window": job.window} | dict(result)
                for job, result in traces.items()
            ],
            "runs": [_cell(job, result) for job, result in found.items()],
        }

    def _layers(self, base: Training, trace: Result) -> dict[str, tuple[int, ...] | None]:
        """The positions of the layers by choice, as many in each of the first five."""
        found, every = map_of(trace), range(self.size.layers)
        traced = SelectiveAmnesia().tracing.of(found)
        count = len(traced)
        draws = Run(base.place.draw).generator("amnesia/random layers")
        drawn = torch.randperm(self.size.layers, generator=draws)[:count].tolist()
        return {
            TRACED: traced,
            STRONGEST: SelectiveAmnesia(place=None).tracing.of(found),
            EARLY: tuple(every[:count]),
            LATE: tuple(every[-count:]),
            RANDOM: tuple(sorted(drawn)),
            EVERY_MLP: tuple(every),
            EVERYTHING: None,
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def _cell(job: Forgetting, result: Result) -> dict[str, Any]:
    layers = None if job.layers is None else list(job.layers)
    where = {"draw": job.place.draw, "seed": job.seed, "choice": job.choice, "layers": layers}
    return {**where, "stride": job.stride, **result}
