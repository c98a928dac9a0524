"""Workers that are killed at random moments, and what the ledger is after that."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from expunge.benchmarks.reliability import checks
from expunge.benchmarks.reliability.nursery import Nursery
from expunge.benchmarks.reliability.plan import Ask, Plan, Round
from expunge.benchmarks.reliability.sites import (
    Site,
    Sites,
    begun,
    calm,
    ids,
    made,
    waits,
    worked,
)
from expunge.ledger import Ledger, status
from expunge.ledger.chain import stamp

STARTING = "start of the worker"
STARTS = 1 / 3
"""Share of the kills that may land before a worker does anything; beyond it they come later: the
machine has become slower than when the span was measured."""
LATER, LATEST = 1.15, 5.0
"""By which factor, and up to which multiple of the span as it was measured."""
STRANGE = 10
"""Workers that end with an error before the rest is given up."""


@dataclass
class _Landed:
    """Kills by the step that they landed in, and what workers said that ended by themselves."""

    measured: float
    span: float = 0.0
    steps: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    workers: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.span = self.measured

    def at(self, step: str) -> None:
        """One more kill; the next ones come later where too many land before anything is done."""
        self.steps[step] += 1
        if self.steps[STARTING] > STARTS * self.steps.total():
            self.span = min(self.span * LATER, self.measured * LATEST)


def killed(
    sites: Sites, nursery: Nursery, kills: int, seed: int, told: Callable[[str], None]
) -> dict[str, Any]:
    """Kill workers until a number of kills landed while work was under way, then let one finish.

    Args:
        sites: where ledgers are made.
        nursery: forks and kills.
        kills: how many are to land.
        seed: of the rounds and of the moments; where a kill lands depends on the machine, too.
        told: is told what is done.

    Returns:
        JSON values: kills by step, seconds, and what every check found.
    """
    start = time.monotonic()
    span = _span(sites.site("aside"), nursery)
    told(f"one calm run takes {span:.2f} s from the fork; {kills} kills within that")
    site, plan = sites.site("kills"), Plan(seed, nursery.done(ids))
    draw = random.Random(f"moments {seed}")
    landed, receipts = _Landed(span), list[str]()
    for models, rounds in plan.generations():
        nursery.done(made, site, models)
        ledger = site.open()
        for its in rounds:
            receipts += [r for model, one in its for r in begun(ledger, model, one)]
            _worn_down(ledger, site, nursery, landed, kills, draw)
            if landed.steps.total() >= kills:
                break
        for model, one in plan.seals(models):
            begun(ledger, model, one)
        _worn_down(ledger, site, nursery, landed, kills, draw)
        ledger.database.close()
        told(f"{landed.steps.total()} of {kills} kills landed")
        if landed.steps.total() >= kills:
            break
    calmly = time.monotonic()
    weights = nursery.done(calm, sites.on_sqlite("calm"), plan.models, plan.drawn)
    told(f"the calm ledger took {time.monotonic() - calmly:.1f} s")
    found = nursery.done(checks.checked, site, list(plan.models), receipts, weights)
    if landed.strange:
        found["checks"]["every worker was killed or finished"] = landed.strange
    return {
        "kills": landed.steps.total(),
        "by step": dict(landed.steps.most_common()),
        "workers": landed.workers,
        "seconds of a worker": landed.seconds / max(1, landed.workers),
        "span measured": span,
        "span at the end": landed.span,
        "models": len(plan.models),
        "seconds": time.monotonic() - start,
        **found,
    }


def _span(site: Site, nursery: Nursery) -> float:
    """Seconds from the fork of a worker to its end after one run; the tables of the workflows are
    there already."""
    nursery.done(made, site, {"span": "open"})
    ledger = site.open()
    for row in nursery.done(ids)[:2]:
        begun(ledger, "span", Round((Ask("id", (row,), "negation", None),)))
        ended = nursery.end(nursery.fork(worked, site))
    ledger.database.close()
    return ended.seconds


def _worn_down(
    ledger: Ledger,
    site: Site,
    nursery: Nursery,
    landed: _Landed,
    kills: int,
    draw: random.Random,
) -> None:
    """Start workers until nothing waits, each killed at a moment of the span while kills are
    left."""
    while waits(ledger):
        left = landed.steps.total() < kills
        forked = stamp(datetime.now(UTC))
        process = nursery.fork(worked, site)
        ended = nursery.end(process, draw.uniform(0.0, landed.span) if left else None)
        landed.workers += 1
        landed.seconds += ended.seconds
        if ended.killed and waits(ledger):
            landed.at(_step(ledger, forked))
        elif ended.said or ended.raised or "interrupted" in (ended.result or {}).values():
            landed.strange.append(ended.said or ended.raised or "a run was left interrupted")
            if len(landed.strange) > STRANGE:
                return  # what waits then is found by the checks


def _step(ledger: Ledger, forked: str) -> str:
    """Where the run stands that was told of last; nowhere, if that was before the fork."""
    told: list[Mapping[str, Any]] = [run for run in status(ledger)["runs"] if run["since"] > forked]
    return str(max(told, key=lambda run: run["since"])["step"]) if told else STARTING
