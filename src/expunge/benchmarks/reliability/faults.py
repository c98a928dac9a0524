"""Faults on purpose: what the ledger says, in which state it is left, and whether it resumes."""

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self
from unittest import mock

from expunge.benchmarks.reliability.nursery import Ended, Nursery
from expunge.benchmarks.reliability.plan import Ask
from expunge.benchmarks.reliability.sites import POLL, Server, Site, Sites, asked, ids, made, worked
from expunge.errors import ExpungeError
from expunge.ledger import Ledger, chain, status, vault, verify
from expunge.ledger.rows import rows
from expunge.ledger.steps import read_history

MODEL = "faulty"
BACK = timedelta(days=400)
"""How far the clock goes back."""
UNDER_WAY = 60.0
"""Seconds in which a worker must have begun a run (it does within one), and that it is held."""


@dataclass(frozen=True)
class Outcome:
    """What a fault led to.

    Args:
        fault: what was done.
        said: the sentence or the state that it led to.
        afterwards: what came of the request when the fault was gone.
        holds: whether both are as they should be, and the ledger verifies.
    """

    fault: str
    said: str
    afterwards: str
    holds: bool


def outcomes(sites: Sites, nursery: Nursery, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every fault after the other on one ledger, as JSON values."""
    site = sites.site("aside")
    nursery.done(made, site, {MODEL: "open"})
    trial = _Trial(site, nursery, iter(nursery.done(ids)))
    found = [
        trial.full(3, "the store is full for three writes"),
        trial.full(None, "the store is read-only"),
        trial.backwards(),
        trial.two_workers(sqlite=sites.url is None),
        trial.corrupted(),
        trial.keyless(),
    ]
    if sites.url is None:
        found.insert(2, trial.database_full())
    elif sites.server is not None:
        found.append(trial.stopped(sites.server))
    for outcome in found:
        told(f"{outcome.fault}: {outcome.said}; {outcome.afterwards}")
    return [asdict(outcome) for outcome in found]


@dataclass
class _Trial:
    site: Site
    nursery: Nursery
    ids: Iterator[str]

    def full(self, writes: int | None, fault: str) -> Outcome:
        """Writes of objects fail in the middle of a run: some, or all for as long as it lives."""
        request = self.request()
        ended = self.nursery.end(self.nursery.fork(_worked_without_space, self.site, writes))
        left = self.state(request)
        return self.judged(fault, request, _said(ended, left), ended.raised is None)

    def database_full(self) -> Outcome:
        """The database takes no further page in the middle of a run."""
        request = self.request()
        ended = self.nursery.end(self.nursery.fork(_worked_without_pages, self.site))
        said = _said(ended, self.state(request))
        return self.judged("the database is full", request, said, ended.raised is None)

    def backwards(self) -> Outcome:
        """The clock of a worker is behind that of the ledger."""
        request = self.request()
        ended = self.nursery.end(self.nursery.fork(_worked_before, self.site))
        ledger = self.site.open()
        with ledger.database.reading() as connection:
            times = [each.at for each in chain.events(connection)]
        ledger.database.close()
        said = _said(ended, self.state(request))
        return self.judged("the clock goes back by 400 days", request, said, times == sorted(times))

    def two_workers(self, sqlite: bool) -> Outcome:
        """A second worker beside one: refused on SQLite; on PostgreSQL it takes over."""
        request = self.request()
        first = self.held()
        second = self.nursery.fork(worked, self.site)
        if sqlite:
            refused = self.nursery.end(second)
            self.gate.touch()
            self.nursery.end(first)
            said = refused.said or "the second was not refused"
            return self.judged("two workers", request, said, "Another worker" in said)
        self.nursery.end(first, 0.0)
        ended = self.nursery.end(second)
        said = f"the first was killed, the second worked on ({self.state(request)})"
        return self.judged(
            "two workers", request, said, ended.said is None and self.state(request) == "published"
        )

    def corrupted(self) -> Outcome:
        """One byte of an object of the history is another."""
        ledger = self.site.open()
        path = Path(self.site.store) / _path_of_delta(ledger)
        ledger.database.close()
        _flipped(path)
        named = self.nursery.done(_faults, self.site)
        request = self.request()
        ended = self.nursery.end(self.nursery.fork(worked, self.site))
        said = f"verify: {named[0] if named else 'nothing'}; {_said(ended, self.state(request))}"
        _flipped(path)
        return self.judged(
            "a byte of an object is changed", request, said, any(path.name in n for n in named)
        )

    def keyless(self) -> Outcome:
        """The master key is not where it was."""
        request = self.request()
        key, away = self.site.keys / "master.key", self.site.keys / "master.away"
        key.rename(away)
        ended = self.nursery.end(self.nursery.fork(worked, self.site))
        away.rename(key)
        said = ended.said or "the ledger opened without a key"
        return self.judged("the master key is missing", request, said, ended.said is not None)

    def stopped(self, server: Server) -> Outcome:
        """The database stops in the middle of a run, and comes back when the worker has ended."""
        request = self.request()
        process = self.held()
        server.stop()
        self.gate.touch()
        ended = self.nursery.end(process, UNDER_WAY)
        server.start()
        said = (
            "the worker did not end by itself"
            if ended.killed
            else _said(ended, "the store was away")
        )
        return self.judged(
            "the database stops", request, said, not ended.killed and ended.raised is None
        )

    def request(self) -> str:
        """A new request; its id."""
        ledger = self.site.open()
        found = asked(ledger, MODEL, Ask("id", (next(self.ids),), "negation", None))
        ledger.database.close()
        return found

    def state(self, request: str) -> str:
        """Of a request, or of its run where that was interrupted."""
        ledger = self.site.open()
        with ledger.database.reading() as connection:
            [row] = rows(connection, "requests", id=request)
            runs = [r for r in rows(connection, "runs") if request in r["requests"]]
        ledger.database.close()
        interrupted = any(run["state"] == "interrupted" for run in runs)
        return f"{row['state']}, the run interrupted" if interrupted else str(row["state"])

    @property
    def gate(self) -> Path:
        """The file that a held worker waits for."""
        return self.site.keys.parent / "gate"

    def held(self) -> int:
        """A worker in the middle of a run, which goes on when the gate is there; its process."""
        self.gate.unlink(missing_ok=True)
        process = self.nursery.fork(_worked_when, self.site, self.gate)
        ledger, end = self.site.open(), time.monotonic() + UNDER_WAY
        while not any(r["state"] == "running" for r in status(ledger)["runs"]):
            if time.monotonic() > end:
                raise ExpungeError(
                    "No worker began a run within a minute; run this again on a quieter machine."
                )
            time.sleep(POLL)
        ledger.database.close()
        return process

    def judged(self, fault: str, request: str, said: str, clear: bool) -> Outcome:
        """Let a worker finish that nothing disturbs, and verify the ledger."""
        ended = self.nursery.end(self.nursery.fork(_finished, self.site))
        state, wrong = self.state(request), [*(ended.result or ())]
        if ended.said or ended.raised:
            wrong.append(ended.said or str(ended.raised))
        afterwards = "; ".join([f"then {state}", *wrong])
        return Outcome(fault, said, afterwards, clear and state == "published" and not wrong)


def _said(ended: Ended, state: str) -> str:
    if ended.raised is not None:
        return f"an error without a sentence: {ended.raised.strip().splitlines()[-1]}"
    return f"{ended.said} ({state})" if ended.said else f"the request is {state}"


def _faults(site: Site) -> list[str]:
    return list(verify(site.open()).faults)


def _finished(site: Site) -> list[str]:
    """What is wrong after a worker has done what was left."""
    worked(site)
    return _faults(site)


def _worked_when(site: Site, gate: Path) -> dict[str, str]:
    """A worker's work that stands still before an object is written until a file is there."""
    kept = vault.Folder.keep

    def keep(folder: vault.Folder, staged: Path, path: str) -> None:
        end = time.monotonic() + UNDER_WAY
        while not gate.exists() and time.monotonic() < end:
            time.sleep(POLL)
        kept(folder, staged, path)

    with mock.patch.object(vault.Folder, "keep", keep):
        return worked(site)


def _worked_without_space(site: Site, writes: int | None) -> dict[str, str]:
    """A worker's work while objects cannot be written: from the second on, so many or all."""
    kept, count = vault.Folder.keep, iter(range(10**9))
    code = errno.EROFS if writes is None else errno.ENOSPC

    def keep(folder: vault.Folder, staged: Path, path: str) -> None:
        number = next(count)
        if number >= 1 and (writes is None or number <= writes):
            raise OSError(code, os.strerror(code))
        kept(folder, staged, path)

    with mock.patch.object(vault.Folder, "keep", keep):
        return worked(site)


def _worked_without_pages(site: Site) -> dict[str, str]:
    """A worker's work on a SQLite file that must not grow by more than one page."""
    plain, limits = sqlite3.connect, list[int]()

    def connect(*arguments: Any, **options: Any) -> Any:
        made = plain(*arguments, **options)
        limits.append(made.execute("PRAGMA page_count").fetchone()[0] + 1)
        made.execute(f"PRAGMA max_page_count = {limits[0]}")
        return made

    with mock.patch.object(sqlite3, "connect", connect):
        return worked(site)


class _Behind(datetime):
    """A clock that is behind."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Then."""
        return super().now(tz) - BACK


def _worked_before(site: Site) -> dict[str, str]:
    with mock.patch.object(chain, "datetime", _Behind):
        return worked(site)


def _path_of_delta(ledger: Ledger) -> Path:
    """Where the latest change of the current version lies in the store."""
    with ledger.database.reading() as connection:
        [model] = rows(connection, "models", name=MODEL)
        [version] = rows(connection, "versions", model=model["id"], number=model["version"])
    *_, answer = read_history(ledger, version["history"]).answers()
    address = answer.changes[0].address
    return Path(address[:2]) / address[2:4] / address


def _flipped(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
