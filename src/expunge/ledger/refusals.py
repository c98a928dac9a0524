"""What a driver of a database reports, as one sentence without passwords, statements or values.

SQLite, Result and Error Codes; PostgreSQL 15, Appendix A, Error Codes.
"""

import sqlite3
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from expunge.errors import ExpungeError, IntegrityError


class UnavailableError(ExpungeError):
    """A store is locked, full, stopped or unreachable; the same may succeed later."""


Telling = Callable[[str], ExpungeError]
"""An error about the store that is shown in this way."""


def _locked(shown: str) -> ExpungeError:
    return UnavailableError(
        f"{shown} stays locked by another process; wait until it ends, or end it, and run this "
        "again."
    )


def _full(shown: str) -> ExpungeError:
    return UnavailableError(
        f"There is no space left for {shown}, and nothing was written; make room and run this "
        "again."
    )


def _read_only(shown: str) -> ExpungeError:
    return ExpungeError(
        f"{shown} cannot be written (it is read-only for this user); give one that can be written."
    )


def _not_opened(shown: str) -> ExpungeError:
    return ExpungeError(
        f"{shown} cannot be opened; give a file in a folder that this user may read and write."
    )


def _damaged(shown: str) -> ExpungeError:
    return IntegrityError(
        f"{shown} is no SQLite database, or a damaged one; restore it from a backup."
    )


def _disk(shown: str) -> ExpungeError:
    return UnavailableError(
        f"The disk of {shown} reports an error, and nothing was written; repair it and run this "
        "again."
    )


def _refused(shown: str) -> ExpungeError:
    return ExpungeError(
        f"PostgreSQL refuses the user or the password of {shown}; give those of a user who owns "
        "the database."
    )


def _no_database(shown: str) -> ExpungeError:
    return ExpungeError(f"There is no database {shown}; create it, or give one that exists.")


def _no_answer(shown: str) -> ExpungeError:
    return UnavailableError(
        f"No PostgreSQL answers at {shown}; start it, or give the address of one that runs."
    )


def _lost(shown: str) -> ExpungeError:
    return UnavailableError(
        f"The connection to {shown} was lost, and what was begun is undone; run this again when "
        "the server answers."
    )


SQLITE: dict[int, Telling] = {
    sqlite3.SQLITE_BUSY: _locked,
    sqlite3.SQLITE_LOCKED: _locked,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_READONLY: _read_only,
    sqlite3.SQLITE_PERM: _read_only,
    sqlite3.SQLITE_CANTOPEN: _not_opened,
    sqlite3.SQLITE_NOTADB: _damaged,
    sqlite3.SQLITE_CORRUPT: _damaged,
    sqlite3.SQLITE_IOERR: _disk,
}
"""By primary result code: the low byte of an extended one."""

POSTGRESQL: dict[str, Telling] = {
    "08": _lost,
    "25006": _read_only,
    "28": _refused,
    "3D000": _no_database,
    "42501": _refused,
    "53100": _full,
    "53300": _no_answer,  # too many connections
    "55P03": _locked,
    "57P01": _lost,
    "57P02": _lost,
    "57P03": _no_answer,  # it starts or stops
    "58": _disk,
}
"""By SQLSTATE, or by its class (the first two characters)."""

CONNECTING: tuple[tuple[str, Telling], ...] = (
    ("does not exist", _no_database),
    ("authentication", _refused),
    ("no pg_hba.conf entry", _refused),
)
"""While connecting the driver knows no code: what the server wrote, in English."""


def told(error: DBAPIError, shown: str) -> ExpungeError | None:
    """The sentence for a driver's error, or None where the program is at fault."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        telling = SQLITE.get(getattr(cause, "sqlite_errorcode", -1) & 0xFF)
        return telling(shown) if telling else None
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        telling = POSTGRESQL.get(state) or POSTGRESQL.get(state[:2])
        return telling(shown) if telling else None
    if error.connection_invalidated:
        return _lost(shown)
    if type(cause).__name__ not in {"OperationalError", "ConnectionTimeout"}:
        return None
    text = str(cause)
    if 'role "' in text:
        return _refused(shown)
    return next((tell for words, tell in CONNECTING if words in text), _no_answer)(shown)
