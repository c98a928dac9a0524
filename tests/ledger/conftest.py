"""A fresh ledger database for every test: SQLite in a file, and PostgreSQL where it is installed.

The PostgreSQL is a private cluster on a Unix socket in a temporary folder. It is started once for
all tests of a process, as a user without rights, because it refuses to run as root.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from expunge.ledger.database import Database

if TYPE_CHECKING:
    from small_model import Working
    from torch import nn

OWNERS = ("postgres", "nobody")
OPTIONS = "-c listen_addresses='' -c fsync=off -c synchronous_commit=off -c shared_buffers=16MB"
NUMBERS = count(1)


class Cluster:
    """A PostgreSQL server in a folder; its only way in is a socket in the same folder."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        self.data = folder / "data"
        self.owner = _owner()
        if self.owner is not None:
            os.chown(folder, self.owner.pw_uid, self.owner.pw_gid)

    def make(self) -> None:
        self._call(
            "initdb", "-U", "expunge", "-A", "trust", "--no-sync", "-E", "UTF8", "--no-locale"
        )

    def start(self) -> None:
        log, options = str(self.folder / "log"), f"{OPTIONS} -k {self.folder}"
        self._call("pg_ctl", "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-m", "immediate", "stop")

    def url(self, name: str, password: str = "") -> str:
        user = f"expunge:{password}" if password else "expunge"
        return f"postgresql://{user}@/{name}?host={self.folder}"

    def new(self, like: str = "template1") -> str:
        """The URL of a new database: an empty one, or a copy."""
        name = f"test_{next(NUMBERS)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {like}".encode())
        return self.url(name)

    @cached_property
    def ledger(self) -> str:
        """The name of a database with the tables of this version, to be copied."""
        url = self.new()
        migrated(url)
        return name_of(url)

    def drop(self, url: str) -> None:
        name = name_of(url)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), "-D", str(self.data), *arguments]
        known = {"cwd": self.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if self.owner is None:
            subprocess.run(command, check=True, **known)  # type: ignore[call-overload]
            return
        user, group = self.owner.pw_uid, self.owner.pw_gid
        subprocess.run(  # type: ignore[call-overload]
            command, check=True, user=user, group=group, extra_groups=[], **known
        )


def name_of(url: str) -> str:
    return url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]


def migrated(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


def _owner() -> pwd.struct_passwd | None:
    """Who the server runs as; None for the user of the tests."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in OWNERS if name in known), None)


def _binaries() -> Path | None:
    """The folder of the newest PostgreSQL server."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in versions), key=lambda p: int(p.parent.name), default=None)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The private PostgreSQL server."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed (no initdb)")
    if os.getuid() == 0 and _owner() is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
    folder = Path(tempfile.mkdtemp(prefix="expunge-pg-"))  # short: a socket's path has a limit
    try:
        server = Cluster(folder, binaries)
        server.make()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ledger_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the tables of this version, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Which of the two databases."""
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Cluster = request.getfixturevalue("cluster")
    url = server.new()
    yield url
    server.drop(url)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with the tables of this version and no rows."""
    if backend == "sqlite":
        path = tmp_path / "ledger.db"
        shutil.copy(request.getfixturevalue("ledger_file"), path)
        yield f"sqlite:///{path}"
        return
    server: Cluster = request.getfixturevalue("cluster")
    url = server.new(server.ledger)
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the tables of this version and no rows."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def working(tmp_path: Path, digits_model: "nn.Module") -> "Callable[..., Working]":
    """Makes ledgers with the digits classifier in folders of the test; arguments as for
    ``Working.make``."""
    from small_model import Working  # it reads data, which most tests of the ledger do without

    folders = count()

    def make(**changes: Any) -> Working:
        folder = tmp_path / f"ledger-{next(folders)}"
        folder.mkdir()
        return Working.make(folder, digits_model, **changes)

    return make
