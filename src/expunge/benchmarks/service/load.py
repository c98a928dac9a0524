"""Many clients at once: how long each kind of call takes, and what fails.

A worker works on what is submitted meanwhile, as it would; what it has not come to when the last
call is answered waits in the ledger.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.benchmarks.reliability.sites import Site, waits
from expunge.benchmarks.service.calls import Client, clients_of, receipts_of, wrong_of
from expunge.benchmarks.service.site import made, running, unclean
from expunge.errors import ExpungeError
from expunge.ledger import Ledger, verify
from expunge.ledger.actions import asker
from expunge.ledger.rows import rows

POLL = 0.5
"""Seconds between two looks whether everything is answered."""


def loaded(
    folder: Path,
    url: str | None,
    clients: int,
    calls: int,
    seed: int,
    told: Callable[[str], None],
) -> dict[str, Any]:
    """Serve a ledger, have clients call it, and verify it.

    Args:
        folder: where the ledger is made.
        url: of a PostgreSQL database; None for SQLite.
        clients: at once.
        calls: of all together.
        seed: of what they ask.
        told: is told what is done.

    Returns:
        JSON values: seconds by kind, what went wrong, and what every check found.
    """
    site, keys = made(folder, url)
    with running(site, folder) as (server, worker):
        told(f"serving on {server.url}; {clients} clients make {calls:,} calls")
        made_by = clients_of(server.url, keys, seed, min(clients, calls))
        start = time.perf_counter()
        asyncio.run(_together(made_by, calls))
        seconds = time.perf_counter() - start
        told(f"{calls:,} calls in {seconds:.1f} s; the ledger is verified")
        ended = unclean(server, worker)
    found = _checked(site, receipts_of(made_by))
    found["checks"]["both processes end when they are asked"] = ended
    return {
        "clients": len(made_by),
        "calls": calls,
        "seconds": seconds,
        "per second": calls / seconds,
        "by kind": by_kind([pair for client in made_by for pair in client.seconds]),
        "wrong": wrong_of(made_by),
        **found,
    }


async def _together(clients: Sequence[Client], calls: int) -> None:
    share, more = divmod(calls, len(clients))
    await asyncio.gather(*(client.work(share + (n < more)) for n, client in enumerate(clients)))


def _checked(site: Site, receipts: Sequence[str]) -> dict[str, Any]:
    """Whether all that was taken is there, once, and the ledger is as it was written."""
    ledger = site.open()
    with ledger.database.reading() as connection:
        states = {row["id"]: row["state"] for row in rows(connection, "requests")}
    verified = verify(ledger)
    ledger.database.close()
    return {
        "requests": dict(Counter(states.values())),
        "events": verified.events,
        "objects": verified.objects,
        "checks": {
            "no request is lost": sorted(set(receipts) - set(states)),
            "no request was never taken": sorted(set(states) - set(receipts)),
            "a key is one request": [r for r, n in Counter(receipts).items() if n > 1],
            "verify holds": list(verified.faults),
            "every request has somebody who asked": unasked(site, receipts),
        },
    }


def answered(site: Site, worker_alive: Callable[[], bool], patience: float = 600.0) -> float:
    """Wait until nothing waits any more; the seconds that it took.

    Raises:
        ExpungeError: the worker ended, or it takes too long.
    """
    ledger, start = site.open(), time.monotonic()
    try:
        while waits(ledger):
            if not worker_alive():
                raise ExpungeError("The worker has ended by itself; the log has what it said.")
            if time.monotonic() - start > patience:
                raise ExpungeError(f"Not everything was answered within {patience:.0f} s.")
            time.sleep(POLL)
    finally:
        ledger.database.close()
    return time.monotonic() - start


def unasked(site: Site, receipts: Sequence[str]) -> list[str]:
    """Requests of which no action says who asked."""
    ledger: Ledger = site.open()
    found = [f"request {r}" for r in receipts if asker(ledger, r) is None]
    ledger.database.close()
    return found


def by_kind(seconds: Sequence[tuple[str, float]]) -> dict[str, Mapping[str, float]]:
    """Calls, and seconds at the 50th, 95th and 99th percentile and at most; all, and each kind."""
    kinds = ["all", *sorted({kind for kind, _ in seconds})]
    return {kind: _percentiles([s for own, s in seconds if kind in ("all", own)]) for kind in kinds}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """The smallest value that so many of a hundred do not exceed."""
    ordered = sorted(values)
    if not ordered:
        return {"calls": 0}
    found: dict[str, float] = {"calls": len(ordered)}
    for share in (50, 95, 99):
        found[f"p{share}"] = ordered[max(0, -(-len(ordered) * share // 100) - 1)]
    return {**found, "most": ordered[-1]}
