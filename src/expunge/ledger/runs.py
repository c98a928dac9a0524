"""Runs: which requests of which model are worked on next, and how a run goes from step to step.

Requests for one model are answered in their order of arrival, larger priorities first, one run at a
time; models do not wait for one another. A run is conducted by whoever carries out its steps: a
worker, which checkpoints each, or a test, which does not.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from expunge.errors import ExpungeError, first_line
from expunge.ledger import sealing, steps
from expunge.ledger.canonical import canonical
from expunge.ledger.certificate import Cause
from expunge.ledger.chain import Erase, Write, append, ledger_time
from expunge.ledger.opening import Ledger, fresh_id, keep
from expunge.ledger.policy import Policy
from expunge.ledger.refusals import UnavailableError
from expunge.ledger.revoking import without
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.standing import Standing
from expunge.ledger.tables import RequestState

SERVE, REVOKE, SEAL = "serve", "revoke", "seal"
QUEUED, RUNNING, INTERRUPTED = "queued", "running", "interrupted"
ACTIVE = [QUEUED, RUNNING, INTERRUPTED]
"""States of a run that has not ended; one a model at most."""
SPLIT = "split"
"""State of a run of several requests that the gate refused: each is tried alone."""

UNAVAILABLE = (UnavailableError, OSError)
"""What may succeed later: the run is interrupted, not failed."""

Step = Callable[..., Any]
"""Carries out ``step(name, function, *arguments)``; what it gives back are JSON values."""


def due(ledger: Ledger) -> list[Record]:
    """Every run that has not ended; a model without one gets its next requests."""
    with ledger.database.reading() as connection:
        waiting = rows(connection, "requests", state=RequestState.RECEIVED.value)
        busy = {row["model"] for row in rows(connection, "runs", state=ACTIVE)}
    for model in sorted({row["model"] for row in waiting} - busy):
        _begin(ledger, model)
    with ledger.database.reading() as connection:
        return rows(connection, "runs", state=ACTIVE)


def _begin(ledger: Ledger, model: str) -> None:
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model)
    assert row is not None
    policy = Policy.model_validate_json(ledger.read(row["policy"]))
    with ledger.database.writing() as connection:
        if rows(connection, "runs", model=model, state=ACTIVE):
            return  # another worker was first
        waiting = rows(connection, "requests", model=model, state=RequestState.RECEIVED.value)
        if not waiting:
            return
        order = sorted(waiting, key=lambda r: (-r["priority"], r["number"]))
        alone = _alone(connection, model)
        batch = [order[0]]
        if order[0]["id"] not in alone:
            batch = [r for r in order if r["id"] not in alone][: policy.batch]
        begin(connection, model, SERVE, [r["id"] for r in batch])


def _alone(connection: Connection, model: str) -> set[str]:
    """Requests of runs that were split."""
    return {
        request
        for row in rows(connection, "runs", model=model, state=SPLIT)
        for request in json.loads(row["requests"])
    }


def begin(connection: Connection, model: str, kind: str, requests: Sequence[str]) -> str:
    """Queue a run; its id."""
    run, at = fresh_id("u"), ledger_time(connection)
    fields = {
        "model": model,
        "kind": kind,
        "requests": canonical(list(requests)).decode(),
        "state": QUEUED,
        "reason": None,
        "created_at": at,
        "updated_at": at,
    }
    append(connection, "queued", [Write("runs", {"id": run}, fields)])
    return run


@dataclass
class Conductor:
    """Takes runs through their steps.

    Args:
        ledger: where they are.
        step: carries a step out.
    """

    ledger: Ledger
    step: Step

    def conduct(self, run: str) -> str:
        """Work on a run until it has ended; the state that it ended in."""
        with self.ledger.database.reading() as connection:
            row = one(connection, "runs", id=run)
        assert row is not None
        if row["state"] not in ACTIVE:
            return str(row["state"])
        requests = json.loads(row["requests"])
        try:
            if row["kind"] == REVOKE:
                return self._revoke(run, requests)
            if row["kind"] == SEAL:
                return self._seal(run, requests)
            return self._serve(run, requests)
        except FailedStepError as failed:
            self.step("fail", _fail, run, requests, failed.code)
            return failed.code

    def _serve(self, run: str, requests: list[str]) -> str:
        self.step("start", _start, run)
        go = [r for r in requests if self._step("resolve", _resolve, run, r)["go"]]
        if not go:
            return self._end(run, "answered", [])
        start = str(self._step("current", _current, run)["history"])
        if self._step("policy", _policy, run)["guard_first"]:
            start = self._guarded(run, go, start)
        found = start
        for request in go:
            found = self._step("unlearn", _unlearn, run, request, found)["history"]
        history = self._accepted(run, go, start, found)
        if history is None:
            return self._end(run, SPLIT if len(go) > 1 else "refused", go)
        address, figures = history
        self._step("publish", _publish, run, address, figures, go, "request", [])
        return self._end(run, "published", [])

    def _guarded(self, run: str, go: list[str], start: str) -> str:
        """Phase one: a guard before the model, published if the gate lets it."""
        found = start
        for request in go:
            found = self._step("guard", _guard, run, request, found)["history"]
        weighed = self._step("measure", _weigh, run, found, go, [])
        self._step("attempted", _attempted, run, 0, "guard", found, weighed)
        if not weighed["passed"]:
            return start
        self._step("publish", _publish, run, found, weighed["figures"], go, "guard", [])
        return found

    def _accepted(self, run: str, go: list[str], start: str, found: str) -> tuple[str, str] | None:
        """The first candidate that the gate lets pass, with its figures; each is put down."""
        weighed = self._step("measure", _weigh, run, found, go, [])
        self._step("attempted", _attempted, run, 1, "as asked", found, weighed)
        if weighed["passed"]:
            return found, weighed["figures"]
        number = 1
        for k in range(self._step("policy", _policy, run)["repairs"]):
            for name, tried in self._step("repair", _repair, run, go, start, found, k)["tries"]:
                number += 1
                weighed = self._step("measure", _weigh, run, tried, go, [])
                self._step("attempted", _attempted, run, number, name, tried, weighed)
                if weighed["passed"]:
                    return tried, weighed["figures"]
        return None

    def _revoke(self, run: str, requests: list[str]) -> str:
        self.step("start", _start, run)
        [request] = requests
        found = self._step("without", _without, run, request)["history"]
        weighed = self._step("measure", _weigh, run, found, [], [request])
        self._step("attempted", _attempted, run, 1, "as asked", found, weighed)
        if not weighed["passed"]:
            return self._end(run, "refused", [])
        figures = weighed["figures"]
        self._step("publish", _publish, run, found, figures, [], "revocation", [request])
        return self._end(run, "published", [])

    def _seal(self, run: str, requests: list[str]) -> str:
        self.step("start", _start, run)
        found = self._step("fold", _fold, run, requests)["history"]
        weighed = self._step("measure", _weigh, run, found, [], [])
        self._step("attempted", _attempted, run, 1, "as asked", found, weighed)
        if not weighed["passed"]:
            return self._end(run, "refused", [])
        self._step("seal", _publish_seal, run, requests, found, weighed["figures"])
        self._step("destroy", _destroy, run, requests)
        return self._end(run, "published", [])

    def _end(self, run: str, state: str, requests: list[str]) -> str:
        self.step("end", _end, run, state, requests)
        return state

    def _step(self, name: str, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.step(name, function, *arguments)
        if "failed" in found:
            raise FailedStepError(found["failed"])
        return found


class FailedStepError(Exception):
    """A step could not be carried out; ``code`` is what the chain says of it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


_STANDING: dict[str, Standing] = {}
"""The model of the last run, for the steps that follow in this process."""


def standing_of(ledger: Ledger, model: str) -> Standing:
    """A model in memory; read anew where another base or other sealed rows came since."""
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model)
    assert row is not None
    known = _STANDING.get(model)
    marks = ("base_digest", "sealed_before", "spec", "policy")
    if known is None or known.ledger is not ledger or any(known.row[m] != row[m] for m in marks):
        _STANDING.clear()
        _STANDING[model] = Standing.of(ledger, row)
    _STANDING[model].row = row
    return _STANDING[model]


def _model(ledger: Ledger, run: str) -> Standing:
    with ledger.database.reading() as connection:
        row = one(connection, "runs", id=run)
    assert row is not None
    return standing_of(ledger, row["model"])


def _told(
    function: Callable[..., dict[str, Any]],
) -> Callable[..., dict[str, Any]]:
    """A step whose errors of the user's are told in an encrypted account, and by a code alone
    elsewhere: their sentences may name people."""

    def carried(ledger: Ledger, run: str, *arguments: Any) -> dict[str, Any]:
        try:
            return function(ledger, run, *arguments)
        except UNAVAILABLE:
            raise
        except ExpungeError as error:
            _account(ledger, run, first_line(error))
            return {"failed": "failed"}

    return carried


@_told
def _resolve(ledger: Ledger, run: str, request: str) -> dict[str, Any]:
    return asdict(steps.resolve(ledger, _model(ledger, run), run, request))


@_told
def _current(ledger: Ledger, run: str) -> dict[str, Any]:
    return {"history": steps.version_of(ledger, _model(ledger, run).row)["history"]}


@_told
def _policy(ledger: Ledger, run: str) -> dict[str, Any]:
    policy = _model(ledger, run).policy
    return {"guard_first": policy.guard_first, "repairs": len(policy.repairs)}


@_told
def _guard(ledger: Ledger, run: str, request: str, history: str) -> dict[str, Any]:
    return {"history": steps.guard(ledger, _model(ledger, run), run, request, history)}


@_told
def _unlearn(ledger: Ledger, run: str, request: str, history: str) -> dict[str, Any]:
    return {"history": steps.unlearn(ledger, _model(ledger, run), run, request, history)}


@_told
def _weigh(
    ledger: Ledger, run: str, history: str, new: list[str], withdrawn: list[str]
) -> dict[str, Any]:
    return asdict(steps.weigh(ledger, _model(ledger, run), run, history, new, withdrawn))


@_told
def _repair(
    ledger: Ledger, run: str, requests: list[str], start: str, failed: str, place: int
) -> dict[str, Any]:
    standing = _model(ledger, run)
    repair = standing.policy.repairs[place]
    found = steps.repaired(ledger, standing, run, requests, start, failed, repair)
    return {"tries": [list(pair) for pair in found]}


@_told
def _attempted(
    ledger: Ledger, run: str, number: int, repair: str, history: str, weighed: Mapping[str, Any]
) -> dict[str, Any]:
    found = steps.Weighed(weighed["figures"], weighed["passed"], tuple(weighed["refused"]))
    steps.attempted(ledger, run, number, repair, history, found)
    return {}


@_told
def _publish(
    ledger: Ledger,
    run: str,
    history: str,
    figures: str,
    new: list[str],
    cause: Cause,
    withdrawn: list[str],
) -> dict[str, Any]:
    standing = _model(ledger, run)
    found = steps.publish(ledger, standing, run, history, figures, new, cause, withdrawn)
    return {"version": found}


@_told
def _without(ledger: Ledger, run: str, request: str) -> dict[str, Any]:
    return {"history": without(ledger, _model(ledger, run), run, request)}


@_told
def _fold(ledger: Ledger, run: str, requests: list[str]) -> dict[str, Any]:
    return {"history": sealing.fold(ledger, _model(ledger, run), run, requests)}


@_told
def _publish_seal(
    ledger: Ledger, run: str, requests: list[str], history: str, figures: str
) -> dict[str, Any]:
    standing = _model(ledger, run)
    return {"version": sealing.publish(ledger, standing, run, requests, history, figures)}


@_told
def _destroy(ledger: Ledger, run: str, requests: list[str]) -> dict[str, Any]:
    destroyed = sealing.destroy(ledger, _model(ledger, run), requests)
    _STANDING.clear()  # it holds the old base and its changes
    return {"destroyed": destroyed}


def _start(ledger: Ledger, run: str) -> dict[str, Any]:
    with ledger.database.writing() as connection:
        fields = {"state": RUNNING, "updated_at": ledger_time(connection)}
        append(connection, RUNNING, [Write("runs", {"id": run}, fields)])
    return {}


def _end(ledger: Ledger, run: str, state: str, requests: list[str]) -> dict[str, Any]:
    """The end of a run; requests that the gate refused are marked, those of a split wait again."""
    after = {SPLIT: RequestState.RECEIVED, "refused": RequestState.REFUSED}
    with ledger.database.writing() as connection:
        at = ledger_time(connection)
        writes: list[Write | Erase] = [
            Write(
                "requests",
                {"id": request},
                {
                    "state": after[state].value,
                    "reason": "gate" if state == "refused" else None,
                    "updated_at": at,
                },
            )
            for request in requests
        ]
        writes.append(Write("runs", {"id": run}, {"state": state, "updated_at": at}))
        writes += _dropped(connection, run)
        append(connection, "ended", writes)
    return {}


def _fail(ledger: Ledger, run: str, requests: list[str], code: str) -> dict[str, Any]:
    with ledger.database.writing() as connection:
        at = ledger_time(connection)
        account = rows(connection, "uses", owner=f"run:{run}", role="account")
        writes: list[Write | Erase] = [
            Write("runs", {"id": run}, {"state": "failed", "reason": code, "updated_at": at})
        ]
        for request in requests:
            row = one(connection, "requests", id=request)
            assert row is not None
            if row["state"] not in (RequestState.RUNNING.value, RequestState.RECEIVED.value):
                continue
            fields: dict[str, Any] = {"state": "failed", "reason": code, "updated_at": at}
            if account:
                fields["account"] = account[-1]["address"]
                owner = f"request:{request}"
                use = {"address": account[-1]["address"], "owner": owner, "role": "account"}
                writes.append(Write("uses", use))
            writes.append(Write("requests", {"id": request}, fields))
        writes += _dropped(connection, run)
        append(connection, "failed", writes)
    return {}


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


def _dropped(connection: Connection, run: str) -> list[Write | Erase]:
    """What a run that has ended does not use any more; what was tried is kept for the attempts."""
    tried = rows(connection, "attempts", run=run)
    wanted = {row["history"] for row in tried} | {row["figures"] for row in tried}
    return [
        Erase("uses", {"address": use["address"], "owner": use["owner"], "role": use["role"]})
        for use in rows(connection, "uses", owner=f"run:{run}")
        if use["address"] not in wanted and use["role"] != "account"
    ]


def _account(ledger: Ledger, run: str, sentence: str) -> None:
    stored = ledger.vault.put(canonical({"error": sentence}), "account")
    with ledger.database.writing() as connection:
        keep(connection, "told", [(stored, f"run:{run}", "account")])
