"""Locks that end with whoever holds them: of a file (flock), or of a connection to PostgreSQL.

A number of a process says little once the process is gone, since numbers are used again, and a row
that says "at work" stays when its writer is killed. A lock does neither. What holds one on a server
loses it with the connection, and has to ask before it relies on it: :meth:`Held.holds`.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from expunge.ledger.database import Database
from expunge.ledger.refusals import UnavailableError

PAUSE = 0.02
"""Seconds between two tries to lock a file."""

STORING = "expunge-storing"
"""Lock of those that write objects whose rows are not there yet, and of the garbage collection."""

TAKEN = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND ((classid::bigint << 32) | objid::bigint) = hashtext(:name)::bigint"
)
"""How many sessions hold a lock of a name: what pg_advisory_lock takes lies there in two halves."""
HOLDS = text(f"{TAKEN.text} AND pid = :process")
"""Whether one session does."""


class LostError(UnavailableError):
    """A worker has ended, or lost the lock that it works under: it may write nothing more."""


@dataclass(frozen=True)
class Held:
    """A lock of a name that one session of a PostgreSQL server holds.

    Args:
        name: of the lock.
        process: number of the session on the server.
    """

    name: str
    process: int

    def holds(self, connection: Connection) -> bool:
        """Whether the session is still there and holds the lock."""
        asked = {"process": self.process, "name": self.name}
        return bool(connection.execute(HOLDS, asked).scalar())


@contextmanager
def held(database: Database, name: str, shared: bool = False) -> Iterator[Held]:
    """A lock of a PostgreSQL server, for as long as a connection of its own lives.

    Args:
        database: on a server.
        name: of the lock.
        shared: several may hold it at once.
    """
    kind = "_shared" if shared else ""
    with database.session() as connection:
        process = connection.execute(
            text(f"SELECT pg_backend_pid() FROM pg_advisory_lock{kind}(hashtext(:name))"),
            {"name": name},
        ).scalar_one()
        connection.commit()
        try:
            yield Held(name, process)
        finally:  # else the lock stays with a connection that waits to be used again
            with suppress(DBAPIError):  # the connection was cut, and the lock went with it
                unlock = text(f"SELECT pg_advisory_unlock{kind}(hashtext(:name))")
                connection.execute(unlock, {"name": name})
                connection.commit()


def taken(connection: Connection, name: str) -> bool:
    """Whether any session of a PostgreSQL server holds a lock of a name."""
    return bool(connection.execute(TAKEN, {"name": name}).scalar())


def worker_file(path: Path) -> str:
    """The file that the one worker of a SQLite ledger holds."""
    return f"{path}.worker"


@contextmanager
def storing(database: Database) -> Iterator[None]:
    """Inside, objects may lie in the vault whose rows are not there yet: no garbage is collected.

    Raises:
        UnavailableError: the garbage is being collected for longer than the database is patient;
            or, in a transaction that writes, the connection that held the lock was cut.
    """
    if database.path is None:
        with held(database, STORING, shared=True) as lock:

            def check(connection: Connection) -> None:
                if not lock.holds(connection):
                    raise UnavailableError(
                        f"The connection to {database.shown} was cut while objects were stored, so "
                        "that they may be collected as garbage; run the same again."
                    )

            with database.writes_while(check):
                yield
        return
    with _opened(_path(database)) as file:
        if not _within(database.patience, lambda: locked(file, shared=True)):
            raise UnavailableError(
                f"The garbage of {database.shown} is being collected; run the same again when "
                "`expunge ledger gc` has ended."
            )
        yield


@contextmanager
def collecting(database: Database, patience: float) -> Iterator[bool]:
    """Whether nobody stores objects, and nobody can until this ends; so long it is waited for."""
    if database.path is not None:
        with _opened(_path(database)) as file:
            yield _within(patience, lambda: locked(file))
        return
    with database.session() as connection:

        def said(function: str) -> bool:
            found = connection.execute(
                text(f"SELECT {function}(hashtext(:name))"), {"name": STORING}
            ).scalar_one()
            connection.commit()
            return bool(found)

        free = _within(patience, lambda: said("pg_try_advisory_lock"))
        try:
            yield free
        finally:
            if free:
                said("pg_advisory_unlock")


def _within(seconds: float, take: Callable[[], bool]) -> bool:
    """Whether something can be taken before so many seconds have passed."""
    end = time.monotonic() + seconds
    while not take():
        if time.monotonic() >= end:
            return False
        time.sleep(PAUSE)
    return True


def locked(file: int, shared: bool = False) -> bool:
    """Take the lock of an open file, if nobody holds it; it goes when the file is closed.

    Args:
        file: descriptor.
        shared: several may hold it at once.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(database: Database) -> Path:
    assert database.path is not None
    return database.path.with_name(f"{database.path.name}.storing")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UnavailableError(
            f"{path} cannot be written ({error.strerror}); see that this user may write beside "
            "the ledger, then run the same again."
        ) from None
    try:
        yield file
    finally:
        os.close(file)
