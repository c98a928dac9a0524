"""What must hold of a ledger after whatever was done to it; every check says what does not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from expunge.benchmarks.reliability.sites import Site, digests
from expunge.ledger import Ledger, queueing, verify
from expunge.ledger.collecting import collect
from expunge.ledger.past import StoredHistory
from expunge.ledger.rows import Record, rows
from expunge.ledger.steps import read_history

OPEN = ("received", "running")
"""States of a request that nobody ended."""
APPLIED = ("published", "withdrawn")


def checked(
    site: Site, models: Sequence[str], receipts: Sequence[str], weights: Mapping[str, str]
) -> dict[str, Any]:
    """Look at a ledger whose workers have ended, collect its garbage, and verify it.

    Args:
        site: where.
        models: names of those that are looked at.
        receipts: ids of all requests that were taken.
        weights: digests of the weights that each model is to have.

    Returns:
        JSON values: ``checks`` with what is wrong, by check, and counts.
    """
    ledger = site.open()
    with ledger.database.reading() as connection:
        by_name = {m["name"]: m for m in rows(connection, "models")}
        its = {by_name[name]["id"]: name for name in models}
        requests = rows(connection, "requests", model=list(its))
        runs = rows(connection, "runs", model=list(its))
        versions = rows(connection, "versions", model=list(its))
    verified = verify(ledger)
    told = {
        "no request is lost": _lost(requests, receipts),
        "every run has ended": [
            f"run {r['id']} is {r['state']}" for r in runs if r["state"] in queueing.ACTIVE
        ],
        "no request is applied twice": [
            fault for model in its for fault in _twice(ledger, by_name[its[model]], requests)
        ],
        "a run publishes once for each cause": _published_twice(versions),
        "versions follow one another": _numbers(versions),
        "requests are answered as they came": _order(requests, runs),
        "the weights are those of the calm ledger": [
            f"{name}: {digest[:12]} instead of {weights[name][:12]}"
            for name, digest in digests(ledger).items()
            if name in weights and digest != weights[name]
        ],
        "verify holds": list(verified.faults),
        "gc leaves no orphan": _orphans(ledger),
        "verify holds after gc": list(verify(ledger, rebuild=False).faults),
    }
    return {
        "checks": told,
        "requests": dict(Counter(r["state"] for r in requests)),
        "runs": dict(Counter(f"{r['kind']} {r['state']}" for r in runs)),
        "versions": len(versions),
        "events": verified.events,
        "objects": verified.objects,
        "rebuilt": verified.rebuilt,
    }


def _lost(requests: Sequence[Record], receipts: Sequence[str]) -> list[str]:
    states = {r["id"]: r["state"] for r in requests}
    lost = [f"request {r} is not there" for r in receipts if r not in states]
    lost += [f"request {r} was never taken" for r in states if r not in set(receipts)]
    lost += [f"request {r} is {state}" for r, state in states.items() if state in OPEN]
    return lost + [f"request {r} failed" for r, state in states.items() if state == "failed"]


def _twice(ledger: Ledger, model: Record, requests: Sequence[Record]) -> list[str]:
    """Requests that do not stand in the current history as often as their state says."""
    with ledger.database.reading() as connection:
        [version] = rows(connection, "versions", model=model["id"], number=model["version"])
    history: StoredHistory = read_history(ledger, version["history"])
    applied = Counter(a.request for a in history.answers() if not a.guards)
    found = []
    for row in requests:
        if row["model"] != model["id"] or row["sealed"]:
            continue
        wanted = int(row["state"] == "published")
        if applied[row["id"]] != wanted:
            found.append(
                f"request {row['id']} is {row['state']} and applied {applied[row['id']]} times"
            )
    return found


def _published_twice(versions: Sequence[Record]) -> list[str]:
    often = Counter((v["run"], v["cause"]) for v in versions if v["run"])
    return [
        f"run {run} published {n} times ({cause})" for (run, cause), n in often.items() if n > 1
    ]


def _numbers(versions: Sequence[Record]) -> list[str]:
    found = []
    for model in {v["model"] for v in versions}:
        numbers = sorted(v["number"] for v in versions if v["model"] == model)
        if numbers != list(range(len(numbers))):
            found.append(f"model {model} has the versions {numbers}")
    return found


def _order(requests: Sequence[Record], runs: Sequence[Record]) -> list[str]:
    """Requests of one model whose runs were queued in another order than they arrived."""
    found = []
    for model in {r["model"] for r in requests}:
        numbers = {r["id"]: r["number"] for r in requests if r["model"] == model}
        first: dict[str, str] = {}
        for run in sorted(runs, key=lambda run: run["created_at"]):
            if run["kind"] == queueing.SERVE and run["model"] == model:
                for request in numbers:
                    if request in run["requests"]:
                        first.setdefault(request, run["created_at"])
        arrived = sorted(first, key=numbers.__getitem__)
        found += [
            f"request {numbers[b]} was begun before request {numbers[a]}"
            for a, b in pairwise(arrived)
            if first[a] > first[b]
        ]
    return found


def _orphans(ledger: Ledger) -> list[str]:
    """What two collections leave; no worker is there, so nothing has to be waited for."""
    collect(ledger, patience=0.0, staged=0.0)
    second = collect(ledger, patience=0.0, staged=0.0)
    with ledger.database.reading() as connection:
        kept = {o["address"] for o in rows(connection, "objects", destroyed=False)}
        used = {use["address"] for use in rows(connection, "uses")}
    there = set(ledger.vault.addresses())
    found = (
        [f"the second collection still found {vars(second)}"] if any(vars(second).values()) else []
    )
    found += [f"the file {address[:12]} is no row's" for address in there - kept]
    found += [f"the object {address[:12]} has no file" for address in kept - there]
    return found + [f"nothing uses the object {address[:12]}" for address in kept - used]
