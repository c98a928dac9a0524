"""The whole benchmark: kills, faults and a long queue, with what holds."""

import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarks.reliability import faults, killing, queue
from expunge.benchmarks.reliability.nursery import Nursery
from expunge.benchmarks.reliability.sites import Server, Sites, ids, made
from expunge.errors import ExpungeError
from expunge.ledger import Ledger

QUICK, FULL = (50, 1_000), (1_000, 10_000)
"""Kills, and requests in the queue."""


@dataclass(frozen=True)
class Protocol:
    """What is done.

    Args:
        kills: that are to land while work is under way.
        requests: in the queue.
        seed: of requests and moments.
        url: of a PostgreSQL database without a ledger; None for SQLite.
        out: where the ledgers are kept, an empty folder; None for one that is removed.
        server: that holds the database, where it may be stopped.
    """

    kills: int
    requests: int
    seed: int = 0
    url: str | None = None
    out: Path | None = None
    server: Server | None = None

    def conduct(self, told: Callable[[str], None]) -> dict[str, Any]:
        """JSON values: what was found, and processor seconds of all processes.

        Raises:
            ExpungeError: the folder is not empty, or the database holds a ledger.
        """
        start, used = time.monotonic(), _processor()
        with ExitStack() as stack:
            folder = self.out
            if folder is None:
                made_here = tempfile.TemporaryDirectory(prefix="expunge-reliability-")
                folder = Path(stack.enter_context(made_here))
            sites = Sites(self._empty(folder), self.url, self.server)
            with Nursery(folder / "log.txt") as nursery:
                told("every module is imported once; workers are forked from there")
                killed = killing.killed(sites, nursery, self.kills, self.seed, told)
                found = faults.outcomes(sites, nursery, told)
                site = sites.site("queue")
                nursery.done(made, site, {queue.MODEL: "open"})
                queued = nursery.done(queue.queued, site, self.requests, nursery.done(ids))
        return {
            "database": "SQLite" if self.url is None else "PostgreSQL",
            "seed": self.seed,
            "killed": killed,
            "faults": found,
            "queue": queued,
            "seconds": time.monotonic() - start,
            "processor seconds": _processor() - used,
        }

    def _empty(self, folder: Path) -> Path:
        if folder.exists() and any(folder.iterdir()):
            raise ExpungeError(
                f"The folder {folder} is not empty; give one that is empty or absent."
            )
        folder.mkdir(parents=True, exist_ok=True)
        if self.url is None:
            return folder.absolute()
        if self.url.startswith("sqlite"):
            raise ExpungeError(
                f"The URL {self.url} was given; postgresql://... is expected, and without one "
                "SQLite is used."
            )
        try:
            ledger = Ledger.open(self.url, folder / "keys")
        except ExpungeError as error:
            if "holds no ledger" in str(error):
                return folder.absolute()
            raise
        raise ExpungeError(
            f"{ledger.database.shown} holds a ledger; give a database of its own, which is "
            "thrown away afterwards."
        )


def holds(result: dict[str, Any]) -> bool:
    """Whether every check and every fault came out as it should."""
    checks = result["killed"]["checks"].values()
    return not any(checks) and all(outcome["holds"] for outcome in result["faults"])


def _processor() -> float:
    """Processor seconds of this process and of all that it waited for."""
    own, others = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
