"""The database of a ledger: SQLite in one file, or PostgreSQL for many workers.

Both behave alike to those above: one transaction writes at a time, a reader sees one state of all
tables, a transaction is on disk when it ends, and what a driver reports becomes one sentence
that never shows a password or a value.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from expunge.errors import ExpungeError
from expunge.ledger.refusals import UnavailableError, told
from expunge.ledger.tables import metadata

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
"""The Alembic environment and revisions of this version."""

FORMS = "sqlite:///FILE or postgresql://USER@HOST/NAME"
WRITERS = 0x6578_7067
"""The advisory lock of PostgreSQL that a writing transaction holds."""

MODE = "expunge_mode"
BEGIN = {"reading": "BEGIN", "writing": "BEGIN IMMEDIATE", "migrating": "BEGIN IMMEDIATE"}
"""How SQLite begins a transaction; scrubbing has none."""
PRAGMAS = {
    "reading": ("query_only = ON",),
    "writing": ("query_only = OFF", "foreign_keys = ON"),
    # a table that is made anew must not be missed by those that refer to it
    "migrating": ("query_only = OFF", "foreign_keys = OFF"),
    "scrubbing": ("query_only = OFF",),
}
"""What is set on SQLite before; inside a transaction it would come too late."""


Check = Callable[[Connection], None]
"""Raises where a transaction must not write."""


class Database:
    """One ledger's database. ``patience``: seconds to wait for another process that writes.

    Raises:
        ExpungeError: the URL is none of ``sqlite:///FILE``, ``postgresql://...`` and
            ``postgresql+psycopg://...``, or the driver of PostgreSQL is not installed.
    """

    def __init__(self, url: str, patience: float = 30.0) -> None:
        self.url = _parsed(url)
        self.patience = patience
        sqlite = self.url.drivername == "sqlite"
        self.path = Path(self.url.database or "") if sqlite else None
        self.engine = self._sqlite(self.path) if self.path else self._postgresql()
        self._checks: list[Check] = []

    def __repr__(self) -> str:
        return f"Database({self.shown!r})"

    @property
    def shown(self) -> str:
        """The URL without what could open it: no password, no options but the host and port."""
        return URL.create(
            self.url.get_backend_name(),
            username=self.url.username,
            host=self.url.host,
            port=self.url.port,
            database=self.url.database,
            query={n: v for n, v in self.url.query.items() if n in {"host", "port"}},
        ).render_as_string()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; the only one at a time. An exception undoes it."""
        with self._told(), self._transaction("writing") as connection:
            self.check(connection)
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection that is in no transaction, for locks that live with it."""
        with self._told(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writes_while(self, check: Check) -> Iterator[None]:
        """Inside, every transaction that writes asks first, in itself, whether it may."""
        self._checks.append(check)
        try:
            yield
        finally:
            self._checks.remove(check)

    def writes_if(self, check: Check) -> None:
        """From now on, every transaction that writes asks first, in itself, whether it may."""
        self._checks.append(check)

    def another(self) -> Self:
        """The same database over connections of its own, with the same checks before writing."""
        made = type(self)(self.url.render_as_string(hide_password=False), self.patience)
        made._checks += self._checks
        return made

    def check(self, connection: Connection) -> None:
        """Raise what keeps a transaction from writing, if something does."""
        for check in tuple(self._checks):
            check(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of every table, and cannot write."""
        with self._told(), self._transaction("reading") as connection:
            yield connection

    def migrate(self, migrations: Path = MIGRATIONS) -> None:
        """Make the tables, or bring those of an older version up to date: all or nothing.

        Raises:
            ExpungeError: the store is of a newer version, or cannot be made or written.
        """
        from alembic import command

        if self.path is not None:
            _make_file(self.path)
        with self._told(), self._transaction("migrating") as connection:
            self._refuse_newer(_revisions(connection), _known(migrations))
            config = _configuration(migrations)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def check_schema(self, migrations: Path = MIGRATIONS) -> None:
        """Refuse a database whose tables are not those of this version.

        Raises:
            ExpungeError: it holds no ledger, or one of a newer or an older version.
        """
        with self.reading() as connection:
            present = _revisions(connection)
        known = _known(migrations)
        if not present:
            raise ExpungeError(
                f"{self.shown} holds no ledger; make one with 'expunge ledger init'."
            )
        self._refuse_newer(present, known)
        if present != known[:1]:
            raise ExpungeError(
                f"{self.shown} was made by an older version of expunge (tables of revision "
                f"{present[0]}, now {known[0]}); bring it up to date with 'expunge ledger init'."
            )

    def scrub(self) -> None:
        """Rewrite the files without what was deleted from the tables, such as destroyed keys.

        The write-ahead files and backups of a PostgreSQL server are its administrator's.

        Raises:
            UnavailableError: another process still reads or writes.
        """
        with self._told(), self._transaction("scrubbing") as connection:
            if self.path is None:
                names = ", ".join(f'"{name}"' for name in metadata.tables)
                connection.exec_driver_sql(f"VACUUM (FULL) {names}")
                return
            connection.exec_driver_sql("VACUUM")
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
        if busy:
            raise UnavailableError(
                f"{self.shown} is still read by another process, so that its files keep what was "
                "deleted; run this again when it has ended."
            )

    def close(self) -> None:
        """End every connection that waits to be used again."""
        self.engine.dispose()

    def _sqlite(self, path: Path) -> Engine:
        def connect() -> sqlite3.Connection:
            if not path.exists():
                raise ExpungeError(
                    f"There is no file {path}; make a ledger with 'expunge ledger init'."
                )
            connection = sqlite3.connect(
                f"file:{quote(str(path))}?mode=rw",
                uri=True,
                timeout=self.patience,
                isolation_level=None,  # transactions begin where BEGIN is said, and nowhere else
                check_same_thread=False,
            )
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                connection.execute(f"PRAGMA {pragma}")
            return connection

        engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, hide_parameters=True
        )

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            mode = connection.get_execution_options()[MODE]
            for pragma in PRAGMAS[mode]:
                connection.connection.cursor().execute(f"PRAGMA {pragma}")
            if mode in BEGIN:
                connection.exec_driver_sql(BEGIN[mode])

        return engine

    def _postgresql(self) -> Engine:
        try:
            engine = create_engine(
                self.url,
                hide_parameters=True,
                pool_pre_ping=True,  # a server that was restarted has closed what waits here
                connect_args={"connect_timeout": 10},
            )
        except ModuleNotFoundError as error:
            raise ExpungeError(
                f"PostgreSQL needs the package {error.name}; install it with "
                "pip install 'expunge[postgres]'."
            ) from None

        @event.listens_for(engine, "connect")
        def wait(connection: Any, _record: object) -> None:
            connection.execute(f"SET lock_timeout = {round(self.patience * 1000)}")
            connection.commit()

        return engine

    @contextmanager
    def _transaction(self, mode: str) -> Iterator[Connection]:
        options: dict[str, object] = {MODE: mode}
        if self.path is None and mode == "reading":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        if self.path is None and mode == "scrubbing":
            options |= {"isolation_level": "AUTOCOMMIT"}
        with self.engine.execution_options(**options).begin() as connection:
            if self.path is None and mode in {"writing", "migrating"}:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            sentence = told(error, self.shown)
            if sentence is None:  # a fault of the program
                raise
            raise sentence from None

    def _refuse_newer(self, present: list[str], known: list[str]) -> None:
        strange = sorted(set(present) - set(known))
        if strange:
            raise ExpungeError(
                f"{self.shown} was made by a newer version of expunge (tables of revision "
                f"{strange[0]}, and this version knows {known[0]}); use that version or a later "
                "one."
            )


def _parsed(url: str) -> URL:
    """The URL with an absolute path (SQLite) or the driver (PostgreSQL)."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # not shown: it may hold a password
        raise ExpungeError(f"The URL of a store is {FORMS}; what was given is no URL.") from None
    if parsed.drivername == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.query or parsed.host:
            raise ExpungeError(
                "A ledger on SQLite is one file: give sqlite:///RELATIVE/FILE or "
                "sqlite:////ABSOLUTE/FILE without further options."
            )
        return parsed.set(database=str(Path(parsed.database).absolute()))
    if parsed.drivername in {"postgresql", "postgresql+psycopg"}:
        if not parsed.database:
            raise ExpungeError("The URL names no database: give postgresql://USER@HOST/NAME.")
        return parsed.set(drivername="postgresql+psycopg")
    raise ExpungeError(
        f"The URL of a store is {FORMS}, and one of {parsed.drivername}:// was given."
    )


def _make_file(path: Path) -> None:
    """An empty file for this user alone; SQLite gives its companions the same permissions."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except FileNotFoundError:
        raise ExpungeError(f"There is no folder {path.parent}; make it first.") from None
    except IsADirectoryError:
        raise ExpungeError(f"{path} is a folder; give the path of a file in it.") from None
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        do = "make room and run this again" if full else "give a file that this user may write"
        raise ExpungeError(f"{path} cannot be written ({error.strerror}); {do}.") from None


def _configuration(migrations: Path) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _known(migrations: Path) -> list[str]:
    """The revisions of a folder of migrations, newest first."""
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory.from_config(_configuration(migrations))
    return [script.revision for script in directory.walk_revisions()]


def _revisions(connection: Connection) -> list[str]:
    """The revision that the tables have; nothing where there are none."""
    from alembic.migration import MigrationContext

    return list(MigrationContext.configure(connection).get_current_heads())
