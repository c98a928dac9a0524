"""A server and a worker that are killed while requests come: what was taken must be answered.

A client whose call is cut asks again under the same key, as a program should. So every key that was
ever sent ends as one request, whether the server was killed before it was taken, after that, or
while the answer was on its way.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from expunge.benchmarks.reliability import checks
from expunge.benchmarks.reliability.sites import Site
from expunge.benchmarks.service.calls import Client, clients_of, receipts_of, wrong_of
from expunge.benchmarks.service.load import answered, unasked
from expunge.benchmarks.service.site import MODEL, Process, Server, made, running, unclean
from expunge.ledger import Ledger, status
from expunge.ledger.queueing import QUEUED, RUNNING

BETWEEN = (1.0, 4.0)
"""Seconds between two submissions of a client."""
MOMENTS = (0.0, 2.0)
"""Seconds from when clients are answered again, or the worker is at a step, until the kill."""
SHARE = 0.5
"""Of the clients, how many are to be answered before a kill."""
PATIENCE = 120.0
"""Seconds that a kill waits for that at most."""
PAUSE = 0.5
"""Seconds until a client whose call was cut asks again."""


@dataclass(frozen=True)
class Ends:
    """When clients end: ``soon``, when what they ask for is taken, or ``at_once``."""

    soon: threading.Event = field(default_factory=threading.Event)
    at_once: threading.Event = field(default_factory=threading.Event)


def killed(
    folder: Path,
    url: str | None,
    clients: int,
    kills: int,
    seed: int,
    told: Callable[[str], None],
) -> dict[str, Any]:
    """Kill the server and the worker by turns while clients submit, then let both finish.

    Args:
        folder: where the ledger is made.
        url: of a PostgreSQL database; None for SQLite.
        clients: that submit at once.
        kills: of both together.
        seed: of what is asked and when is killed; where a kill lands depends on the machine, too.
        told: is told what is done.

    Returns:
        JSON values: kills, calls that were cut, and what every check found.
    """
    site, keys = made(folder, url)
    with running(site, folder) as (server, worker):
        made_by = clients_of(server.url, keys, seed, clients)
        ends = Ends()
        asking = threading.Thread(target=lambda: asyncio.run(_asking(made_by, ends)), name="asking")
        asking.start()
        try:
            landed = _Killer(site, server, worker, made_by, random.Random(f"moments {seed}")).kill(
                kills, told
            )
        except BaseException:
            ends.at_once.set()  # nobody may ever answer what is being asked
            raise
        finally:
            ends.soon.set()
            asking.join()
        told(f"{sum(len(c.receipts) for c in made_by)} requests were taken; waiting for the worker")
        waited = answered(site, lambda: worker.alive)
        ended = unclean(server, worker)
    receipts = receipts_of(made_by)
    found = checks.checked(site, [MODEL], receipts, {})
    found["checks"].pop("the weights are those of the calm ledger")  # there is none here
    found["checks"]["every key is one request"] = _keys(made_by, receipts)
    found["checks"]["every request has somebody who asked"] = unasked(site, receipts)
    found["checks"]["both processes end when they are asked"] = ended
    return {
        "clients": clients,
        "taken": len(receipts),
        "kills": dict(landed),
        "cut": wrong_of(made_by),
        "answered after s": waited,
        **found,
    }


def _keys(clients: Sequence[Client], receipts: Sequence[str]) -> list[str]:
    sent, found = sum(len(client.bodies) for client in clients), []
    if sent != len(receipts):
        found.append(f"{sent} keys were sent, and {len(receipts)} were answered")
    if len(set(receipts)) != len(receipts):
        found.append(f"{len(receipts)} keys have {len(set(receipts))} requests")
    return found


@dataclass(frozen=True)
class _Killer:
    """Kills at moments that follow what is done, whatever the speed of the machine."""

    site: Site
    server: Server
    worker: Process
    clients: Sequence[Client]
    draw: random.Random

    def kill(self, kills: int, told: Callable[[str], None]) -> Counter[str]:
        """Kill server and worker by turns, and begin each again; where the kills landed."""
        landed: Counter[str] = Counter()
        ledger = self.site.open()
        for number in range(kills):
            self._wait(self._taken() + max(1, round(SHARE * len(self.clients))))
            if number % 2:
                landed[f"worker at {self._at_work(ledger)}"] += 1
                self.worker.kill()
                self.worker.start()
            else:
                time.sleep(self.draw.uniform(*MOMENTS))
                landed["server"] += 1
                self.server.kill()
                self.server.start()
            told(f"{number + 1} of {kills} kills")
        ledger.database.close()
        return landed

    def _taken(self) -> int:
        return sum(len(client.receipts) for client in self.clients)

    def _wait(self, taken: int) -> None:
        """Until so many requests were taken."""
        end = time.monotonic() + PATIENCE
        while self._taken() < taken and time.monotonic() < end:
            time.sleep(PAUSE)

    def _at_work(self, ledger: Ledger) -> str:
        """Wait until the worker works, and a moment more; the steps that it is at then."""
        end = time.monotonic() + PATIENCE
        while not _steps(ledger) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(self.draw.uniform(*MOMENTS))
        return " and ".join(_steps(ledger)) or "no step"


def _steps(ledger: Ledger) -> list[str]:
    """The steps that runs are at; none where none has begun its first."""
    found = [run["step"] for run in status(ledger)["runs"] if run["state"] == RUNNING]
    return sorted({step for step in found if step != QUEUED})


async def _asking(clients: Sequence[Client], ends: Ends) -> None:
    await asyncio.gather(*(_submitting(client, ends) for client in clients))


async def _submitting(client: Client, ends: Ends) -> None:
    """Submit until it is to end; each submission until it is taken."""
    async with client.http:
        while not ends.soon.is_set():
            await asyncio.sleep(client.draw.uniform(*BETWEEN))
            key = f"{client.number}-{len(client.receipts)}"
            while key not in client.receipts and not ends.at_once.is_set():
                try:
                    fault = await client.submit(key)
                except httpx.HTTPError as error:
                    fault = type(error).__name__
                if fault is not None:
                    client.wrong[fault] += 1
                    await asyncio.sleep(PAUSE)
