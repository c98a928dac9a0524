"""How good training in slices is beside joint training, how long it serves, whether it leaks.

A backbone is trained on public rows. On private rows it is fine-tuned jointly (all weights, and
low-rank factors), slice by slice in one shard, and in shards by S3T and SISA. Learning rates are
chosen on validation rows, on the first seed, among equally many for each kind. Then rows are
removed: one by one in random order, and all rows of one slice of each shard at once, after which
an attack looks for them, beside the models that were trained without them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarks.jobs import Told, by_job
from expunge.benchmarks.sharded.room import ROOMS, room
from expunge.benchmarks.sharded.work import (
    ASKED,
    RATES,
    SHARDS,
    SLICES,
    Place,
    Reading,
    Training,
    asked_rows,
    backbone,
)
from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        name: a name of :data:`ROOMS`.
        rows: private rows; all that the room has where None.
        seeds: number of seeds, from 0.
        streams: orders of removals that are simulated for each seed.
        processes: jobs that run at once.
    """

    folder: Path
    name: str = "clothes"
    rows: int | None = None
    seeds: int = 3
    streams: int = 100
    processes: int = 2

    def __post_init__(self) -> None:
        if self.name not in ROOMS:
            raise ExpungeError(
                f"There is no room {self.name!r} here; there are {', '.join(ROOMS)}."
            )
        if self.rows is not None and self.rows < SHARDS * SLICES:
            raise ExpungeError(
                f"{self.rows} rows were asked for and are to be divided into {SHARDS} shards of "
                f"{SLICES} slices; at least {SHARDS * SLICES} are expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        its = room(self.name, self.rows)
        place = Place(self.name, self.rows, its.digest, self.folder)
        results = self.folder / "results"
        by_job([backbone(place)], results, self.processes, told)
        tried = [Training(place, kind, rate, 0) for kind, all_ in RATES.items() for rate in all_]
        found = by_job(tried, results, self.processes, told)
        rates = tuple(
            (kind, max(all_, key=lambda rate: found[Training(place, kind, rate, 0)]["validation"]))
            for kind, all_ in RATES.items()
        )
        readings = [Reading(place, rates, seed, self.streams) for seed in range(self.seeds)]
        by_job([t for one in readings for t in one.trainings()], results, self.processes, told)
        seen = by_job(readings, results, self.processes, told)
        return {
            "room": self.name,
            "about": its.about,
            "rows": {"private": len(its.private), "test": len(its.test)},
            "asked rows": [len(asked_rows(its.private, seed)) for seed in range(self.seeds)],
            "asked": [list(slot) for slot in ASKED],
            "shards": SHARDS,
            "slices": SLICES,
            "seeds": self.seeds,
            "streams": self.streams,
            "tried": {
                kind: {f"{r:g}": found[Training(place, kind, r, 0)]["validation"] for r in all_}
                for kind, all_ in RATES.items()
            },
            "rates": dict(rates),
            "by seed": [dict(seen[one]) for one in readings],
        }
