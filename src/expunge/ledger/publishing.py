"""Publishing: a candidate becomes the current version, with its certificate, all at once."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from expunge import __version__
from expunge.changes.deletion import DeletionState, weakest
from expunge.changes.weights import digest_of
from expunge.ledger.canonical import sha256
from expunge.ledger.certificate import Before, Cause, Figure, Proof, Removal, sign, statement
from expunge.ledger.chain import Anchor, Erase, Write, last, ledger_time
from expunge.ledger.locks import storing
from expunge.ledger.naming import EARLIER
from expunge.ledger.opening import Ledger, keep, used
from expunge.ledger.past import StoredHistory
from expunge.ledger.refusals import UnavailableError
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.standing import Standing
from expunge.ledger.steps import read_history, request_row, tell, version_of
from expunge.ledger.tables import RequestState

AFTER: Mapping[Cause, Mapping[str, Any]] = {
    "request": {"state": RequestState.PUBLISHED.value, "reason": None},
    "guard": {"state": RequestState.GUARDED.value},
    "revocation": {"state": RequestState.WITHDRAWN.value},
    "seal": {"sealed": True},
}
"""What becomes of the requests that a version is made for."""


def publish(
    ledger: Ledger,
    standing: Standing,
    run: str,
    history: str,
    figures: str,
    requests: Sequence[str],
    cause: Cause,
) -> str:
    """Make a candidate the model's current version; its id.

    A run publishes once for each cause: called again, the version that is there is given back.

    Args:
        ledger: where.
        standing: the model.
        run: its id.
        history: address of the candidate's history.
        figures: address of its figures.
        requests: ids of those that are answered, guarded, revoked or sealed.
        cause: why there is a new version.

    Raises:
        UnavailableError: another version was published meanwhile; the run is to be begun again.
    """
    tell(ledger, run, "publish")
    model, name = standing.row["id"], standing.row["name"]
    with ledger.database.reading() as connection:
        found = one(connection, "versions", run=run, cause=cause)
        if found is not None:
            return str(found["id"])
        about = [request_row(connection, request) for request in requests]
        at, anchor = ledger_time(connection), last(connection)
    before, past = version_of(ledger, standing.row), read_history(ledger, history)
    earlier = read_history(ledger, before["history"])
    _check_follows(name, cause, earlier, past)
    number = before["number"] + 1
    weights = digest_of(standing.deployment(past, guards=False).model)
    state = state_of_history(past)
    removal = _removal(
        standing,
        past,
        before,
        figures_of(ledger, figures),
        about,
        cause,
        weights,
        at,
        anchor,
        _records_before(cause, earlier, past),
    )
    envelope = sign(statement(f"{name}@{number}", weights, removal.to_json()), ledger.keys)
    version = f"{model}@{number}"
    owner = f"version:{version}"
    with storing(ledger.database):
        certificate = ledger.vault.put(envelope, "certificate")
        with ledger.database.writing() as connection:
            found = one(connection, "versions", run=run, cause=cause)
            if found is not None:  # two workers took the run up
                return str(found["id"])
            current = one(connection, "models", id=model)
            assert current is not None
            if current["version"] != before["number"]:
                raise UnavailableError(
                    f"The model {name!r} has version {current['version']} since this run began on "
                    f"version {before['number']}; the run is begun again on that one."
                )
            at = ledger_time(connection)
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
            # a seal is no news of a request: when it was published stays
            dated = {} if cause == "seal" else {"updated_at": at}
            writes: list[Write | Erase] = [
                Write("versions", {"id": version}, fields),
                Write("models", {"id": model}, {"version": number}),
                used(history, owner, "history"),
                used(figures, owner, "figures"),
                *(used(address, owner, "part") for address in sorted(past.addresses())),
                *(Write("requests", {"id": r["id"]}, {**AFTER[cause], **dated}) for r in about),
            ]
            if cause == "seal":
                writes += _new_base(model, past, at)
            if cause == "revocation":
                again = rows(connection, "requests", model=model, reason=EARLIER, sealed=False)
                fields = {"state": RequestState.RECEIVED.value, "reason": None, "updated_at": at}
                writes += [Write("requests", {"id": row["id"]}, fields) for row in again]
            keep(connection, "published", [(certificate, owner, "certificate")], writes)
    return version


def _check_follows(name: str, cause: Cause, earlier: StoredHistory, past: StoredHistory) -> None:
    """Refuse answers that were made before others were published: neither the weights nor the
    training record would know of those.

    Raises:
        UnavailableError: the run is to be begun again on the current version.
    """
    lost = set(earlier.requests()) - set(past.requests())
    if cause in ("request", "guard") and lost:
        raise UnavailableError(
            f"The model {name!r} has answered {len(lost)} requests since this run began that its "
            "answers do not know of; the run is begun again on the current version."
        )


def _records_before(cause: Cause, earlier: StoredHistory, past: StoredHistory) -> Before | None:
    """What becomes of the training records of the version before. A seal alone destroys any, and
    where it leaves two, these show what was removed between them."""
    if not earlier.records():
        return None
    one_left = len({record.address for record in past.records()}) <= 1
    return "destroyed" if cause == "seal" and one_left else "kept"


def _new_base(model: str, past: StoredHistory, at: str) -> list[Write | Erase]:
    first = past.epochs[0]
    fields = {"base": first.address, "base_digest": first.base, "sealed_before": at}
    return [Write("models", {"id": model}, fields), used(first.address, f"model:{model}", "base")]


def state_of_history(past: StoredHistory) -> DeletionState | None:
    """The deletion state of a model after a history, with what was sealed before it."""
    states = [] if past.sealed is None else [past.sealed]
    states += [change.state for answer in past.answers() for change in answer.changes]
    return weakest(map(DeletionState, states))


def _removal(
    standing: Standing,
    past: StoredHistory,
    before: Record,
    figures: tuple[Figure, ...],
    about: Sequence[Record],
    cause: Cause,
    weights: str,
    at: str,
    anchor: Anchor,
    records: Before | None,
) -> Removal:
    state, proven = state_of_history(past), proof_of(past)
    answers = {a.request: a for a in past.answers()}
    new = [answers[row["id"]] for row in about if row["id"] in answers]
    hashes = {row["id"]: row["scope_hash"] for row in about}
    return Removal(
        model=standing.row["name"],
        version=before["number"] + 1,
        parent=before["number"],
        cause=cause,
        before=before["weights_digest"],
        after=weights,
        request_hashes=tuple(sorted(hashes.values())),
        kinds=dict(Counter(row["kind"] for row in about)),
        method=", ".join(dict.fromkeys(a.method for a in new)) or None,
        parameters={a.method: dict(a.parameters) for a in new},
        settings=", ".join(dict.fromkeys(a.settings for a in new)) or None,
        aggregation=past.aggregation,
        strengths={hashes[a.request]: a.strength for a in new},
        code_version=__version__,
        seed=standing.material.seed,
        deletion_state=None if state is None else state.value,
        figures=figures,
        not_covered=not_covered(state, bool(answers), proven, records),
        issued_at=at,
        anchor=anchor,
        guards=tuple(change.digest for guard in past.guards() for change in guard.changes),
        certified=proven,
        records_before=records,
    )


def proof_of(past: StoredHistory) -> Proof | None:
    """What the weights of a history are certified for."""
    return None if past.proven is None else Proof(**past.proven)


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


def not_covered(
    state: DeletionState | None,
    base_kept: bool,
    proven: Proof | None = None,
    records: Before | None = None,
) -> tuple[str, ...]:
    """What a certificate does not say, sentence by sentence.

    Args:
        state: the deletion state.
        base_kept: whether there are answers that could still be revoked.
        proven: what is certified.
        records: what became of the training records from before.
    """
    kept = {
        DeletionState.SUPPRESSED: "The weights still hold what is to be forgotten: a guard acts on "
        "what they answer, or a redaction on what they are served, and whoever has the file can "
        "take it off.",
        DeletionState.EDITED: "The base and the changes are kept, encrypted; together they restore "
        "what was forgotten until the history is sealed.",
    }
    told = [kept[state]] if state in kept else []
    if base_kept and not told:
        told = [
            "The model from before is kept, encrypted, so that requests can be revoked; it holds "
            "what was forgotten until the history is sealed."
        ]
    if records == "kept":
        told.append(
            "The training record from before is kept, encrypted: with the one after it, it shows "
            "what was removed, until the history is sealed."
        )
    if proven is not None:
        told.append(f"Everything but this, which alone is certified: {proven.told()}.")
    return (
        *told,
        "Parts of the model that no request changes, such as a frozen backbone, and what these "
        "were trained on.",
        "Copies of the weights and of the training rows outside the ledger, backups among them.",
        "Models made from earlier versions: quantised, distilled or fine-tuned ones, and caches of "
        "embeddings; those that are known are listed by `expunge ledger descendants`.",
        "The gate compares answers; whether a trace of single rows is left in the weights is asked "
        "by `expunge audit`.",
    )
