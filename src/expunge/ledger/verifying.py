"""Verifying: that nothing of a ledger was altered, and that its versions are what they say.

What is checked: every link of the chain and every field of every row against it; every object's
bytes against their address, and that its key opens it; every certificate's signature and what it
states against the rows; that each certificate's anchor lies in the chain; and that base, changes
and rule of every current version fold to the weights that its certificate names, bit by bit, and
that its training record is that of these weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError, first_line
from expunge.ledger.canonical import sha256
from expunge.ledger.certificate import Removal, verified
from expunge.ledger.chain import Anchor, events, faults
from expunge.ledger.opening import Ledger
from expunge.ledger.past import StoredHistory
from expunge.ledger.rows import Record, rows
from expunge.ledger.standing import Standing
from expunge.ledger.steps import read_history


@dataclass(frozen=True)
class Verified:
    """What was looked at, and every fault that was found, a sentence each."""

    events: int
    objects: int
    certificates: int
    rebuilt: int
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify(
    ledger: Ledger,
    certificate: bytes | None = None,
    rebuild: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> Verified:
    """Check a whole ledger; nothing is changed.

    Args:
        ledger: what is checked.
        certificate: one that was kept outside: it notices a chain that was cut off before or after
            its own version.
        rebuild: fold the current version of every model again; needs their rows.
        told: what is being done, for a terminal.
    """
    anchor = None
    if certificate is not None:
        stated = verified(certificate, ledger.keys.public)
        anchor = Anchor(*Removal.from_json(stated["predicate"]).anchor)
    told("the chain and the rows")
    with ledger.database.reading() as connection:
        found = faults(connection, anchor)
        hashes = {event.seq: event.hash for event in events(connection)}
        objects = rows(connection, "objects", destroyed=False)
        versions = rows(connection, "versions")
        models = rows(connection, "models")
    told(f"{len(objects)} objects")
    for row in objects:
        found += _object_faults(ledger, row)
    if certificate is not None and sha256(certificate) not in {
        row["certificate_digest"] for row in versions
    }:
        found.append("the version of the certificate is not in the ledger any more.")
    told(f"{len(versions)} certificates")
    names = {row["id"]: row["name"] for row in models}
    for row in versions:
        found += _certificate_faults(ledger, row, names, hashes)
    rebuilt = 0
    for row in models if rebuild else ():
        told(f"the current version of {row['name']}")
        faulty = list(_rebuilt_faults(ledger, row, versions))
        rebuilt += not faulty
        found += faulty
    return Verified(len(hashes), len(objects), len(versions), rebuilt, tuple(found))


def issued(ledger: Ledger, envelope: bytes) -> bool:
    """Whether a certificate is, to the byte, one that a ledger issued and still has."""
    with ledger.database.reading() as connection:
        return bool(rows(connection, "versions", certificate_digest=sha256(envelope)))


def _object_faults(ledger: Ledger, row: Record) -> Iterator[str]:
    address = row["address"]
    try:
        ledger.vault.check(address)
        ledger.keys.unwrap(row["wrapped_key"] or b"")
    except ExpungeError as error:
        yield f"object {address} ({row['kind']}): {first_line(error)}"


def _certificate_faults(
    ledger: Ledger, row: Record, names: dict[str, str], hashes: dict[int, str]
) -> Iterator[str]:
    where = f"version {names.get(row['model'], row['model'])}@{row['number']}"
    try:
        envelope = ledger.read(row["certificate"])
    except ExpungeError as error:
        yield f"{where}: its certificate cannot be read: {first_line(error)}"
        return
    if sha256(envelope) != row["certificate_digest"]:
        yield f"{where}: its certificate is not the one that was issued."
        return
    try:
        stated = verified(envelope, ledger.keys.public)
        removal = Removal.from_json(stated["predicate"])
    except ExpungeError as error:
        yield f"{where}: {first_line(error)}"
        return
    for what, said, held in (
        ("model", removal.model, names.get(row["model"])),
        ("number", removal.version, row["number"]),
        ("weights", removal.after, row["weights_digest"]),
        ("deletion state", removal.deletion_state, row["deletion_state"]),
        ("cause", removal.cause, row["cause"]),
    ):
        if said != held:
            yield f"{where}: its certificate states another {what} than the ledger."
    seq, seal = removal.anchor
    if seq and hashes.get(seq) != seal:
        yield f"{where}: the event {seq} that its certificate names is not in the chain."


def _rebuilt_faults(ledger: Ledger, row: Record, versions: list[Record]) -> Iterator[str]:
    where = f"version {row['name']}@{row['version']}"
    current = [v for v in versions if v["model"] == row["id"] and v["number"] == row["version"]]
    try:
        standing = Standing.of(ledger, row)
        history = read_history(ledger, current[0]["history"])
        found = digest_of(standing.deployment(history, guards=False).model)
    except ExpungeError as error:
        yield f"{where}: it cannot be rebuilt: {first_line(error)}"
        return
    if found != current[0]["weights_digest"]:
        yield (
            f"{where}: base and changes fold to the weights {found[:12]}, and the certificate "
            f"names {current[0]['weights_digest'][:12]}."
        )
    yield from _record_faults(standing, history, where, found)


def _record_faults(
    standing: Standing, history: StoredHistory, where: str, weights: str
) -> Iterator[str]:
    """That the training record opens, and is that of the weights where nothing came since."""
    stored = history.latest_record
    if stored is None:
        return
    try:
        standing.record(history)
    except ExpungeError as error:
        yield f"{where}: its training record cannot be read: {first_line(error)}"
        return
    if not history.stale and stored.model != weights:
        yield (
            f"{where}: its training record is that of the weights {stored.model[:12]}, and it has "
            f"the weights {weights[:12]}."
        )
