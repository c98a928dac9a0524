"""A thousand requests on a ridge head against the retrained one, and what baselines leave.

Tang et al. (2025), ACU. On features of a frozen backbone, the ridge chosen on validation rows:
a stream of requests for rows and whole classes that go and come, in any order; the card's corner
where fewer rows than features are left, and the recursion has to be guarded; and, beside the
original and the retrained head, gradient ascent and fine-tuning of the head on the loss that it was
learned with, their rates chosen on validation rows, after a class and after requests in a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarks.acu.places import PLACES, QUICK, place
from expunge.benchmarks.acu.work import (
    MOST,
    REQUESTS,
    RIDGES,
    Beside,
    Choosing,
    Emptying,
    Streaming,
)
from expunge.benchmarks.jobs import Result, Some, Told, by_job
from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where results are kept; a stopped run goes on there.
        places: names of :data:`~expunge.benchmarks.acu.places.PLACES`.
        seeds: number of seeds, from 0.
        processes: jobs that run at once.
    """

    folder: Path
    places: tuple[str, ...] = QUICK
    seeds: int = 3
    processes: int = 2

    def __post_init__(self) -> None:
        for name in self.places:
            if name not in PLACES or self.places.count(name) > 1:
                raise ExpungeError(
                    f"The places {', '.join(self.places)} were given; each of "
                    f"{', '.join(PLACES)} at most once is expected."
                )
        if not self.places or self.seeds < 1:
            raise ExpungeError(
                f"{len(self.places)} places and {self.seeds} seeds were given; at least one of "
                "each is expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        return {
            "seeds": self.seeds,
            "requests": REQUESTS,
            "most rows": MOST,
            "places": {name: self._of(name, told) for name in self.places},
        }

    def _of(self, name: str, told: Told) -> dict[str, Any]:
        here, seeds = place(name), range(self.seeds)
        [choice] = self._jobs([Choosing(name, here.digest)], told)
        ridge = float(choice["ridge"])
        return {
            "about": here.about,
            "ridge": ridge,
            "ridges": dict(zip(map(str, RIDGES), choice["accuracy"], strict=True)),
            "stream": self._jobs([Streaming(name, here.digest, ridge, s) for s in seeds], told),
            "smallest ridge": self._jobs([Streaming(name, here.digest, RIDGES[0], 0)], told),
            "few rows": self._jobs([Emptying(name, here.digest, s) for s in seeds], told),
            "beside": {
                kind: self._jobs([Beside(name, here.digest, ridge, kind, s) for s in seeds], told)
                for kind in ("class", "rows")
            },
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> list[Result]:
        found: Mapping[Some, Result] = by_job(jobs, self.folder / "results", self.processes, told)
        return [found[job] for job in jobs]
