"""Runs: how each goes from step to step, and the steps as they are carried out.

A run is conducted by whoever carries out its steps: a worker, which checkpoints each, or a test,
which does not. A step takes ids and addresses, and gives back the same. One that is interrupted is
begun again from the start; what it published before stands.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.ledger import answering, queueing, sealing, weighing
from expunge.ledger.canonical import canonical
from expunge.ledger.certificate import Cause
from expunge.ledger.locks import storing
from expunge.ledger.opening import Ledger, keep
from expunge.ledger.publishing import publish
from expunge.ledger.queueing import ANSWERED, PUBLISHED, REFUSED, REVOKE, SEAL, SERVE, SPLIT
from expunge.ledger.refusals import UnavailableError
from expunge.ledger.resolving import resolve
from expunge.ledger.revoking import without
from expunge.ledger.rows import Record, one
from expunge.ledger.standing import Standing
from expunge.ledger.steps import Share, current_history, draft
from expunge.run import watched

UNAVAILABLE = (UnavailableError, IntegrityError, OSError, SQLAlchemyError)
"""What may succeed later, when room was made or what is damaged was restored: the run is
interrupted, not failed."""

Step = Callable[..., Any]
"""Carries out ``step(name, function, *arguments)``; what it gives back are JSON values."""


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
        """Work on a run until it has ended; the state that it ended in.

        Raises:
            ExpungeError, OSError: it is interrupted; it may be conducted again.
        """
        with self.ledger.database.reading() as connection:
            row = one(connection, "runs", id=run)
        assert row is not None
        if row["state"] not in queueing.ACTIVE:
            return str(row["state"])
        requests = json.loads(row["requests"])
        try:
            return self._conduct(row, requests)
        except FailedStepError as failed:
            if row["kind"] == SERVE and len(requests) > 1:
                return self._end(run, SPLIT, requests)
            self.step("fail", queueing.fail, run, requests, failed.code)
            return queueing.FAILED

    def _conduct(self, row: Record, requests: list[str]) -> str:
        run = row["id"]
        started = self._step("start", queueing.start, run)
        if "over" in started:  # it was cancelled since it was put down here
            return str(started["over"])
        if row["kind"] == REVOKE:
            return self._revoke(run, requests, started["published"])
        if row["kind"] == SEAL:
            return self._seal(run, requests, started["published"])
        return self._serve(run, requests, started["published"])

    def _serve(self, run: str, requests: list[str], published: Sequence[Cause]) -> str:
        if "request" in published:
            return self._end(run, PUBLISHED, [])
        go = [r for r in requests if self._step("resolve", _resolve, run, r)["go"]]
        if not go:
            return self._end(run, ANSWERED, [])
        start = str(self._step("current", _current, run, go)["history"])
        if self._step("policy", _policy, run)["guard_first"] and "guard" not in published:
            self._guarded(run, go, start)
        found = start
        for request in go:
            found = self._step("unlearn", _unlearn, run, request, found)["history"]
        accepted = self._accepted(run, go, start, found)
        if accepted is None:
            return self._end(run, SPLIT if len(go) > 1 else REFUSED, go)
        self._step("publish", _publish, run, *accepted, go, "request")
        return self._end(run, PUBLISHED, [])

    def _guarded(self, run: str, go: list[str], start: str) -> None:
        """Phase one: a guard before the model, published if there can be one and the gate lets it.

        The weights of phase two are made from the same history as without it.
        """
        found = self._step("guard", _guard, run, go, start)["history"]
        if found is None:
            self._step("attempted", _attempted, run, 0, "guard", start, None)
            return
        weighed = self._step("measure", _weigh, run, found, go, [], [])
        self._step("attempted", _attempted, run, 0, "guard", found, weighed)
        if weighed["passed"]:
            self._step("publish", _publish, run, found, weighed["figures"], go, "guard")

    def _accepted(self, run: str, go: list[str], start: str, found: str) -> tuple[str, str] | None:
        """The first candidate that the gate lets pass, with its figures; each is put down."""
        weighed = self._step("measure", _weigh, run, found, go, [], [])
        self._step("attempted", _attempted, run, 1, "as asked", found, weighed)
        if weighed["passed"]:
            return found, weighed["figures"]
        number = 1
        for k in range(self._step("policy", _policy, run)["repairs"]):
            for name, tried in self._step("repair", _repair, run, go, start, found, k)["tries"]:
                number += 1
                if tried is None:
                    self._step("attempted", _attempted, run, number, name, found, None)
                    continue
                weighed = self._step("measure", _weigh, run, tried, go, [], [])
                self._step("attempted", _attempted, run, number, name, tried, weighed)
                if weighed["passed"]:
                    return tried, weighed["figures"]
        return None

    def _revoke(self, run: str, requests: list[str], published: Sequence[Cause]) -> str:
        if "revocation" in published:
            return self._end(run, PUBLISHED, [])
        [request] = requests
        found = self._step("without", _without, run, request)["history"]
        weighed = self._step("measure", _weigh, run, found, [], requests, [])
        self._step("attempted", _attempted, run, 1, "as asked", found, weighed)
        if not weighed["passed"]:
            return self._end(run, REFUSED, [])
        self._step("publish", _publish, run, found, weighed["figures"], requests, "revocation")
        return self._end(run, PUBLISHED, [])

    def _seal(self, run: str, requests: list[str], published: Sequence[Cause]) -> str:
        if "seal" not in published:
            folded = self._step("fold", _fold, run, requests)
            found, requests = folded["history"], folded["requests"]
            weighed = self._step("measure", _weigh, run, found, [], [], requests)
            self._step("attempted", _attempted, run, 1, "as asked", found, weighed)
            if not weighed["passed"]:
                return self._end(run, REFUSED, [])
            self._step("publish", _publish, run, found, weighed["figures"], requests, "seal")
        self._step("destroy", _destroy, run)
        return self._end(run, PUBLISHED, [])

    def _end(self, run: str, state: str, requests: list[str]) -> str:
        self.step("end", queueing.end, run, state, requests)
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
"""Models of the last runs, for the steps that follow in this process."""
_LOCK = threading.Lock()
MODELS = 4
"""How many are kept."""
MARKS = ("base_digest", "sealed_before", "spec", "policy")
"""Columns of a model that make it another one in memory."""


def standing_of(ledger: Ledger, model: str) -> Standing:
    """A model in memory; read anew where another base or other sealed rows came since.

    Raises:
        UnavailableError: something of it is not there, or is damaged.
    """
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model)
    assert row is not None
    with _LOCK:
        known = _STANDING.pop(model, None)
    same = known is not None and known.ledger is ledger
    if known is None or not same or any(known.row[mark] != row[mark] for mark in MARKS):
        try:
            known = Standing.of(ledger, row)
        except ExpungeError as error:  # no request is at fault: all of them have to wait
            raise UnavailableError(str(error)) from None
    known.row = row
    with _LOCK:
        _STANDING[model] = known
        for other in list(_STANDING)[:-MODELS]:
            del _STANDING[other]
    return known


def forget_standing() -> None:
    """Drop the models in memory: they hold bases and changes that a seal destroys."""
    with _LOCK:
        _STANDING.clear()


def _model(ledger: Ledger, run: str) -> Standing:
    with ledger.database.reading() as connection:
        row = one(connection, "runs", id=run)
    assert row is not None
    return standing_of(ledger, row["model"])


_ONE_AT_A_TIME = threading.Lock()
"""Steps of two models take turns in one process: methods draw from torch's one random stream."""


def _told(
    function: Callable[..., dict[str, Any]],
) -> Callable[..., dict[str, Any]]:
    """A step whose errors are told in an encrypted account, and by a code alone elsewhere: their
    sentences may name people."""

    def carried(ledger: Ledger, run: str, *arguments: Any) -> dict[str, Any]:
        try:
            with _ONE_AT_A_TIME, watched(Share(ledger, run)):
                return function(ledger, run, *arguments)
        except UNAVAILABLE as error:
            with suppress(*UNAVAILABLE):  # the vault may be what is out of reach
                _account(ledger, run, str(error))
            raise
        except ExpungeError as error:
            _account(ledger, run, str(error))
            return {"failed": "error"}
        except Exception as error:  # a method's own fault must not stop the others
            _account(ledger, run, first_line(error))
            return {"failed": f"fault: {type(error).__name__}"}

    return carried


@_told
def _resolve(ledger: Ledger, run: str, request: str) -> dict[str, Any]:
    return asdict(resolve(ledger, _model(ledger, run), run, request))


@_told
def _current(ledger: Ledger, run: str, requests: list[str]) -> dict[str, Any]:
    """The history that requests are answered on: without guards that stand in for the answers."""
    past = current_history(ledger, _model(ledger, run).row)
    return {"history": draft(ledger, run, past.without_guards(requests))}


@_told
def _policy(ledger: Ledger, run: str) -> dict[str, Any]:
    policy = _model(ledger, run).policy
    return {"guard_first": policy.guard_first, "repairs": len(policy.repairs)}


@_told
def _guard(ledger: Ledger, run: str, requests: list[str], history: str) -> dict[str, Any]:
    try:
        for request in requests:
            history = answering.guard(ledger, _model(ledger, run), run, request, history)
    except UNAVAILABLE:
        raise
    except ExpungeError as error:  # phase two comes all the same
        _account(ledger, run, str(error))
        return {"history": None}
    return {"history": history}


@_told
def _unlearn(ledger: Ledger, run: str, request: str, history: str) -> dict[str, Any]:
    return {"history": answering.unlearn(ledger, _model(ledger, run), run, request, history)}


@_told
def _weigh(
    ledger: Ledger,
    run: str,
    history: str,
    new: list[str],
    withdrawn: list[str],
    sealed: list[str],
) -> dict[str, Any]:
    standing = _model(ledger, run)
    if sealed:
        standing = standing.after_seal(sealed)
    return asdict(weighing.weigh(ledger, standing, run, history, new, withdrawn))


@_told
def _repair(
    ledger: Ledger, run: str, requests: list[str], start: str, failed: str, place: int
) -> dict[str, Any]:
    standing = _model(ledger, run)
    repair = standing.policy.repairs[place]
    try:
        found = answering.repaired(ledger, standing, run, requests, start, failed, repair)
    except UNAVAILABLE:
        raise
    except Exception as error:  # the next repair may do
        _account(ledger, run, first_line(error))
        return {"tries": [[repair.kind, None]]}
    return {"tries": [list(pair) for pair in found]}


@_told
def _attempted(
    ledger: Ledger,
    run: str,
    number: int,
    repair: str,
    history: str,
    weighed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    found = None
    if weighed is not None:
        refused = tuple(weighed["refused"])
        found = weighing.Weighed(weighed["figures"], weighed["passed"], refused)
    weighing.attempted(ledger, run, number, repair, history, found)
    return {}


@_told
def _publish(
    ledger: Ledger, run: str, history: str, figures: str, requests: list[str], cause: Cause
) -> dict[str, Any]:
    standing = _model(ledger, run)
    if cause == "seal":
        standing = standing.after_seal(requests)
    return {"version": publish(ledger, standing, run, history, figures, requests, cause)}


@_told
def _without(ledger: Ledger, run: str, request: str) -> dict[str, Any]:
    return {"history": without(ledger, _model(ledger, run), run, request)}


@_told
def _fold(ledger: Ledger, run: str, requests: list[str]) -> dict[str, Any]:
    """The sealed history, and those of the requests that were not revoked since they were asked
    to be sealed."""
    standing = _model(ledger, run)
    left = [r for r in current_history(ledger, standing.row).requests() if r in requests]
    return {"history": sealing.fold(ledger, standing, run, left), "requests": left}


@_told
def _destroy(ledger: Ledger, run: str) -> dict[str, Any]:
    forget_standing()
    with ledger.database.reading() as connection:
        row = one(connection, "runs", id=run)
    assert row is not None
    destroyed = sealing.destroy(ledger, row["model"])
    ledger.database.scrub()
    return {"destroyed": destroyed}


def _account(ledger: Ledger, run: str, sentence: str) -> None:
    with storing(ledger.database):
        stored = ledger.vault.put(canonical({"error": sentence}), "account")
        with ledger.database.writing() as connection:
            keep(connection, "told", [(stored, f"run:{run}", "account")])
