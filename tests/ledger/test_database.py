"""Both databases behave alike: transactions, what a user is told, and what leaves the files."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from expunge.errors import ExpungeError
from expunge.ledger.database import Database
from expunge.ledger.refusals import UnavailableError
from expunge.ledger.rows import erase, note, one, put, rows

if TYPE_CHECKING:
    from conftest import Cluster

SECRET = "swordfish"


def seen(database: Database) -> list[str]:
    with database.reading() as connection:
        return [row["id"] for row in rows(connection, "workers")]


def test_a_transaction_is_kept_whole_or_not_at_all(database: Database) -> None:
    with database.writing() as connection:
        note(connection, "workers", {"id": "one", "seen_at": "now"})
    with pytest.raises(RuntimeError), database.writing() as connection:
        note(connection, "workers", {"id": "two", "seen_at": "now"})
        raise RuntimeError
    assert seen(database) == ["one"]


def test_a_reader_sees_one_state_and_cannot_write(database: Database) -> None:
    with database.reading() as connection:
        assert rows(connection, "workers") == []
        with database.writing() as other:
            note(other, "workers", {"id": "one", "seen_at": "now"})
        assert rows(connection, "workers") == []
    assert seen(database) == ["one"]
    with pytest.raises(ExpungeError, match="read-only"), database.reading() as connection:
        note(connection, "workers", {"id": "two", "seen_at": "now"})
    with database.writing() as connection:  # the same connection writes again
        note(connection, "workers", {"id": "two", "seen_at": "now"})


def test_a_second_writer_waits_for_the_first(database: Database) -> None:
    entered = threading.Event()
    order = []

    def second() -> None:
        entered.set()
        with database.writing() as connection:
            order.append("second")
            note(connection, "workers", {"id": "b", "seen_at": "now"})

    with database.writing() as connection:
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait()
        note(connection, "workers", {"id": "a", "seen_at": "now"})
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert seen(database) == ["a", "b"]


def test_a_writer_that_waits_too_long_is_told_so(database: Database, database_url: str) -> None:
    impatient = Database(database_url, patience=0.05)
    with (
        database.writing(),
        pytest.raises(UnavailableError, match=r"^\S+ stays locked by another process"),
        impatient.writing(),
    ):
        pass
    with impatient.writing():
        pass
    impatient.close()


def test_rows_that_refer_to_nothing_are_refused_when_the_transaction_ends(
    database: Database,
) -> None:
    with pytest.raises(IntegrityError), database.writing() as connection:
        put(connection, [("uses", {"address": "nowhere", "owner": "model:a", "role": "base"})])


def test_rows_are_read_by_equality_lists_and_null(database: Database) -> None:
    with database.writing() as connection:
        for run, share in (("c", 0.5), ("a", None), ("b", 0.5)):
            note(connection, "progress", {"run": run, "step": "fold", "at": "t", "share": share})
    with database.reading() as connection:
        assert [r["run"] for r in rows(connection, "progress")] == ["a", "b", "c"]
        assert [r["run"] for r in rows(connection, "progress", share=0.5)] == ["b", "c"]
        assert [r["run"] for r in rows(connection, "progress", share=None)] == ["a"]
        assert [r["run"] for r in rows(connection, "progress", run=["a", "c", "z"])] == ["a", "c"]
        assert one(connection, "progress", run="z") is None
        with pytest.raises(ValueError, match="2 rows"):
            one(connection, "progress", share=0.5)
    with database.writing() as connection:
        erase(connection, "progress", [{"run": "a"}, {"run": "nobody"}])
        assert len(rows(connection, "progress")) == 2
        with pytest.raises(ValueError, match="chained"):
            note(connection, "meta", {"key": "a", "value": "b"})


def test_a_record_with_few_columns_changes_a_row_and_makes_none(database: Database) -> None:
    with database.writing() as connection:
        note(connection, "progress", {"run": "a", "step": "fold", "at": "t", "note": "kept"})
        put(connection, [("progress", {"run": "a", "step": "gate"})])
        found = one(connection, "progress", run="a")
        assert found is not None
        assert (found["step"], found["note"]) == ("gate", "kept")
        with pytest.raises(LookupError, match=r"2 of 2 rows of progress .* needs at too"):
            put(connection, [("progress", {"run": r, "step": "gate"}) for r in ("x", "y")])


URLS = {
    "nothing": ("", "no URL"),
    "a path": ("ledger.db", "no URL"),
    "a bad port": (f"postgresql://me:{SECRET}@host:door/name", "no URL"),
    "another database": (f"mysql://me:{SECRET}@host/name", "mysql"),
    "another driver": (f"postgresql+asyncpg://me:{SECRET}@host/name", "asyncpg"),
    "memory": ("sqlite://", "one file"),
    "named memory": ("sqlite:///:memory:", "one file"),
    "options": ("sqlite:///a.db?mode=ro", "one file"),
    "no name": (f"postgresql://me:{SECRET}@host", "names no database"),
}


@pytest.mark.parametrize("name", URLS)
def test_a_url_that_is_none_is_refused_without_its_password(name: str) -> None:
    url, words = URLS[name]
    with pytest.raises(ExpungeError, match=words) as told:
        Database(url)
    assert SECRET not in str(told.value)


def test_a_shown_url_has_no_credentials() -> None:
    url = f"postgresql+psycopg://me:{SECRET}@host:5433/name?sslpassword={SECRET}&host=/run/pg"
    database = Database(url)
    assert SECRET not in repr(database)
    assert database.shown == "postgresql://me@host:5433/name?host=%2Frun%2Fpg"


def test_a_relative_file_stays_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite:///a %41#.db")
    monkeypatch.chdir("/")
    database.migrate()
    assert database.path is not None
    assert database.path.parent == tmp_path
    assert stat.S_IMODE(database.path.stat().st_mode) == 0o600
    assert seen(database) == []
    database.close()


def test_nothing_is_made_where_no_ledger_is(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'none.db'}")
    for ask in (database.check_schema, lambda: seen(database)):
        with pytest.raises(ExpungeError, match=r"There is no file .*expunge ledger init"):
            ask()
    with pytest.raises(ExpungeError, match=r"There is no folder .*make it first"):
        Database(f"sqlite:///{tmp_path / 'no' / 'a.db'}").migrate()
    with pytest.raises(ExpungeError, match="is a folder"):
        Database(f"sqlite:///{tmp_path}").migrate()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("shopping list\n" * 100)
    with pytest.raises(ExpungeError, match="no SQLite database"):
        Database(f"sqlite:///{path}").migrate()
    assert path.read_text().startswith("shopping")


def test_a_database_without_tables_holds_no_ledger(empty_url: str) -> None:
    database = Database(empty_url)
    if database.path is not None:
        database.path.touch()
    with pytest.raises(ExpungeError, match="holds no ledger"):
        database.check_schema()
    database.close()


def told_to_another_user(urls: list[str], answer: Any) -> None:
    """What a user without rights is told when writing."""
    os.setuid(65534)
    for url in urls:
        try:
            with Database(url).writing() as connection:
                note(connection, "workers", {"id": "me", "seen_at": "now"})
            answer.send("written")
        except ExpungeError as error:
            answer.send(str(error))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_file_of_another_user_is_told_in_one_sentence(ledger_file: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        urls = []
        for mode in (0o755, 0o777):
            folder = Path(name) / f"{mode:o}"
            folder.mkdir()
            folder.chmod(mode)
            shutil.copy(ledger_file, folder / "ledger.db")
            (folder / "ledger.db").chmod(0o644)
            urls.append(f"sqlite:///{folder / 'ledger.db'}")
        context = get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=told_to_another_user, args=(urls, there))
        process.start()
        told = [here.recv() if here.poll(60) else "nothing" for _ in urls]
        process.join()
    for url, sentence in zip(urls, told, strict=True):
        assert sentence.startswith(f"{url} cannot be ")
        assert "\n" not in sentence
    assert "read-only" in told[1]


def test_a_full_disk_is_told_and_undone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    database.migrate()
    with pytest.raises(UnavailableError, match="no space left"), database.writing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for number in range(1000):
            note(connection, "workers", {"id": f"{number:0100}", "seen_at": "now"})
    assert seen(database) == []
    database.close()


def test_a_file_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ExpungeError, match=r"No space left on device.*make room"):
        Database(f"sqlite:///{tmp_path / 'ledger.db'}").migrate()


def test_no_server_is_told_without_the_password(tmp_path: Path) -> None:
    for address in (f"@/name?host={tmp_path}", "@127.0.0.1:1/name"):
        database = Database(f"postgresql://me:{SECRET}{address}")
        with pytest.raises(
            UnavailableError, match="No PostgreSQL answers at postgresql://"
        ) as told:
            database.check_schema()
        assert SECRET not in str(told.value)


def test_a_wrong_name_and_a_wrong_user_are_told_without_the_password(cluster: "Cluster") -> None:
    with pytest.raises(ExpungeError, match=r"There is no database postgresql://.*nowhere") as told:
        Database(cluster.url("nowhere", SECRET)).check_schema()
    assert SECRET not in str(told.value)
    stranger = cluster.url("postgres", SECRET).replace("expunge:", "stranger:")
    with pytest.raises(ExpungeError, match="refuses the user or the password") as told:
        Database(stranger).migrate()
    assert SECRET not in str(told.value)


def test_a_connection_that_is_lost_undoes_its_transaction(cluster: "Cluster") -> None:
    url = cluster.new()
    database, other = Database(url), Database(url)
    database.migrate()
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with pytest.raises(UnavailableError, match="was lost"), database.writing() as connection:
        note(connection, "workers", {"id": "me", "seen_at": "now"})
        with other.reading() as second:
            second.exec_driver_sql(f"{end} AND datname = current_database()")
        note(connection, "workers", {"id": "you", "seen_at": "now"})
    assert seen(database) == []
    database.close()
    other.close()


def test_a_fault_of_the_program_is_not_told_as_the_users(database: Database) -> None:
    with pytest.raises(DBAPIError), database.reading() as connection:
        connection.exec_driver_sql("SELECT nothing FROM nowhere")


def test_what_was_deleted_leaves_the_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    database.migrate()
    for number in range(50):
        with database.writing() as connection:
            note(connection, "workers", {"id": f"{number}", "seen_at": SECRET * 9})
    with database.writing() as connection:
        erase(connection, "workers", [{"id": f"{number}"} for number in range(50)])
    assert any(SECRET.encode() in path.read_bytes() for path in tmp_path.iterdir())
    database.scrub()
    assert not any(SECRET.encode() in path.read_bytes() for path in tmp_path.iterdir())
    database.close()


def test_what_was_deleted_leaves_the_tables_of_a_server(cluster: "Cluster") -> None:
    url = cluster.new()
    database = Database(url)
    database.migrate()
    with database.writing() as connection:
        note(connection, "workers", {"id": "me", "seen_at": SECRET * 9})
    with database.writing() as connection:
        erase(connection, "workers", [{"id": "me"}])
    database.scrub()
    with database.reading() as connection:
        connection.exec_driver_sql("SELECT 1")
        size = connection.exec_driver_sql("SELECT pg_relation_size('workers')").scalar()
    assert size == 0
    database.close()


def test_no_module_of_the_store_needs_torch() -> None:
    names = ("tables", "rows", "database", "refusals", "chain")
    imports = "; ".join(f"import expunge.ledger.{name}" for name in names)
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "False"
