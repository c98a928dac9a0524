"""The steps of a run, one after another: resolve, unlearn, weigh, publish.

Each step reads and writes the ledger alone and gives back ids and addresses, so that it may be
carried out in any process, and again after a crash: what it drafts twice is collected as garbage,
and what it publishes stands under the number of the run, once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from expunge import __version__
from expunge.audit.finding import Search, Sought
from expunge.audit.oracle import retrained
from expunge.changes.deletion import DeletionState, deletion_state
from expunge.changes.weights import digest_of
from expunge.data.duplicates.content import Searched
from expunge.errors import ExpungeError
from expunge.ledger.canonical import canonical, sha256
from expunge.ledger.certificate import Cause, Figure, Removal, sign, statement
from expunge.ledger.chain import Erase, Write, append, last, ledger_time
from expunge.ledger.material import parameters_of
from expunge.ledger.measuring import (
    Figures,
    RequestFigures,
    checks,
    scores_of,
    stand_in,
)
from expunge.ledger.opening import Ledger, keep, used
from expunge.ledger.past import Answer, StoredChange, StoredHistory
from expunge.ledger.policy import (
    OtherAggregation,
    OtherMethod,
    Repair,
    Retraining,
    Strength,
)
from expunge.ledger.rows import Record, Value, note, one, rows
from expunge.ledger.scope import Scope, hashes_of_rows
from expunge.ledger.standing import Standing, kind_of
from expunge.ledger.tables import RequestState
from expunge.methods.guardrail import Guardrail
from expunge.methods.presets import presets_of
from expunge.methods.protocol import Method
from expunge.requests import Request

NOWHERE, EARLIER, EVERYTHING = "not in the training data", "already forgotten", "names every row"
"""Why a request is answered, or refused, before anything is computed."""
SHOWN = 5
"""Ids in an account of what was found."""


@dataclass(frozen=True)
class Resolved:
    """What became of a request when its rows were looked for.

    ``go`` is whether there is something to forget; ``reason`` why not.
    """

    go: bool
    reason: str | None = None


def resolve(ledger: Ledger, standing: Standing, run: str, request: str) -> Resolved:
    """Find the rows that a request names, and those that repeat them.

    A request that names nothing of the training data, or nothing that is not forgotten already, is
    answered here, with the evidence in an encrypted account.
    """
    _tell(ledger, run, "resolve", request)
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
    scope = Scope.of_bytes(ledger.read(row["scope"]))
    table, keys = standing.material.train_table, ledger.keys
    wanted = set(scope.values)
    column = [str(value) for value in table[scope.column][:]]
    ids = [str(value) for value in table["id"][:]]
    named = [i for i, value in enumerate(column) if value in wanted]
    missing = sorted(wanted - {column[i] for i in named})
    history = _history(ledger, standing.row)
    earlier = standing.gone(history.requests())
    already = [ids[i] for i in named if earlier[i]]
    forget = [i for i in named if not earlier[i]]
    account: dict[str, Any] = {
        "named": len(named),
        "values without a row": missing,
        "already forgotten": already,
        "searched": {"rows": len(table), "column": scope.column},
    }
    reason = None
    if not forget:
        reason = EARLIER if named else NOWHERE
    elif len(forget) + int(earlier.sum()) == len(table):
        reason = EVERYTHING
    copies: list[str] = []
    if reason is None and standing.policy.duplicates != "ignore":
        account["copies"], copies = _copies(standing, forget, earlier)
    if standing.policy.duplicates != "include":
        copies = []
    chosen = [ids[i] for i in forget] + copies
    drafted = [
        (ledger.vault.put(canonical({"forget": chosen, "copies": copies}), "rows"), "rows"),
        (ledger.vault.put(hashes_of_rows(keys, chosen), "row hashes"), "row hashes"),
        (ledger.vault.put(canonical(account), "account"), "account"),
    ]
    state = {None: RequestState.RUNNING, EVERYTHING: RequestState.REFUSED}.get(
        reason, RequestState.ANSWERED
    )
    with ledger.database.writing() as connection:
        found = request_row(connection, request)
        own = {"rows": "rows", "row_hashes": "row hashes", "account": "account"}
        dropped: list[Write | Erase] = [
            Erase("uses", {"address": found[name], "owner": f"request:{request}", "role": role})
            for name, role in own.items()
            if found[name] is not None
        ]
        fields: dict[str, Value] = {
            "rows": drafted[0][0].address,
            "row_hashes": drafted[1][0].address,
            "account": drafted[2][0].address,
            "row_count": len(chosen),
            "state": state.value,
            "reason": reason,
            "updated_at": ledger_time(connection),
        }
        owned = [(stored, f"request:{request}", role) for stored, role in drafted]
        writes = [*dropped, Write("requests", {"id": request}, fields)]
        keep(connection, "resolved", owned, writes)
    return Resolved(reason is None, reason)


def _copies(
    standing: Standing, forget: Sequence[int], earlier: torch.Tensor
) -> tuple[dict[str, Any], list[str]]:
    """Rows that repeat those to be forgotten: figures of them, and the ids of those in training."""
    table: Any = standing.material.train_table
    try:
        searched = Searched("train", table)
        search = Search((searched,), searched.compared_by_default())
        [finding] = search.look([Sought("request", searched, tuple(forget))])
    except ExpungeError as error:  # a table of tensors has no column that can be compared
        return {"searched": False, "why": str(error)}, []
    ids = [str(value) for value in table["id"][:]]
    place = {name: i for i, name in enumerate(ids)}
    found = [c for c in finding.copies if not earlier[place[c.id]]]
    told = {
        "searched": True,
        "found": len(found),
        "exact": sum(c.exact for c in found),
        "ids": [c.id for c in found],
        "detectors": sorted({c.detector for c in found}),
    }
    return told, [c.id for c in found]


def unlearn(
    ledger: Ledger,
    standing: Standing,
    run: str,
    request: str,
    history: str,
    method: tuple[str, Mapping[str, Any]] | None = None,
) -> str:
    """Let a method answer a request; the address of the history with the answer.

    Args:
        ledger: where.
        standing: the model.
        run: its id.
        request: its id.
        history: address of the history so far.
        method: name and fields of another method than the request's.
    """
    _tell(ledger, run, "unlearn", request)
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
    chosen, settings = _method(standing, row, method)
    past = read_history(ledger, history).without_guard(request)
    if row["aggregation"] is not None:
        past = replace(past, aggregation=row["aggregation"])
    answer = _answered(ledger, standing, run, row, past, chosen, settings)
    return draft(ledger, run, past.with_answer(answer))


def guard(ledger: Ledger, standing: Standing, run: str, request: str, history: str) -> str:
    """Put a guard before the model that refuses what is to be forgotten; the address as above."""
    _tell(ledger, run, "guard", request)
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
    past = read_history(ledger, history)
    answer = _answered(ledger, standing, run, row, past, Guardrail(), "paper's defaults")
    return draft(ledger, run, past.with_answer(answer))


def _answered(
    ledger: Ledger,
    standing: Standing,
    run: str,
    row: Record,
    past: StoredHistory,
    method: Method,
    settings: str,
) -> Answer:
    guards = method.name == Guardrail.name
    deployment = standing.deployment(past, guards=False)
    asked = _asked(ledger, row)
    outcome = deployment.unlearn(asked, method, standing.material.run())
    strength = row["strength"] if row["strength"] is not None else standing.material.strength
    replaces = any(kind_of(change) == "replacement" for change in outcome.changes)
    applied = 1.0 if replaces or guards else strength
    deployment.serve(asked, method, outcome, applied)  # refuses what does not fit the base
    by_digest = {r.digest(): name for name, r in standing.requests(past.requests()).items()}
    stored = tuple(_stored(ledger, run, change) for change in outcome.changes)
    preset = presets_of(outcome.changes)
    return Answer(
        row["id"],
        stored,
        applied,
        tuple(by_digest[d] for d in outcome.excluded if d in by_digest),
        method.name,
        preset if isinstance(preset, dict) and preset else parameters_of(method),
        settings,
    )


def _stored(ledger: Ledger, run: str, change: Any) -> StoredChange:
    kind = kind_of(change)
    content: list[str] = []

    def save(path: Any) -> None:
        change.save(path)
        content.append(sha256(path.read_bytes()))

    address = ledger.draft_file(run, save, kind, kind)
    return StoredChange(kind, address, change.digest() if kind == "replacement" else content[0])


def _asked(ledger: Ledger, row: Record) -> Request:
    scope = Scope.of_bytes(ledger.read(row["scope"]))
    found = json.loads(ledger.read(row["rows"]))
    return replace(scope.request(), target=Chosen(scope.kind, scope.column, tuple(found["forget"])))


@dataclass(frozen=True)
class Chosen:
    """The rows that a request was resolved to, named as it names them."""

    kind: str
    column: str
    ids: tuple[str, ...]

    def rows(self, table: Any) -> torch.Tensor:
        """Their positions."""
        wanted = set(self.ids)
        found = [i for i, name in enumerate(table["id"][:]) if str(name) in wanted]
        return torch.tensor(found, dtype=torch.int64)

    def describe(self) -> Mapping[str, object]:
        """The ids: what the request comes to."""
        return {"ids": sorted(set(self.ids))}


def _method(
    standing: Standing, row: Record, other: tuple[str, Mapping[str, Any]] | None
) -> tuple[Method, str]:
    if other is not None:
        return standing.material.method_named(*other), "repair"
    if row["method"]:
        given = json.loads(row["parameters"])
        return standing.material.method_named(row["method"], given), "request"
    return standing.material.method, standing.material.settings


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
    """
    past = read_history(ledger, failed)
    if isinstance(repair, Strength):
        return [
            (f"strength x {factor:g}", draft(ledger, run, _stronger(past, requests, factor)))
            for factor in repair.factors
        ]
    if isinstance(repair, OtherAggregation):
        return [
            (
                f"aggregation {repair.name}",
                draft(ledger, run, replace(past, aggregation=repair.name)),
            )
        ]
    name, fields = (
        ("retrain", {}) if isinstance(repair, Retraining) else (repair.name, repair.parameters)
    )
    assert isinstance(repair, Retraining | OtherMethod)
    found = start
    for request in requests:
        found = unlearn(ledger, standing, run, request, found, (name, fields))
    return [(f"method {name}", found)]


def _stronger(past: StoredHistory, requests: Sequence[str], factor: float) -> StoredHistory:
    def scaled(answer: Answer) -> Answer:
        fixed = answer.request not in requests or any(c.kind != "delta" for c in answer.changes)
        return answer if fixed else replace(answer, strength=answer.strength * factor)

    latest = replace(past.current, answers=tuple(map(scaled, past.current.answers)))
    return replace(past, epochs=(*past.epochs[:-1], latest))


@dataclass(frozen=True)
class Weighed:
    """What the gate says of a candidate: the address of its figures, and what it refuses."""

    figures: str
    passed: bool
    refused: tuple[str, ...]


def weigh(
    ledger: Ledger,
    standing: Standing,
    run: str,
    history: str,
    new: Sequence[str],
    withdrawn: Sequence[str] = (),
) -> Weighed:
    """Measure a candidate on this and every other request, and hold it to the gate.

    Args:
        ledger: where.
        standing: the model.
        run: its id.
        history: address of the candidate's history.
        new: ids of the requests that are answered in it for the first time.
        withdrawn: ids of those that it is made without; nothing is asked of them any more.
    """
    _tell(ledger, run, "measure", None)
    past, before = read_history(ledger, history), version_of(ledger, standing.row)
    figures = _measured(ledger, standing, past, before, new)
    kept = {r: f for r, f in figures.requests.items() if r not in withdrawn}
    figures = replace(figures, requests=kept)
    gate = checks(figures, standing.policy.gate, new)
    content = {**figures.to_json(), "checks": [check.to_json() for check in gate]}
    address = ledger.draft(run, canonical(content), "figures", "figures")
    refused = tuple(dict.fromkeys(check.name for check in gate if not check.passed))
    return Weighed(address, not refused, refused)


def _measured(
    ledger: Ledger,
    standing: Standing,
    past: StoredHistory,
    before: Record,
    new: Sequence[str],
) -> Figures:
    earlier = Figures.of_json(_figures(ledger, before))
    material, run = standing.material, standing.material.run()
    subjects = standing.subjects(past.requests())
    candidate = standing.deployment(past)
    found = scores_of(material.family, candidate.model, material, subjects, run)
    current = standing.deployment(read_history(ledger, before["history"])).model
    fresh = [s for s in subjects if s.request in new]
    known = scores_of(material.family, current, material, subjects, run) if fresh else None
    gone = standing.gone(past.requests())
    oracle = None
    if standing.policy.gate.oracle and fresh and len(gone) and material.recipe is not None:
        oracle = _oracle(standing, past, subjects)
    told: dict[str, RequestFigures] = {}
    for subject in subjects:
        request, own = subject.request, earlier.requests.get(subject.request)
        after = found.forget[request]
        if request not in new and own is not None:
            if after is None:  # its rows were removed from the table, as they should be
                told[request] = replace(own, stored=True)
                continue
            told[request] = replace(
                own, after=after, held_out=found.held_out[request], rows=len(subject.train)
            )
            continue
        assert known is not None
        reference, against = (
            stand_in(material, current, subject, gone, run)
            if oracle is None
            else (oracle[request], "the oracle")
        )
        told[request] = RequestFigures(
            subject.kind,
            len(subject.train),
            known.forget[request],
            after,
            after,
            reference,
            against,
            len(subject.held_out),
            found.held_out[request],
        )
    for request, own in earlier.requests.items():
        if request not in told:  # sealed: what was measured last stands
            told[request] = replace(own, stored=True)
    return replace(earlier, retained=found.retained, requests=told)


def _oracle(standing: Standing, past: StoredHistory, subjects: Sequence[Any]) -> dict[str, float]:
    """The score of a model retrained without the rows of all requests, on each one's rows."""
    material = standing.material
    union = Chosen(
        "samples",
        "id",
        tuple(
            str(material.train_table["id"][int(i)])
            for i in standing.gone(past.requests()).nonzero().reshape(-1)
        ),
    )
    empty = StoredHistory.of(past.aggregation, standing.row["base_digest"], standing.row["base"])
    model = retrained(standing.deployment(empty), [Request("all", union)], material.run())
    found = scores_of(material.family, model, material, subjects, material.run())
    return {r: score for r, score in found.forget.items() if score is not None}


def attempted(
    ledger: Ledger, run: str, number: int, repair: str, history: str, weighed: Weighed
) -> None:
    """Put down what was tried, and what the gate said of it; once for each number."""
    with ledger.database.writing() as connection:
        if one(connection, "attempts", run=run, number=number) is not None:
            return
        fields = {
            "repair": repair,
            "history": history,
            "figures": weighed.figures,
            "outcome": "passed" if weighed.passed else "refused: " + ", ".join(weighed.refused),
            "created_at": ledger_time(connection),
        }
        append(connection, "attempted", [Write("attempts", {"run": run, "number": number}, fields)])


def publish(
    ledger: Ledger,
    standing: Standing,
    run: str,
    history: str,
    figures: str,
    new: Sequence[str],
    cause: Cause,
    withdrawn: Sequence[str] = (),
) -> str:
    """Make a candidate the model's current version, with its certificate, all at once; its id.

    A run publishes once for each cause: called again, the version that is there is given back.
    """
    _tell(ledger, run, "publish", None)
    with ledger.database.reading() as connection:
        found = one(connection, "versions", run=run, cause=cause)
        if found is not None:
            return str(found["id"])
        answered = [request_row(connection, request) for request in new]
    before = version_of(ledger, standing.row)
    past = read_history(ledger, history)
    number = before["number"] + 1
    weights = digest_of(standing.deployment(past, guards=False).model)
    state = state_of_version(ledger, standing, past, before)
    removal = _removal(ledger, standing, past, before, figures, answered, cause, weights, state)
    envelope = sign(
        statement(f"{standing.row['name']}@{number}", weights, removal.to_json()), ledger.keys
    )
    certificate = ledger.vault.put(envelope, "certificate")
    model, version = standing.row["id"], f"{standing.row['id']}@{number}"
    owner = f"version:{version}"
    with ledger.database.writing() as connection:
        row = one(connection, "models", id=model)
        assert row is not None
        if row["version"] != before["number"]:
            raise ExpungeError(
                f"The model {row['name']!r} has version {row['version']} since this run began on "
                f"version {before['number']}; the run is begun again on that one."
            )
        at = ledger_time(connection)
        phase = RequestState.GUARDED if cause == "guard" else RequestState.PUBLISHED
        fields = {
            "model": model,
            "number": number,
            "parent": before["id"],
            "run": run,
            "cause": cause,
            "history": history,
            "weights_digest": weights,
            "deletion_state": None if state is None else state.value,
            "figures": figures,
            "certificate": certificate.address,
            "certificate_digest": sha256(envelope),
            "created_at": at,
        }
        writes: list[Write | Erase] = [
            Write("versions", {"id": version}, fields),
            Write("models", {"id": model}, {"version": number}),
            used(history, owner, "history"),
            used(figures, owner, "figures"),
            *(used(address, owner, "part") for address in sorted(past.addresses())),
            *(
                Write("requests", {"id": r["id"]}, {"state": phase.value, "updated_at": at})
                for r in answered
            ),
            *(
                Write(
                    "requests",
                    {"id": request},
                    {"state": RequestState.WITHDRAWN.value, "updated_at": at},
                )
                for request in withdrawn
            ),
        ]
        keep(connection, "published", [(certificate, owner, "certificate")], writes)
    standing.row = {**standing.row, "version": number}
    return version


def state_of_version(
    ledger: Ledger, standing: Standing, past: StoredHistory, before: Record
) -> DeletionState | None:
    """The deletion state of a history; of one that was sealed and holds no answer since, sealed."""
    found = deletion_state(standing.deployment(past).history)
    if found is not None:
        return found
    with ledger.database.reading() as connection:
        sealed = [
            version["deletion_state"]
            for version in rows(connection, "versions", model=standing.row["id"])
            if version["cause"] == "seal"
        ]
    return DeletionState(sealed[-1]) if sealed else None


def _removal(
    ledger: Ledger,
    standing: Standing,
    past: StoredHistory,
    before: Record,
    figures: str,
    answered: Sequence[Record],
    cause: Cause,
    weights: str,
    state: DeletionState | None,
) -> Removal:
    with ledger.database.reading() as connection:
        at, anchor = ledger_time(connection), last(connection)
    answers = {a.request: a for a in past.answers()}
    new = [answers[row["id"]] for row in answered if row["id"] in answers]
    kinds: dict[str, int] = {}
    for row in answered:
        kinds[row["kind"]] = kinds.get(row["kind"], 0) + 1
    return Removal(
        model=standing.row["name"],
        version=before["number"] + 1,
        parent=before["number"],
        cause=cause,
        before=before["weights_digest"],
        after=weights,
        request_hashes=tuple(sorted(row["scope_hash"] for row in answered)),
        kinds=kinds,
        method=", ".join(dict.fromkeys(a.method for a in new)) or None,
        parameters={a.method: dict(a.parameters) for a in new},
        settings=", ".join(dict.fromkeys(a.settings for a in new)) or None,
        aggregation=past.aggregation,
        strengths={row["scope_hash"]: answers[row["id"]].strength for row in answered},
        code_version=__version__,
        seed=standing.material.seed,
        deletion_state=None if state is None else state.value,
        figures=figures_of(ledger, figures),
        not_covered=not_covered(state),
        issued_at=at,
        anchor=anchor,
        guards=tuple(
            change.digest
            for answer in past.current.answers
            for change in answer.changes
            if change.kind == "refusal"
        ),
    )


def figures_of(ledger: Ledger, address: str) -> tuple[Figure, ...]:
    """What a certificate says of the figures at an address: every condition of the gate."""
    return tuple(_figure(check) for check in json.loads(ledger.read(address))["checks"])


def _figure(check: Mapping[str, Any]) -> Figure:
    where = "" if check["request"] is None else f" ({check['request']})"
    return Figure(
        check["name"] + where,
        check["value"],
        check["threshold"],
        check["passed"],
        check["against"],
    )


def not_covered(state: DeletionState | None) -> tuple[str, ...]:
    """What a certificate does not say, sentence by sentence."""
    kept = {
        DeletionState.SUPPRESSED: "The weights still hold what is to be forgotten: a guard acts on "
        "what they answer, and whoever has the file can take it off.",
        DeletionState.EDITED: "The base and the changes are kept, encrypted; together they restore "
        "what was forgotten until the history is sealed.",
    }
    told = [kept[state]] if state in kept else []
    return (
        *told,
        "Copies of the weights and of the training rows outside the ledger, backups among them.",
        "Models made from earlier versions: quantised, distilled or fine-tuned ones, and caches of "
        "embeddings; those that are known are listed by `expunge ledger descendants`.",
        "The gate compares answers; whether a trace of single rows is left in the weights is asked "
        "by `expunge audit`.",
    )


def _history(ledger: Ledger, row: Record) -> StoredHistory:
    return read_history(ledger, version_of(ledger, row)["history"])


def read_history(ledger: Ledger, address: str) -> StoredHistory:
    """The history at an address."""
    return StoredHistory.of_bytes(ledger.read(address))


def draft(ledger: Ledger, run: str, history: StoredHistory) -> str:
    """Store a history that a run tries; its address."""
    return ledger.draft(run, history.to_bytes(), "history", "history")


def version_of(ledger: Ledger, row: Record) -> Record:
    """The current version of a model."""
    with ledger.database.reading() as connection:
        model = one(connection, "models", id=row["id"])
        assert model is not None
        found = one(connection, "versions", model=row["id"], number=model["version"])
    assert found is not None
    return found


def _figures(ledger: Ledger, version: Record) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ledger.read(version["figures"]))
    found.pop("checks", None)
    return found


def request_row(connection: Any, request: str) -> Record:
    """A request by its id.

    Raises:
        ExpungeError: there is none.
    """
    found = one(connection, "requests", id=request)
    if found is None:
        raise ExpungeError(f"There is no request {request!r}; `expunge ledger status` lists them.")
    return found


def _tell(ledger: Ledger, run: str, step: str, request: str | None) -> None:
    """Say where a run stands, to whoever watches from another process."""
    with ledger.database.writing() as connection:
        note(
            connection,
            "progress",
            {
                "run": run,
                "step": step,
                "at": ledger_time(connection),
                "share": None,
                "note": request,
            },
        )
