"""A long queue: how fast requests are taken, and how long it takes to look at them."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from expunge.benchmarks.reliability.sites import Site, worked
from expunge.ledger import Scope, Submission, history, status, submit

MODEL = "queue"
LOOKS = 3
"""Times that each look is taken; the median counts."""


def queued(site: Site, requests: int, ids: Sequence[str]) -> dict[str, Any]:
    """Submit requests one after another, then look; wall and processor seconds as JSON values."""
    ledger = site.open()
    for row in ids[:LOOKS]:  # a few versions, so that there is a history
        submit(ledger, MODEL, _asking(row))
    ledger.database.close()
    worked(site)
    start, cpu = time.monotonic(), time.process_time()
    for i in range(requests):
        submit(ledger, MODEL, _asking(ids[i % len(ids)]))
    seconds, used = time.monotonic() - start, time.process_time() - cpu
    found = status(ledger)["models"][MODEL]["requests"]["received"]
    return {
        "requests": requests,
        "received": found,
        "per second": requests / seconds,
        "processor ms each": 1000 * used / requests,
        "status s": _timed(lambda: status(ledger)),
        "history s": _timed(lambda: history(ledger, MODEL)),
    }


def _asking(row: str) -> Submission:
    return Submission(Scope("request", "id", (row,)))


def _timed(look: Any) -> float:
    def once() -> float:
        start = time.monotonic()
        look()
        return time.monotonic() - start

    return median(once() for _ in range(LOOKS))
