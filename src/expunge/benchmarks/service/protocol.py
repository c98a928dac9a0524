"""The whole benchmark of the service: load, then kills, with what holds."""

import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.benchmarks.service.killing import killed
from expunge.benchmarks.service.load import loaded
from expunge.errors import ExpungeError

Table = tuple[str, Sequence[str], list[Sequence[object]]]


@dataclass(frozen=True)
class Protocol:
    """What is done.

    Args:
        clients: at once.
        calls: of all together, under load.
        kills: of the server and the worker by turns.
        seed: of what is asked.
        url: of a PostgreSQL database without a ledger, for one of the two parts; None for SQLite.
        out: where the ledgers are kept, an empty folder; None for one that is removed.
    """

    clients: int = 50
    calls: int = 2_000
    kills: int = 6
    seed: int = 0
    url: str | None = None
    out: Path | None = None

    def conduct(self, told: Callable[[str], None]) -> dict[str, Any]:
        """JSON values.

        Raises:
            ExpungeError: the folder is not empty, one database is to hold two ledgers, or a process
                cannot be begun or ended.
        """
        if self.url is not None and self.calls and self.kills:
            raise ExpungeError(
                "Load and kills need a ledger each, and one database was given; run this twice, "
                "with --calls 0 and with --kills 0, each on a database of its own."
            )
        start = time.monotonic()
        result: dict[str, Any] = {
            "database": "SQLite" if self.url is None else "PostgreSQL",
            "seed": self.seed,
        }
        with ExitStack() as stack:
            folder = self.out
            if folder is None:
                own = tempfile.TemporaryDirectory(prefix="expunge-service-")
                folder = Path(stack.enter_context(own))
            if folder.exists() and any(folder.iterdir()):
                raise ExpungeError(f"The folder {folder} is not empty; give one that is.")
            who = (self.url, self.clients)
            if self.calls:
                place = _made(folder, "load")
                result["load"] = loaded(place, *who, self.calls, self.seed, told)
            if self.kills:
                place = _made(folder, "kills")
                result["kills"] = killed(place, *who, self.kills, self.seed, told)
        used = (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
        processor = sum(each.ru_utime + each.ru_stime for each in used)
        return {**result, "seconds": time.monotonic() - start, "processor seconds": processor}


def _made(folder: Path, name: str) -> Path:
    place = folder.absolute() / name
    place.mkdir(parents=True)
    return place


def holds(result: Mapping[str, Any]) -> bool:
    """Whether no call under load was wrong, and every check found nothing."""
    parts = [result[name] for name in ("load", "kills") if name in result]
    clean = not result.get("load", {}).get("wrong")
    return clean and not any(found for part in parts for found in part["checks"].values())


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    load = result.get("load")
    if load is not None:
        rows: list[Sequence[object]] = [
            [kind, own["calls"], *(f"{1000 * own[p]:.0f}" for p in ("p50", "p95", "p99", "most"))]
            for kind, own in load["by kind"].items()
        ]
        title = (
            f"{load['clients']} clients, {load['calls']:,} calls on {result['database']}: "
            f"{load['per second']:.0f} a second, {sum(load['wrong'].values())} errors"
        )
        found.append((title, ["call", "calls", "p50 ms", "p95 ms", "p99 ms", "most ms"], rows))
    for name, title in (("load", "after the load"), ("kills", "after the kills")):
        if name in result:
            part = result[name]
            counts = ", ".join(f"{n} {state}" for state, n in sorted(part["requests"].items()))
            checked: list[Sequence[object]] = [[n, len(f)] for n, f in part["checks"].items()]
            found.append((f"{title}: {counts}", ["check", "faults"], checked))
    return found


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What went wrong, and where kills landed."""
    found = []
    for name in ("load", "kills"):
        part = result.get(name, {})
        for check, faults in part.get("checks", {}).items():
            found += [f"WRONG: {check}: {fault}" for fault in faults]
    found += [f"WRONG: {what}: {n}" for what, n in result.get("load", {}).get("wrong", {}).items()]
    kills = result.get("kills")
    if kills is not None:
        refused = kills["cut"].get("ConnectError", 0)
        cut = sum(kills["cut"].values()) - refused
        landed = "; ".join(f"{where} ({n})" for where, n in kills["kills"].items())
        found.append(
            f"{sum(kills['kills'].values())} kills: {landed}. {kills['taken']} requests were "
            f"taken; {cut} calls were cut and made again under the same key, and {refused} found "
            "no server."
        )
    whole = f"{result['seconds']:.0f} s in all, {result['processor seconds']:.0f} s of processors."
    return [*found, whole]
