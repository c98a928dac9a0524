"""Sealing: the history is folded into a new base, and what could bring back what was forgotten is
destroyed.

Every object is encrypted with a key of its own, and that key stands in one row: where the key is
gone, no copy of the object can be read, wherever it lies. What stays of a sealed request is its
number, its kind, its keyed hashes, its figures and its certificate.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from expunge.changes.deletion import DeletionState
from expunge.changes.weights import digest_of, stored_tensors
from expunge.errors import ConflictError, ExpungeError
from expunge.ledger import steps
from expunge.ledger.answering import again
from expunge.ledger.chain import Erase, Write, append, stamp
from expunge.ledger.collecting import remove_destroyed
from expunge.ledger.material import Source
from expunge.ledger.opening import Ledger, sweep_scratch
from expunge.ledger.past import StoredHistory, StoredRecord
from expunge.ledger.publishing import state_of_history
from expunge.ledger.rows import Record, one, rows
from expunge.ledger.standing import Standing
from expunge.ledger.tables import RequestState
from expunge.storage import write_tensors

KEPT_ROLES = ("certificate", "figures", "row hashes")
"""What stays of a sealed request and of the versions before: signatures, scores, hashes."""
OWN = {"spec", "policy", "columns"}
"""What a model needs after it was sealed."""
OPEN = (RequestState.RECEIVED.value, RequestState.RUNNING.value, RequestState.GUARDED.value)
"""States of a request whose account is still to be read."""


@dataclass(frozen=True)
class Plan:
    """What a seal would do.

    Args:
        requests: ids of those that would be sealed.
        remade: ids of later requests whose change is made again from the new base; redactions stay
            as they are.
        objects: (kind, number, bytes) of what would be destroyed.
        outside: what the ledger does not own and somebody has to remove.
    """

    requests: tuple[str, ...]
    remade: tuple[str, ...]
    objects: tuple[tuple[str, int, int], ...]
    outside: tuple[str, ...]


def sealed_requests(ledger: Ledger, model: Record, before: str | None) -> list[Record]:
    """The requests that a seal takes: published before a time, and all that were answered before
    the last of these.

    Args:
        ledger: where.
        model: its row.
        before: a day or a time as ISO 8601, in UTC where it names no zone; None for now.

    Raises:
        ExpungeError: there is none, one of them is suppressed by a guard alone, or ``before`` is no
            time.
    """
    until = None if before is None else _moment(before)
    past = steps.current_history(ledger, model)
    with ledger.database.reading() as connection:
        found = [steps.request_row(connection, request) for request in past.requests()]
    places = [i for i, row in enumerate(found) if until is None or row["updated_at"] < until]
    if not places:
        raise ConflictError(
            f"No request for {model['name']!r} was published"
            + ("" if before is None else f" before {before}")
            + " and is not sealed yet; there is nothing to seal."
        )
    taken = found[: places[-1] + 1]
    _check_weights(past, [row["id"] for row in taken])
    return taken


def _moment(given: str) -> str:
    try:
        found = datetime.fromisoformat(given)
        return stamp(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):  # the first and the last day are none in another zone
        raise ExpungeError(
            f"The time {given!r} was given; a day or a time is expected, such as 2026-01-31."
        ) from None


def _check_weights(past: StoredHistory, requests: Collection[str]) -> None:
    guarded = [a.request for a in past.guards() if a.request in requests]
    if guarded:
        raise ConflictError(
            f"The request {guarded[0]} is suppressed by a guard, and the weights still hold it; "
            "have it answered by a method that changes them, or revoke it, and then seal."
        )


def plan(ledger: Ledger, model: Record, before: str | None = None) -> Plan:
    """What a seal would destroy; nothing is changed."""
    ids = [row["id"] for row in sealed_requests(ledger, model, before)]
    past = steps.current_history(ledger, model)
    redacted = {answer.request for answer in past.answers() if answer.redacts}
    later = tuple(r for r in past.requests() if r not in ids and r not in redacted)
    left = _surviving(past.until(ids)[0])
    needed = () if left is None else (left.address,)
    with ledger.database.reading() as connection:
        going = _going(connection, model, ids, needed)
        found = [one(connection, "objects", address=address) for address in going]
    counted: dict[str, tuple[int, int]] = {}
    for row in found:
        if row is not None:
            number, size = counted.get(row["kind"], (0, 0))
            counted[row["kind"]] = number + 1, size + row["size"]
    source = Source.of_bytes(ledger.read(model["spec"]))
    objects = tuple((kind, *counted[kind]) for kind in sorted(counted))
    return Plan(tuple(ids), later, objects, outside(ledger, model, source))


def outside(ledger: Ledger, model: Record, source: Source) -> tuple[str, ...]:
    """What a seal of a model cannot reach."""
    with ledger.database.reading() as connection:
        made = rows(connection, "descendants", model=model["id"])
    lagging = sorted(
        f"{d['name']} (@{d['version']})" for d in made if d["version"] < model["version"]
    )
    where = f" in {source.folder}" if source.folder else ""
    return (
        f"the weights, the training record and the rows of the source{where}: remove the files of "
        "weights and record, and the forgotten rows from the tables",
        "folders that `expunge ledger materialise` and `expunge ledger export` wrote of earlier "
        "versions: remove them, and materialise again after the seal",
        "servers and other processes that hold an earlier version in memory: have them load the "
        "current one",
        *(
            [f"what was made from an earlier version, as declared: {', '.join(lagging)}"]
            if lagging
            else []
        ),
        "folders that `expunge forget`, `audit`, `tune` and `compare` wrote, with signals, shadow "
        "models and pictures of forgotten rows",
        "the cache of data sets (EXPUNGE_CACHE), if forgotten rows are in it",
        "backups of the database and the objects, which the master key opens: let them expire",
    )


def fold(ledger: Ledger, standing: Standing, run: str, requests: Collection[str]) -> str:
    """The address of a history on a new base, which the answers to these requests were folded into.

    Later answers are made again from it, in order; redactions stay as they are, since some of
    their rows may be those of a request that is sealed.

    Raises:
        ExpungeError: none of them is in the history any more, or one is suppressed by a guard.
    """
    past = steps.current_history(ledger, standing.row)
    _check_weights(past, requests)
    until, later = past.until(requests)
    model = standing.deployment(until, guards=False).model
    digest = digest_of(model)
    address = ledger.draft_file(
        run,
        lambda path: write_tensors(path, stored_tensors(model), {"digest": digest}),
        "base",
        "base",
    )
    found = StoredHistory.of(
        until.aggregation,
        digest,
        address,
        _sealed(until).value,
        _surviving(until),
        until.proven,
    )
    after = standing.after_seal(requests)
    for answer in later:
        if answer.redacts:
            found = found.with_answer(answer)
        else:
            found = again(ledger, after, run, answer, found)
    return steps.draft(ledger, run, found)


def _surviving(until: StoredHistory) -> StoredRecord | None:
    """The training record of the new base, which the base needs: that after the removals. Those
    from before are destroyed, and so is one that is not of these weights."""
    return None if until.stale else until.latest_record


def _sealed(until: StoredHistory) -> DeletionState:
    """The state of a base that this was folded into, when what it was folded from is destroyed."""
    earlier = state_of_history(until)
    anew = earlier in (DeletionState.RETRAINED, DeletionState.EXACT)
    return earlier if earlier is not None and anew else DeletionState.SEALED


def destroy(ledger: Ledger, model: str) -> int:
    """Destroy the keys and the objects that the seal leaves behind; how many. May be repeated."""
    with ledger.database.reading() as connection:
        row = one(connection, "models", id=model)
        sealed = rows(connection, "requests", model=model, sealed=True)
    assert row is not None
    requests = [request["id"] for request in sealed]
    version = steps.version_of(ledger, row)
    current = steps.read_history(ledger, version["history"]).addresses()
    with ledger.database.writing() as connection:
        going = _going(connection, row, requests, {*current, version["history"], row["base"]})
        writes: list[Write | Erase] = [
            Write("requests", {"id": request}, {"sealed": True})
            for request in _settled(connection, model, RequestState.ANSWERED)
        ]
        for address in going:
            writes += [
                Erase("uses", {"address": address, "owner": use["owner"], "role": use["role"]})
                for use in rows(connection, "uses", address=address)
            ]
            writes.append(Write("objects", {"address": address}, {"destroyed": True}))
        if writes:
            append(connection, "destroyed", writes)
    remove_destroyed(ledger)
    sweep_scratch()
    return len(going)


def _settled(connection: Connection, model: str, *states: RequestState) -> list[str]:
    """Requests that ended without a version in use: answered with evidence, or withdrawn. Their
    words and accounts name people and rows, and nothing needs them any more."""
    asked = [state.value for state in states]
    found = rows(connection, "requests", model=model, state=asked, sealed=False)
    return [row["id"] for row in found]


def _going(
    connection: Connection, model: Record, requests: Collection[str], needed: Collection[str]
) -> list[str]:
    """Addresses of what is destroyed with these requests.

    That is every object of theirs and of the model's runs and versions up to now, the accounts of
    all requests that have ended (they name rows), and what nothing uses any more; save what a seal
    keeps, what the current version is made of, and what requests that stay still need.
    """
    taken_requests = {
        *requests,
        *_settled(connection, model["id"], RequestState.ANSWERED, RequestState.WITHDRAWN),
    }
    runs = [r["id"] for r in rows(connection, "runs", model=model["id"])]
    versions = [v["id"] for v in rows(connection, "versions", model=model["id"])]
    other = {
        f"request:{r['id']}": r["state"]
        for r in rows(connection, "requests", model=model["id"])
        if r["id"] not in taken_requests
    }
    owners = {
        *(f"run:{run}" for run in runs),
        *(f"version:{version}" for version in versions),
        *(f"request:{request}" for request in taken_requests),
    }
    kept, taken, used = set(needed), set(), set()
    own = f"model:{model['id']}"
    for use in rows(connection, "uses"):
        address, owner, role = use["address"], use["owner"], use["role"]
        used.add(address)
        told = role == "account" and other.get(owner) not in OPEN
        if role in KEPT_ROLES or (owner == own and role in OWN) or (owner in other and not told):
            kept.add(address)
        elif owner in owners or (owner == own and role == "base") or owner in other:
            taken.add(address)
    objects = {row["address"] for row in rows(connection, "objects", destroyed=False)}
    return sorted(((taken & objects) | (objects - used)) - kept)
