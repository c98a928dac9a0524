"""Which models are trained, what answers the request, and what is expected of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.audit.case import digest_of_rooms
from expunge.benchmarks.dmm.work import (
    BASELINES,
    DIRECT,
    ESTIMATES,
    FLOOR,
    MATCHED,
    MEANS,
    OM,
    ORIGINAL,
    RIDGE,
    SCALED,
    SHUFFLED,
    Attributing,
    Halving,
    Populating,
    Unlearning,
)
from expunge.benchmarks.dmm.world import BLOCK, FIRST_SEED, Place
from expunge.benchmarks.jobs import Job, Result, Told, by_job
from expunge.errors import ExpungeError

QUICK, FULL = (40, 2000), (100, 4000)
"""Originals and oracles, and half-data models."""

KEPT = 1.5
"""P95 of KLoM on retain rows that a method may have at most to count."""

BELOW_ASCENT, ABOVE_FLOOR, CORRELATED = 0.35, 3.0, 0.8
"""What is expected: P95 on forget rows as a share of the best ascent's, and as a multiple of the
floor's; the correlation of predicted and true changes of mean logits."""

CODE = ("changes", "data", "descent", "families", "learning", "models", "signals")
"""Rooms that results depend on, beside the methods that are compared."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept; a stopped run goes on there.
        models: originals; as many oracles; and as many further oracles.
        half_models: models of the datamodels, a multiple of 500.
        processes: jobs that run at once.
    """

    folder: Path
    models: int = QUICK[0]
    half_models: int = QUICK[1]
    processes: int = 1

    def __post_init__(self) -> None:
        if self.models < 20 or self.half_models < BLOCK or self.half_models % BLOCK:
            raise ExpungeError(
                f"{self.models} models and {self.half_models} half-data models were given; at "
                f"least 20, and a multiple of {BLOCK}, are expected."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        place = Place(self.folder, digest_of_rooms((*CODE, "methods", "benchmarks/dmm")))
        training: list[Job] = [Populating(place, kind, self.models) for kind in FIRST_SEED]
        training += [Halving(place, block) for block in range(self.half_models // BLOCK)]
        trained = self._jobs(training, told)
        attributing = Attributing(place, self.models, self.half_models)
        found = self._jobs([attributing], told)[attributing]
        attributions = found["attributions"]
        jobs = [
            Unlearning(place, row, setting, self.models, self.half_models, scale)
            for row, setting, scale in _rows(attributions)
        ]
        results = self._jobs(jobs, told)
        rows = {job.title: {"row": job.row, "setting": job.setting, **results[job]} for job in jobs}
        shown = {name: rows[title] for name, title in _shown(rows).items()}
        return {
            "models": self.models,
            "half-data models": self.half_models,
            "seconds of training": sum(result["seconds"] for result in trained.values()),
            "attributions": attributions,
            "every setting": rows,
            "rows": shown,
            "checks": checks(shown, attributions),
        }

    def _jobs(self, jobs: Sequence[Any], told: Told) -> dict[Any, Result]:
        return by_job(jobs, self.folder / "results", self.processes, told)


def _rows(attributions: Mapping[str, Any]) -> list[tuple[str, float | str, float]]:
    """Row, setting and scale of everything that answers the request."""
    baselines = [(name, rate, 1.0) for name, rates in BASELINES.items() for rate in rates]
    sound = [name for name in ESTIMATES if name != SHUFFLED]
    return [
        (ORIGINAL, "", 1.0),
        (FLOOR, "", 1.0),
        *baselines,
        (OM, "", 1.0),
        *((MATCHED, name, 1.0) for name in ESTIMATES),
        *((SCALED, name, attributions[name]["scale"]) for name in sound),
        *((DIRECT, name, 1.0) for name in (MEANS, RIDGE)),
    ]


def _shown(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Of each baseline the best setting, by the name in the table; all others as they are."""
    found = {}
    for title, its in rows.items():
        if its["row"] not in BASELINES:
            found[title] = title
        elif its["row"] not in found:
            found[its["row"]] = best(rows, its["row"])
    return found


def best(rows: Mapping[str, Mapping[str, Any]], row: str) -> str:
    """The setting of a baseline that has the lowest P95 on forget rows of those that keep that of
    retain rows below :data:`KEPT`; of all, the one that keeps it best where none does."""
    sound = {t: its["sets"] for t, its in rows.items() if its["row"] == row and "sets" in its}
    kept = [title for title, sets in sound.items() if sets["retain"]["p95"] < KEPT]
    if not kept:
        return min(sound, key=lambda title: sound[title]["retain"]["p95"])
    return min(kept, key=lambda title: sound[title]["forget"]["p95"])


def checks(rows: Mapping[str, Any], attributions: Mapping[str, Any]) -> dict[str, bool]:
    """What is expected, and whether it was so."""

    def forget(name: str) -> float:
        return float(rows[name]["sets"]["forget"]["p95"])

    matched = [forget(f"{MATCHED}, {name}") for name in (MEANS, RIDGE)]
    wrong, ascent = forget(f"{MATCHED}, {SHUFFLED}"), forget("gradient-ascent")
    return {
        f"DMM's P95 on forget rows is below {BELOW_ASCENT} of the best ascent's": (
            max(matched) < BELOW_ASCENT * ascent
        ),
        f"it is within {ABOVE_FLOOR:g} times the floor": max(matched) < ABOVE_FLOOR * forget(FLOOR),
        f"it keeps P95 on retain rows below {KEPT}": all(
            rows[f"{MATCHED}, {name}"]["sets"]["retain"]["p95"] < KEPT for name in (MEANS, RIDGE)
        ),
        f"predicted and true changes correlate above {CORRELATED}": all(
            attributions[name]["correlation"] > CORRELATED for name in (MEANS, RIDGE)
        ),
        "the attribution of other rows does not work": wrong > 0.5 * forget(ORIGINAL),
        "the original is far above the best ascent, DMM and the floor": (
            forget(ORIGINAL) > ascent > max(matched) > forget(FLOOR)
        ),
    }
