"""Sealing: the history is folded into a new base, and what could bring back what was forgotten is
destroyed.

Every object is encrypted with a key of its own, and that key stands in one row: where the key is
gone, no copy of the object can be read, wherever it lies. What stays of a sealed request is its
number, its kind, its keyed hashes, its figures and its certificate.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from expunge import __version__
from expunge.changes.deletion import DeletionState
from expunge.changes.weights import digest_of, stored_tensors
from expunge.errors import ExpungeError
from expunge.ledger import steps
from expunge.ledger.canonical import sha256
from expunge.ledger.certificate import Removal, sign, statement
from expunge.ledger.chain import Erase, Write, append, last, ledger_time
from expunge.ledger.material import Source
from expunge.ledger.opening import Ledger, keep, used
from expunge.ledger.past import StoredHistory
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.standing import Standing
from expunge.ledger.tables import RequestState
from expunge.storage import write_tensors

KEPT_ROLES = ("certificate", "figures", "row hashes")
"""What stays of a sealed request and of the versions before: signatures, scores, hashes."""
OWN = {"spec", "policy", "columns"}
"""What a model needs after it was sealed."""


@dataclass(frozen=True)
class Plan:
    """What a seal would do.

    Args:
        requests: ids of those that would be sealed.
        remade: ids of later requests whose change is made again from the new base.
        objects: (kind, number, bytes) of what would be destroyed.
        outside: what the ledger does not own and somebody has to remove.
    """

    requests: tuple[str, ...]
    remade: tuple[str, ...]
    objects: tuple[tuple[str, int, int], ...]
    outside: tuple[str, ...]


def sealed_requests(ledger: Ledger, model: Record, before: str | None) -> list[Record]:
    """The requests that a seal takes: published before a time, and in the history.

    Raises:
        ExpungeError: there is none, or one of them is suppressed by a guard alone.
    """
    past = steps.read_history(ledger, steps.version_of(ledger, model)["history"])
    with ledger.database.reading() as connection:
        found = [one(connection, "requests", id=request) for request in past.requests()]
    taken = [
        row for row in found if row is not None and (before is None or row["updated_at"] < before)
    ]
    if not taken:
        raise ExpungeError(
            f"No request for {model['name']!r} was published"
            + ("" if before is None else f" before {before}")
            + " and is not sealed yet; there is nothing to seal."
        )
    guarded = [row["id"] for row in taken if row["state"] == RequestState.GUARDED.value]
    if guarded:
        raise ExpungeError(
            f"The request {guarded[0]} is suppressed by a guard, and its weights are not published "
            "yet; let the worker finish it first."
        )
    order = {request: i for i, request in enumerate(past.requests())}
    last_taken = max(order[row["id"]] for row in taken)
    return [r for r in found if r is not None and order[r["id"]] <= last_taken]


def plan(ledger: Ledger, model: Record, before: str | None = None) -> Plan:
    """What a seal would destroy; nothing is changed."""
    taken = sealed_requests(ledger, model, before)
    past = steps.read_history(ledger, steps.version_of(ledger, model)["history"])
    ids = [row["id"] for row in taken]
    going = _going(ledger, model, ids, keep_current=())
    with ledger.database.reading() as connection:
        found = [one(connection, "objects", address=address) for address in going]
    counted: dict[str, tuple[int, int]] = {}
    for row in found:
        if row is not None:
            number, size = counted.get(row["kind"], (0, 0))
            counted[row["kind"]] = number + 1, size + row["size"]
    source = Source.of_bytes(ledger.read(model["spec"]))
    return Plan(
        tuple(ids),
        tuple(r for r in past.requests() if r not in ids),
        tuple((kind, *counted[kind]) for kind in sorted(counted)),
        outside(source),
    )


def outside(source: Source) -> tuple[str, ...]:
    """What a seal cannot reach."""
    where = f" in {source.folder}" if source.folder else ""
    return (
        f"the weights and the rows of the source{where}: remove the weights file, and the "
        "forgotten rows from the tables",
        "folders that `expunge forget`, `audit`, `tune` and `compare` wrote, with signals, shadow "
        "models and pictures of forgotten rows",
        "the cache of data sets, if forgotten rows are in it (`expunge data clean`)",
        "backups of the database together with the master key: give the ledger a new master key "
        "where backups are kept",
    )


def fold(ledger: Ledger, standing: Standing, run: str, requests: list[str]) -> str:
    """The address of a history on a new base, which the answers to these requests were folded into.

    Later answers are made again from it, in order.
    """
    past = steps.read_history(ledger, steps.version_of(ledger, standing.row)["history"])
    until, later = _until(past, set(requests))
    model = standing.deployment(until).model
    digest = digest_of(model)
    address = ledger.draft_file(
        run,
        lambda path: write_tensors(path, stored_tensors(model), {"digest": digest}),
        "base",
        "base",
    )
    found = StoredHistory.of(past.aggregation, digest, address)
    if not later:
        return steps.draft(ledger, run, found)
    gone = standing.gone(requests)
    after = replace(standing, material=standing.material.without(gone), _bases={}, _changes={})
    for answer in later:
        start = steps.draft(ledger, run, found)
        repair = (answer.method, answer.parameters) if answer.settings == "repair" else None
        found = steps.read_history(
            ledger, steps.unlearn(ledger, after, run, answer.request, start, repair)
        )
    return steps.draft(ledger, run, found)


def _until(past: StoredHistory, requests: set[str]) -> tuple[StoredHistory, tuple[Any, ...]]:
    """The history up to the last of these requests, and the answers after it."""
    for i in range(len(past.epochs) - 1, -1, -1):
        epoch = past.epochs[i]
        for k in range(len(epoch.answers) - 1, -1, -1):
            if epoch.answers[k].request in requests:
                later = [*epoch.answers[k + 1 :]]
                later += [a for e in past.epochs[i + 1 :] for a in e.answers]
                found = StoredHistory(past.aggregation, past.epochs[: i + 1])
                latest = replace(epoch, answers=epoch.answers[: k + 1])
                found = replace(found, epochs=(*past.epochs[:i], latest))
                new = [c for c in epoch.answers[k].changes if c.kind == "replacement"]
                if new:  # its new weights began the epoch that follows
                    base = replace(past.epochs[i + 1], answers=())
                    found = replace(found, epochs=(*found.epochs, base))
                return found, tuple(later)
    return past, ()


def publish(
    ledger: Ledger, standing: Standing, run: str, requests: list[str], history: str, figures: str
) -> str:
    """Make the sealed history the current version, and mark its requests; its id."""
    with ledger.database.reading() as connection:
        found = one(connection, "versions", run=run, cause="seal")
        if found is not None:
            return str(found["id"])
        sealed = rows(connection, "requests", id=requests)
        at, anchor = ledger_time(connection), last(connection)
    before = steps.version_of(ledger, standing.row)
    past = steps.read_history(ledger, history)
    weights, state = _weights(standing, past, requests, before)
    number, model = before["number"] + 1, standing.row["id"]
    removal = Removal(
        model=standing.row["name"],
        version=number,
        parent=before["number"],
        cause="seal",
        before=before["weights_digest"],
        after=weights,
        request_hashes=tuple(sorted(row["scope_hash"] for row in sealed)),
        kinds=_kinds(sealed),
        method=None,
        parameters={},
        settings=None,
        aggregation=past.aggregation,
        strengths={},
        code_version=__version__,
        seed=standing.material.seed,
        deletion_state=state.value,
        figures=steps.figures_of(ledger, figures),
        not_covered=steps.not_covered(state),
        issued_at=at,
        anchor=anchor,
    )
    name = f"{standing.row['name']}@{number}"
    envelope = sign(statement(name, weights, removal.to_json()), ledger.keys)
    certificate = ledger.vault.put(envelope, "certificate")
    version = f"{model}@{number}"
    owner = f"version:{version}"
    with ledger.database.writing() as connection:
        at = ledger_time(connection)
        writes: list[Write | Erase] = [
            Write(
                "versions",
                {"id": version},
                {
                    "model": model,
                    "number": number,
                    "parent": before["id"],
                    "run": run,
                    "cause": "seal",
                    "history": history,
                    "weights_digest": weights,
                    "deletion_state": state.value,
                    "figures": figures,
                    "certificate": certificate.address,
                    "certificate_digest": sha256(envelope),
                    "created_at": at,
                },
            ),
            Write(
                "models",
                {"id": model},
                {
                    "version": number,
                    "base": past.epochs[0].address,
                    "base_digest": past.epochs[0].base,
                    "sealed_before": at,
                },
            ),
            used(past.epochs[0].address, f"model:{model}", "base"),
            used(history, owner, "history"),
            used(figures, owner, "figures"),
            *(used(address, owner, "part") for address in sorted(past.addresses())),
            *(Write("requests", {"id": request}, {"sealed": True}) for request in requests),
        ]
        keep(connection, "sealed", [(certificate, owner, "certificate")], writes)
    return version


def _weights(
    standing: Standing, past: StoredHistory, requests: list[str], before: Record
) -> tuple[str, DeletionState]:
    """Digest and deletion state of what is left when base and changes are gone."""
    if past.current.answers:  # later answers stand on the new base, and can be taken back
        after = replace(
            standing, material=standing.material.without(standing.gone(requests)), _bases={}
        )
        return digest_of(after.deployment(past, guards=False).model), DeletionState.EDITED
    earlier = before["deletion_state"]
    anew = earlier in (DeletionState.RETRAINED.value, DeletionState.EXACT.value)
    return past.current.base, DeletionState(earlier) if anew else DeletionState.SEALED


def _kinds(sealed: Iterable[Record]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in sealed:
        found[row["kind"]] = found.get(row["kind"], 0) + 1
    return found


def destroy(ledger: Ledger, standing: Standing, requests: list[str]) -> int:
    """Destroy the keys and the objects that the seal leaves behind; how many. May be repeated."""
    model = standing.row["id"]
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model)
    assert row is not None
    version = steps.version_of(ledger, row)
    current = steps.read_history(ledger, version["history"]).addresses()
    going = _going(ledger, row, requests, keep_current=(*current, version["history"], row["base"]))
    with ledger.database.writing() as connection:
        writes: list[Write | Erase] = []
        for address in going:
            writes += [
                Erase("uses", {"address": address, "owner": use["owner"], "role": use["role"]})
                for use in rows(connection, "uses", address=address)
            ]
            writes.append(Write("objects", {"address": address}, {"destroyed": True}))
        if writes:
            append(connection, "destroyed", writes)
    with ledger.database.reading() as connection:
        gone = rows(connection, "objects", destroyed=True)
    for found in gone:
        ledger.vault.destroy(found["address"])
    return len(going)


def _going(
    ledger: Ledger, model: Record, requests: list[str], keep_current: Iterable[str]
) -> list[str]:
    """Addresses of what is destroyed with these requests.

    That is every object of theirs and of the model's runs and versions up to now, save what a seal
    keeps, what the current version is made of, and what requests that stay still need.
    """
    with ledger.database.reading() as connection:
        runs_ = [r["id"] for r in rows(connection, "runs", model=model["id"])]
        versions = [v["id"] for v in rows(connection, "versions", model=model["id"])]
        other = [
            r["id"]
            for r in rows(connection, "requests", model=model["id"])
            if r["id"] not in requests
        ]
        owners = {
            *(f"run:{run}" for run in runs_),
            *(f"version:{version}" for version in versions),
            *(f"request:{request}" for request in requests),
        }
        uses = rows(connection, "uses")
        objects = {row["address"] for row in rows(connection, "objects", destroyed=False)}
    needed = set(keep_current) | {
        use["address"]
        for use in uses
        if use["role"] in KEPT_ROLES
        or use["owner"] in {f"request:{request}" for request in other}
        or (use["owner"] == f"model:{model['id']}" and use["role"] in OWN)
    }
    taken = {use["address"] for use in uses if use["owner"] in owners}
    taken |= {
        use["address"]
        for use in uses
        if use["owner"] == f"model:{model['id']}" and use["role"] == "base"
    }
    return sorted((taken - needed) & objects)
