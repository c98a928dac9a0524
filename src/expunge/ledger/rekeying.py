"""A new master key: every stored key is wrapped under it at once, and the old one opens nothing.

Objects stay as they are, since each is encrypted with a key of its own. What the old master key
still opens is a copy of the database from before.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout
from sqlalchemy import Connection

from expunge.errors import ExpungeError
from expunge.ledger.canonical import sha256
from expunge.ledger.chain import Erase, Write, append
from expunge.ledger.locks import collecting, taken, worker_file
from expunge.ledger.opening import Ledger
from expunge.ledger.refusals import UnavailableError
from expunge.ledger.rows import rows

WRAPPED = {"objects": "address", "hash_keys": "purpose"}
"""Tables with wrapped keys, and the column of their own key."""
AT_ONCE = 1000
"""Keys in one event of the chain."""


def rekey(ledger: Ledger, master: bytes) -> int:
    """Wrap every stored key under a new master key; how many there were.

    It is done in one transaction, and put down in the chain. The files are rewritten without the
    old wrapped keys then; with the key that is in use already, that alone is done again.

    Args:
        ledger: opened with the old key; it has to be opened anew with the new one afterwards.
        master: the new one; it must be kept by the caller before.

    Raises:
        ExpungeError: a worker runs, or somebody is storing objects.
        IntegrityError: a stored key does not open with the old one; nothing is changed then.
        UnavailableError: it is done, and the files could not be rewritten.
    """
    count = 0
    new = ledger.keys.with_master(master)
    if new.fingerprint != ledger.keys.fingerprint:
        with _quiet(ledger), ledger.database.writing() as connection:
            _check_no_worker(ledger, connection)
            for table, name in WRAPPED.items():
                count += _wrapped_anew(ledger, connection, table, name, master)
            fingerprint = Write("meta", {"key": "keys"}, {"value": new.fingerprint})
            append(connection, "rekeyed", [fingerprint])
    try:
        ledger.database.scrub()
    except ExpungeError as error:  # whoever took it for undone would throw the new key away
        raise UnavailableError(
            f"The master key is changed, and the ledger opens with the new one, {new.fingerprint}, "
            "alone: keep it, and put it where the old one was. Its files still hold what the old "
            f"key opens: {error}"
        ) from None
    return count


def _wrapped_anew(
    ledger: Ledger, connection: Connection, table: str, name: str, master: bytes
) -> int:
    new = ledger.keys.with_master(master)
    found = [row for row in rows(connection, table) if row["wrapped_key"] is not None]
    for start in range(0, len(found), AT_ONCE):
        part = found[start : start + AT_ONCE]
        wrapped = {row[name]: new.wrap(ledger.keys.unwrap(row["wrapped_key"])) for row in part}
        writes: Sequence[Write | Erase] = [
            Write(table, {name: key}, {"key_digest": sha256(secret)})
            for key, secret in wrapped.items()
        ]
        append(connection, "rekeying", writes, secrets=wrapped)
    return len(found)


@contextmanager
def _quiet(ledger: Ledger) -> Iterator[None]:
    """Inside, no worker of a SQLite ledger runs, and nobody stores an object under the old key."""
    database = ledger.database
    with ExitStack() as stack:
        if database.path is not None:
            try:
                stack.enter_context(FileLock(worker_file(database.path), timeout=0, mode=0o600))
            except Timeout:
                raise ExpungeError(_at_work(ledger)) from None
        if not stack.enter_context(collecting(database, 0.0)):
            raise ExpungeError(
                f"Somebody is storing objects in {database.shown}, under the old master key; "
                "change it when that has ended."
            )
        yield


def _check_no_worker(ledger: Ledger, connection: Connection) -> None:
    """Refuse while a worker of a ledger on a server holds its lock; a new one has to wait for the
    transaction, and is refused then."""
    if ledger.database.path is None:
        for row in rows(connection, "workers"):
            if taken(connection, row["id"]):
                raise ExpungeError(_at_work(ledger))


def _at_work(ledger: Ledger) -> str:
    return (
        f"A worker runs on {ledger.database.shown}, with the old master key; stop it before the "
        "key is changed."
    )
