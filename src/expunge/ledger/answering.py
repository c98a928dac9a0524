"""Answering: a method's change for a request, a guard, a repair, and all of these made again.

Guards are made for the weights that they stand around, so whenever an answer changes the weights,
those of other requests are made again. Redactions are of no weights, and stay as they are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from expunge.changes import stored
from expunge.changes.deletion import certified_of, state_of
from expunge.changes.kinds import Change, Replacement, acts_on
from expunge.deployment import Deployment
from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.canonical import sha256
from expunge.ledger.material import parameters_of
from expunge.ledger.opening import Ledger
from expunge.ledger.past import RECORD, Answer, ById, StoredChange, StoredHistory, StoredRecord
from expunge.ledger.policy import OtherAggregation, Repair, Retraining, Strength
from expunge.ledger.rows import Record as Row
from expunge.ledger.scope import Scope
from expunge.ledger.standing import Standing
from expunge.ledger.steps import draft, read_history, request_row, tell
from expunge.methods.guardrail import Guardrail
from expunge.methods.presets import presets_of
from expunge.methods.protocol import Method, Suppresses
from expunge.requests import Request
from expunge.run_file.words import check_words

Given = Mapping[str, Any]
"""``name`` and ``parameters`` of a method in the place of the request's own."""
GUARD: Given = {"name": Guardrail.name, "parameters": {"calibrated_on": "retain"}}
"""What phase one of a two-phase policy answers with."""


def unlearn(
    ledger: Ledger,
    standing: Standing,
    run: str,
    request: str,
    history: str,
    given: Given | None = None,
) -> str:
    """Let a method answer a request; the address of the history with the answer.

    Args:
        ledger: where.
        standing: the model.
        run: its id.
        request: its id.
        history: address of the history so far.
        given: another method than the request's.
    """
    tell(ledger, run, "unlearn", request)
    making = _Making(ledger, standing, run)
    return draft(ledger, run, making.with_answer(read_history(ledger, history), request, given))


def guard(ledger: Ledger, standing: Standing, run: str, request: str, history: str) -> str:
    """Put a guard before the model that refuses what is to be forgotten; the address as above."""
    tell(ledger, run, "guard", request)
    making = _Making(ledger, standing, run)
    return draft(ledger, run, making.with_answer(read_history(ledger, history), request, GUARD))


def again(
    ledger: Ledger, standing: Standing, run: str, answer: Answer, past: StoredHistory
) -> StoredHistory:
    """A history with an answer that is made again on it: as it was made, at the same strength."""
    tell(ledger, run, "unlearn", answer.request)
    making = _Making(ledger, standing, run)
    found = making.with_answer(past, answer.request, answer.given, answer.strength)
    return found.replaced(
        lambda a: replace(a, aggregation=answer.aggregation) if a.request == answer.request else a
    )


@dataclass(frozen=True)
class _Making:
    ledger: Ledger
    standing: Standing
    run: str

    def with_answer(
        self,
        past: StoredHistory,
        request: str,
        given: Given | None,
        strength: float | None = None,
    ) -> StoredHistory:
        """The history with an answer to a request, and the guards of others for its weights."""
        past = past.without_guards({request})
        answer = self.answer(past, request, given, strength)
        if answer.guards:
            return past.with_answer(answer)
        return self.guarded(past.without_guards().with_answer(answer), past.guards())

    def guarded(self, past: StoredHistory, guards: Sequence[Answer]) -> StoredHistory:
        """The history with guards made again for its weights, and redactions as they are."""
        for other in guards:
            kept = other.redacts
            past = past.with_answer(
                other if kept else self.answer(past, other.request, other.given)
            )
        return past

    def answer(
        self,
        past: StoredHistory,
        request: str,
        given: Given | None,
        strength: float | None = None,
    ) -> Answer:
        """What a method answers on top of a history.

        Raises:
            ExpungeError: the model does not know its words, the method cannot answer, or what it
                returns cannot be served.
        """
        with self.ledger.database.reading() as connection:
            row = request_row(connection, request)
        method, settings = self._method(row, given)
        material = self.standing.material
        asked = _asked(self.ledger, row)
        train, table = material.train, material.train_table
        check_words(asked, material.family, material.model, train, table)
        deployment = self.standing.deployment(
            past,
            guards=isinstance(method, Suppresses),
            record=(method.prepares_with | method.unlearns_with).record,
        )
        if strength is None:
            strength = material.strength if row["strength"] is None else row["strength"]
        try:
            outcome = deployment.unlearn(asked, method, material.run())
            acts = {acts_on(change) for change in outcome.changes}
            applied = strength if "weights" in acts and "base" not in acts else 1.0
            deployment.serve(asked, method, outcome, applied)  # refuses what does not fit the base
        except IntegrityError as error:  # the method's own, and not of what is stored
            raise ExpungeError(str(error)) from None
        by_digest = {
            r.digest(): name for name, r in self.standing.requests(past.requests()).items()
        }
        preset = presets_of(outcome.changes)
        return Answer(
            request,
            tuple(self._stored(change) for change in outcome.changes),
            applied,
            tuple(by_digest[d] for d in outcome.excluded if d in by_digest),
            method.name,
            preset if isinstance(preset, dict) and preset else parameters_of(method),
            settings,
            row["aggregation"] if acts & {"weights", "base"} else None,
            given,
            None if outcome.record is None else self._stored_record(deployment),
        )

    def _stored_record(self, deployment: Deployment) -> StoredRecord:
        """The training record that an answer left, which names the weights it belongs to."""
        assert deployment.record is not None  # it was served with one
        address = self.ledger.draft_file(self.run, deployment.record.save, RECORD, RECORD)
        return StoredRecord.of(deployment.record, address)

    def _method(self, row: Row, given: Given | None) -> tuple[Method, str]:
        named = self.standing.material.method_named
        if given is not None:
            settings = "paper's defaults" if given == GUARD else "repair"
            return named(given["name"], given["parameters"]), settings
        if row["method"]:
            return named(row["method"], json.loads(row["parameters"])), "request"
        return self.standing.material.method, self.standing.material.settings

    def _stored(self, change: Change) -> StoredChange:
        kind = stored.kind_of(change)
        content: list[str] = []

        def save(path: Path) -> None:
            stored.save(change, path)
            content.append(sha256(path.read_bytes()))

        address = self.ledger.draft_file(self.run, save, kind, kind)
        digest, acts = content[0], acts_on(change)
        if isinstance(change, Replacement):
            digest = change.digest()
        elif acts == "input":  # it is ids alone: who guesses them could confirm it by a certificate
            digest = self.ledger.keys.hashed("scope", digest)
        proven = certified_of(change)
        told = None if proven is None else asdict(proven)
        return StoredChange(kind, address, digest, state_of(change).value, acts, told)


def _asked(ledger: Ledger, row: Row) -> Request:
    scope = Scope.of_bytes(ledger.read(row["scope"]))
    found = json.loads(ledger.read(row["rows"]))
    return replace(scope.request(), target=ById(scope.kind, tuple(found["forget"])))


def repaired(
    ledger: Ledger,
    standing: Standing,
    run: str,
    requests: Sequence[str],
    start: str,
    failed: str,
    repair: Repair,
) -> list[tuple[str, str]]:
    """Histories that a repair of the policy gives, each with what it is called.

    Args:
        ledger: where.
        standing: the model.
        run: its id.
        requests: ids of those that are answered in the run.
        start: address of the history before them.
        failed: address of the history that the gate refused.
        repair: what to try.

    Raises:
        ExpungeError: the repair cannot be tried.
    """
    past, making = read_history(ledger, failed), _Making(ledger, standing, run)

    def drafted(found: StoredHistory) -> str:
        return draft(ledger, run, making.guarded(found.without_guards(), found.guards()))

    if isinstance(repair, Strength):
        tries = [
            (f"strength x {factor:g}", _changed(past, requests, _stronger(factor)))
            for factor in repair.factors
        ]
        # new weights and guards have no strength
        return [(name, drafted(found)) for name, found in tries if found != past]
    if isinstance(repair, OtherAggregation):
        standing.material.rule(repair.name)
        other = _changed(past, requests, lambda answer: replace(answer, aggregation=repair.name))
        if other == past:  # new weights: nothing is combined
            return []
        return [(f"aggregation {repair.name}", drafted(other))]
    given: Given = {"name": "retrain", "parameters": {}}
    if not isinstance(repair, Retraining):
        given = {"name": repair.name, "parameters": repair.parameters}
    found = start
    for request in requests:
        found = unlearn(ledger, standing, run, request, found, given)
    return [(f"method {given['name']}", found)]


def _changed(
    past: StoredHistory, requests: Sequence[str], change: Callable[[Answer], Answer]
) -> StoredHistory:
    return past.replaced(lambda a: change(a) if a.request in requests else a)


def _stronger(factor: float) -> Callable[[Answer], Answer]:
    def scaled(answer: Answer) -> Answer:
        fixed = any(change.acts != "weights" for change in answer.changes)
        return answer if fixed else replace(answer, strength=answer.strength * factor)

    return scaled
