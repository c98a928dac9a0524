"""The queue: which requests of which model are worked on next, and in which state a run stands.

Requests for one model are answered in their order of arrival, larger priorities first, one run at a
time; models do not wait for one another's runs, and take turns by the step in one worker.
Revocations and seals wait in the same queue.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from expunge.errors import ExpungeError
from expunge.ledger.canonical import canonical
from expunge.ledger.chain import Erase, Write, append, ledger_time
from expunge.ledger.opening import Ledger, fresh_id
from expunge.ledger.policy import policy_of
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.tables import RequestState, requests

SERVE, REVOKE, SEAL = "serve", "revoke", "seal"
QUEUED, RUNNING, INTERRUPTED = "queued", "running", "interrupted"
ACTIVE = [QUEUED, RUNNING, INTERRUPTED]
"""States of a run that has not ended."""
PUBLISHED, ANSWERED, REFUSED, FAILED = "published", "answered", "refused", "failed"
CANCELLED = "cancelled"
"""State of a run that was taken back before it began, and the reason of a request that was."""
SPLIT = "split"
"""State of a run of several requests that could not be answered together: each is tried alone."""

UNDER_WAY = (RequestState.RUNNING.value, RequestState.RECEIVED.value, RequestState.GUARDED.value)
"""States of a request that its run has not answered."""


def waiting(ledger: Ledger) -> list[str]:
    """The models for which requests wait."""
    received = requests.c.state == RequestState.RECEIVED.value
    with ledger.database.reading() as connection:
        found = connection.execute(select(requests.c.model).where(received).distinct())
        return sorted(found.scalars())


def due(ledger: Ledger) -> list[Record]:
    """Every run that has not ended, the oldest first; a model without one gets its next requests.

    The runs of one model are to be carried out one after another.
    """
    models = waiting(ledger)
    with ledger.database.reading() as connection:
        busy = {row["model"] for row in rows(connection, "runs", state=ACTIVE)}
    for model in sorted(set(models) - busy):
        _begin(ledger, model)
    with ledger.database.reading() as connection:
        return sorted(rows(connection, "runs", state=ACTIVE), key=lambda run: run["created_at"])


def _begin(ledger: Ledger, model: str) -> None:
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model)
    assert row is not None
    together = _together(ledger, row)
    with ledger.database.writing() as connection:
        if rows(connection, "runs", model=model, state=ACTIVE):
            return  # another worker was first
        alone = _alone(connection, model)
        order = _next(connection, model, together + len(alone))
        if not order:
            return
        batch = [order[0]]
        if order[0] not in alone:
            batch = [request for request in order if request not in alone][:together]
        begin(connection, model, SERVE, batch)


def _together(ledger: Ledger, model: Record) -> int:
    """How many requests the policy of a model lets be answered together.

    One where it cannot be read: the run is then interrupted by the step that needs the policy, and
    says why, while other models go on.
    """
    try:
        return policy_of(ledger, model).batch
    except (ExpungeError, ValueError):  # ValueError: a key of another version
        return 1


def _next(connection: Connection, model: str, number: int) -> list[str]:
    columns = requests.c
    asked = (
        select(columns.id)
        .where(columns.model == model, columns.state == RequestState.RECEIVED.value)
        .order_by(columns.priority.desc(), columns.number)
        .limit(number)
    )
    return list(connection.execute(asked).scalars())


def _alone(connection: Connection, model: str) -> set[str]:
    """Requests of runs that were split."""
    return {
        request
        for row in rows(connection, "runs", model=model, state=SPLIT)
        for request in json.loads(row["requests"])
    }


def begin(connection: Connection, model: str, kind: str, about: Sequence[str]) -> str:
    """Queue a run; its id."""
    run, at = fresh_id("u"), ledger_time(connection)
    fields = {
        "model": model,
        "kind": kind,
        "requests": canonical(list(about)).decode(),
        "state": QUEUED,
        "reason": None,
        "created_at": at,
        "updated_at": at,
    }
    append(connection, QUEUED, [Write("runs", {"id": run}, fields)])
    return run


def start(ledger: Ledger, run: str) -> dict[str, Any]:
    """Mark a run as running; why it published versions before it was interrupted, if it did.

    Of a run that has ended, or was cancelled meanwhile, ``over`` is its state.
    """
    with ledger.database.writing() as connection:
        row = one(connection, "runs", id=run)
        assert row is not None
        if row["state"] not in ACTIVE:
            return {"published": [], "over": row["state"]}
        fields = {"state": RUNNING, "updated_at": ledger_time(connection)}
        append(connection, RUNNING, [Write("runs", {"id": run}, fields)])
        published = [v["cause"] for v in rows(connection, "versions", run=run)]
        about = rows(connection, "requests", id=json.loads(row["requests"]))
        if row["kind"] == SERVE and all(r["state"] == RequestState.GUARDED.value for r in about):
            published.append("guard")  # of this run, or of one that is retried: it stands
        return {"published": published}


def holding(connection: Connection, model: str, request: str) -> list[Record]:
    """The runs of a model about a request that have not ended."""
    found = rows(connection, "runs", model=model, state=ACTIVE)
    return [run for run in found if request in json.loads(run["requests"])]


def cancelled(run: Record, at: str) -> Write:
    """That a run which has not begun never will; requests of it that still wait get another."""
    return Write("runs", {"id": run["id"]}, {"state": CANCELLED, "updated_at": at})


def retry(connection: Connection, request: Record) -> None:
    """Let a request wait again; one that a guard stands for stays guarded, and has a run."""
    at = ledger_time(connection)
    if request["state"] == RequestState.GUARDED.value:
        begin(connection, request["model"], SERVE, [request["id"]])
        return
    fields = {"state": RequestState.RECEIVED.value, "reason": None, "updated_at": at}
    append(connection, "retried", [Write("requests", {"id": request["id"]}, fields)])


def end(ledger: Ledger, run: str, state: str, about: Sequence[str]) -> dict[str, Any]:
    """The end of a run.

    Requests that the gate refused are marked so, save those that a guard stands for: their deadline
    goes on. Requests of a run that is split wait again.

    Args:
        ledger: where.
        run: its id.
        state: that it ends in.
        about: ids of the requests that are refused, or wait again.
    """
    with ledger.database.writing() as connection:
        if not _active(connection, run):
            return {}
        at = ledger_time(connection)
        writes: list[Write | Erase] = []
        for request in about:
            row = one(connection, "requests", id=request)
            assert row is not None
            if row["state"] not in UNDER_WAY:
                continue
            fields: dict[str, Any] = {"state": RequestState.RECEIVED.value, "reason": None}
            if state == REFUSED:
                guarded = row["state"] == RequestState.GUARDED.value
                after = RequestState.GUARDED if guarded else RequestState.REFUSED
                fields = {"state": after.value, "reason": "gate"}
            writes.append(Write("requests", {"id": request}, {**fields, "updated_at": at}))
        writes.append(Write("runs", {"id": run}, {"state": state, "updated_at": at}))
        writes += _dropped(connection, run)
        append(connection, "ended", writes)
    return {}


def fail(ledger: Ledger, run: str, about: Sequence[str], code: str) -> dict[str, Any]:
    """The end of a run that an error ended; its requests fail with it, save those guarded."""
    with ledger.database.writing() as connection:
        if not _active(connection, run):
            return {}
        at = ledger_time(connection)
        account = accounts(connection, [run])
        ended = {"state": FAILED, "reason": code, "updated_at": at}
        writes: list[Write | Erase] = [Write("runs", {"id": run}, ended)]
        for request in about:
            row = one(connection, "requests", id=request)
            assert row is not None
            if row["state"] in UNDER_WAY:
                writes += _failed(row, account, {"reason": code, "updated_at": at})
        writes += _dropped(connection, run)
        append(connection, FAILED, writes)
    return {}


def _failed(
    row: Record, account: Sequence[Record], fields: Mapping[str, Any]
) -> list[Write | Erase]:
    """A request that failed, with the account of the run in the place of its own."""
    writes: list[Write | Erase] = []
    told: dict[str, Any] = dict(fields)
    if row["state"] != RequestState.GUARDED.value:
        told["state"] = FAILED
    if account:
        owner, address = f"request:{row['id']}", account[-1]["address"]
        told["account"] = address
        use = {"owner": owner, "role": "account"}
        if row["account"] not in (None, address):
            writes.append(Erase("uses", {"address": row["account"], **use}))
        writes.append(Write("uses", {"address": address, **use}))
    return [*writes, Write("requests", {"id": row["id"]}, told)]


def accounts(connection: Connection, runs: Sequence[str]) -> list[Record]:
    """The uses of what runs told of errors, the latest last."""
    owners = [f"run:{run}" for run in runs]
    found = rows(connection, "uses", owner=owners, role="account")
    made = {
        row["address"]: row["created_at"]
        for row in rows(connection, "objects", address=[use["address"] for use in found])
    }
    return sorted(found, key=lambda use: str(made[use["address"]]))


def interrupt(ledger: Ledger, run: str) -> None:
    """Put a run down as interrupted, and how often it was: the disk was full, or the store out of
    reach."""
    with ledger.database.writing() as connection:
        row = one(connection, "runs", id=run)
        assert row is not None
        if row["state"] not in ACTIVE:
            return
        fields = {
            "state": INTERRUPTED,
            "reason": str(int(row["reason"] or 0) + 1),
            "updated_at": ledger_time(connection),
        }
        append(connection, INTERRUPTED, [Write("runs", {"id": run}, fields)])


def _active(connection: Connection, run: str) -> bool:
    row = one(connection, "runs", id=run)
    return row is not None and row["state"] in ACTIVE


def _dropped(connection: Connection, run: str) -> list[Write | Erase]:
    """What a run that has ended does not use any more; what was tried is kept for the attempts."""
    tried = rows(connection, "attempts", run=run)
    wanted = {row["history"] for row in tried} | {row["figures"] for row in tried}
    return [
        Erase("uses", {"address": use["address"], "owner": use["owner"], "role": use["role"]})
        for use in rows(connection, "uses", owner=f"run:{run}")
        if use["address"] not in wanted and use["role"] != "account"
    ]
