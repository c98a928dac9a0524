"""Looking: where requests stand, what became of one, how a model got where it is."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from expunge.changes.weights import parameters_of
from expunge.errors import ConflictError, ExpungeError, first_line
from expunge.ledger import steps
from expunge.ledger.certificate import Removal, verified
from expunge.ledger.chain import ledger_time, stamp
from expunge.ledger.measuring import Figures
from expunge.ledger.opening import Ledger, model_row
from expunge.ledger.policy import policy_of
from expunge.ledger.queueing import ACTIVE, INTERRUPTED, accounts
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.serving import built, version_row
from expunge.ledger.tables import RequestState

OPEN = [s.value for s in (RequestState.RECEIVED, RequestState.RUNNING, RequestState.GUARDED)]
"""States of a request that is not answered yet; its deadline runs."""


def status(ledger: Ledger, model: str | None = None) -> dict[str, Any]:
    """Models with their versions, requests by state, deadlines, and runs with where they stand.

    What cannot be read is said where it would stand: ``policy`` is None where it was read, and
    ``due soon`` is None where it was not.
    """
    with ledger.database.reading() as connection:
        models = rows(connection, "models") if model is None else [model_row(connection, model)]
        ids = [row["id"] for row in models]
        requests = rows(connection, "requests", model=ids)
        runs = rows(connection, "runs", model=ids, state=ACTIVE)
        progress = {row["run"]: row for row in rows(connection, "progress")}
        now = ledger_time(connection)
        descendants = rows(connection, "descendants", model=ids)
        told = {u["owner"]: u["address"] for u in accounts(connection, [r["id"] for r in runs])}
    by_model: dict[str, Any] = {}
    for row in models:
        own = [r for r in requests if r["model"] == row["id"]]
        waiting = [r for r in own if r["state"] in OPEN]
        soon, unreadable = _soon(ledger, row, now)
        current = version_row(ledger, row["name"])[1]
        by_model[row["name"]] = {
            "version": row["version"],
            "deletion state": current["deletion_state"],
            "published": current["created_at"],
            "requests": dict(Counter(r["state"] for r in own)),
            "next deadline": min((r["deadline"] for r in waiting), default=None),
            "overdue": [r["id"] for r in waiting if r["deadline"] < now],
            "due soon": None
            if soon is None
            else [r["id"] for r in waiting if now <= r["deadline"] < soon],
            "policy": unreadable,
            "lagging descendants": [
                d["name"]
                for d in descendants
                if d["model"] == row["id"] and d["version"] < row["version"]
            ],
        }
    names = {row["id"]: row["name"] for row in models}
    return {
        "models": by_model,
        "runs": [
            {
                "run": run["id"],
                "model": names[run["model"]],
                "kind": run["kind"],
                "state": run["state"],
                "requests": json.loads(run["requests"]),
                **where(run, progress.get(run["id"])),
                "why": _why(ledger, told.get(f"run:{run['id']}"))
                if run["state"] == INTERRUPTED
                else None,
            }
            for run in runs
        ],
    }


def where(run: Record, progress: Record | None) -> dict[str, Any]:
    """The step that a run is at, since when, and the share of it that is done, where that is
    known."""
    if progress is None:
        return {"step": "queued", "since": run["updated_at"], "share": None}
    return {"step": progress["step"], "since": progress["at"], "share": progress["share"]}


def _soon(ledger: Ledger, row: Record, now: str) -> tuple[str | None, str | None]:
    """The time up to which a model's deadlines are near, or why its policy cannot be read."""
    try:
        days = policy_of(ledger, row).warn_days
    except (ExpungeError, ValueError) as error:  # ValueError: a key of another version
        return None, _unreadable(error)
    return stamp(datetime.fromisoformat(now) + timedelta(days=days)), None


def _unreadable(error: Exception) -> str:
    return f"unreadable: {error if isinstance(error, ExpungeError) else first_line(error)}"


def _why(ledger: Ledger, address: str | None) -> Any:
    try:
        return _opened(ledger, address)
    except (ExpungeError, ValueError) as error:
        return {"error": _unreadable(error)}


def show(ledger: Ledger, request: str) -> dict[str, Any]:
    """All that is known of one request; of what was destroyed, or cannot be read, that it is so.

    What the database knows is told where the objects are out of reach, too.

    Raises:
        ExpungeError: there is no such request.
    """
    with ledger.database.reading() as connection:
        row = steps.request_row(connection, request)
        model = one(connection, "models", id=row["model"])
        runs = [r for r in rows(connection, "runs", model=row["model"]) if request in r["requests"]]
        attempts = {r["id"]: rows(connection, "attempts", run=r["id"]) for r in runs}
        versions = rows(connection, "versions", run=[r["id"] for r in runs])
        active = [r for r in runs if r["state"] in ACTIVE]
        progress = {r["id"]: one(connection, "progress", run=r["id"]) for r in active}
    assert model is not None
    found: dict[str, Any] = {
        "request": request,
        "model": model["name"],
        "number": row["number"],
        "kind": row["kind"],
        "state": row["state"],
        "reason": row["reason"],
        "rows": row["row_count"],
        "method": row["method"] or None,
        "strength": row["strength"],
        "priority": row["priority"],
        "deadline": row["deadline"],
        "created": row["created_at"],
        "updated": row["updated_at"],
        "sealed": row["sealed"],
        "runs": [
            {"run": r["id"], "kind": r["kind"], "state": r["state"], **where(r, progress[r["id"]])}
            for r in active
        ],
        "versions": [f"{model['name']}@{v['number']} ({v['cause']})" for v in versions],
        "attempts": [
            {"run": run, "what": a["repair"], "outcome": a["outcome"]}
            for run, tried in attempts.items()
            for a in tried
        ],
    }
    for name in ("scope", "account"):
        found[name] = _if_readable(_opened, ledger, row[name])
    found["figures"] = _if_readable(_own_figures, ledger, model["name"], request)
    return found


def _own_figures(ledger: Ledger, model: str, request: str) -> dict[str, Any] | None:
    figures = steps.read_figures(ledger, version_row(ledger, model)[1])
    own = figures.requests.get(request)
    return None if own is None else {"metric": figures.metric, **vars(own)}


def _if_readable(read: Callable[..., Any], *arguments: object) -> Any:
    """What can be read, or the sentence why it cannot, which begins with ``unreadable``."""
    try:
        return read(*arguments)
    except (ExpungeError, ValueError) as error:
        return _unreadable(error)


def _opened(ledger: Ledger, address: str | None) -> Any:
    if address is None:
        return None
    with ledger.database.reading() as connection:
        row = one(connection, "objects", address=address)
    if row is None or row["destroyed"]:
        return "destroyed when the history was sealed"
    return json.loads(ledger.read(address))


def history(ledger: Ledger, model: str) -> dict[str, Any]:
    """Every version of a model, and the score on each request's rows after each: the persistence
    matrix, with ``stored`` where a figure was not measured again."""
    with ledger.database.reading() as connection:
        row = model_row(connection, model)
        versions = sorted(rows(connection, "versions", model=row["id"]), key=lambda v: v["number"])
        requests = sorted(rows(connection, "requests", model=row["id"]), key=lambda r: r["number"])
        made = {run["id"]: run for run in rows(connection, "runs", model=row["id"])}
    figures = [steps.read_figures(ledger, version) for version in versions]
    answered = [r for r in requests if any(r["id"] in found.requests for found in figures)]
    return {
        "model": model,
        "metric": figures[0].metric,
        "direction": figures[0].direction,
        "versions": [
            {
                "version": version["number"],
                "cause": version["cause"],
                "created": version["created_at"],
                "requests": json.loads(made[version["run"]]["requests"]) if version["run"] else [],
                "deletion state": version["deletion_state"],
                "certified": _if_readable(_certified, ledger, version),
                "weights": version["weights_digest"],
                "retained": found.retained,
                "kept": found.kept,
            }
            for version, found in zip(versions, figures, strict=True)
        ],
        "requests": [
            {
                "request": r["id"],
                "number": r["number"],
                "kind": r["kind"],
                "state": r["state"],
                **_first(r["id"], figures),
                "after": [
                    f.requests[r["id"]].after if r["id"] in f.requests else None for f in figures
                ],
                "stored": [
                    f.requests[r["id"]].stored if r["id"] in f.requests else False for f in figures
                ],
            }
            for r in answered
        ],
    }


def _certified(ledger: Ledger, version: Record) -> str | None:
    """What the method of a version proves, in words: it stands in the certificate, which a seal
    keeps."""
    stated = verified(ledger.read(version["certificate"]), ledger.keys.public)
    proof = Removal.from_json(stated["predicate"]).certified
    return None if proof is None else proof.told()


def _first(request: str, figures: Sequence[Figures]) -> dict[str, Any]:
    """What a request was held against when it was served."""
    found = next(f.requests[request] for f in figures if request in f.requests)
    return {"before": found.before, "reference": found.reference, "against": found.against}


def diff(ledger: Ledger, model: str, one_: int, other: int) -> dict[str, Any]:
    """Two versions side by side: figures, and how far their weights are apart.

    Raises:
        ExpungeError: there is no such version, or one was destroyed when the history was sealed.
    """
    found = [steps.read_figures(ledger, version_row(ledger, model, n)[1]) for n in (one_, other)]
    weights = [parameters_of(built(ledger, model, n, guards=False).model) for n in (one_, other)]
    if set(weights[0]) != set(weights[1]):
        raise ConflictError(
            f"The versions {one_} and {other} of {model!r} are of other architectures; their "
            "weights cannot be compared."
        )
    changed = {
        name: float((weights[0][name] - weights[1][name]).detach().double().norm())
        for name in weights[0]
    }
    return {
        "model": model,
        "versions": [one_, other],
        "metric": found[0].metric,
        "retained": [f.retained for f in found],
        "requests": {
            request: [f.requests[request].after if request in f.requests else None for f in found]
            for request in sorted(set(found[0].requests) | set(found[1].requests))
        },
        "weights": {
            "distance": sum(value**2 for value in changed.values()) ** 0.5,
            "changed": sorted((n for n, v in changed.items() if v), key=lambda n: -changed[n]),
            "same": sum(v == 0 for v in changed.values()),
        },
    }
