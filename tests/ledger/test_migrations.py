"""The shipped revisions make the tables, and a store is brought up to date with its rows."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from expunge.errors import ExpungeError
from expunge.ledger.chain import Write, append, faults, last
from expunge.ledger.database import MIGRATIONS, Database
from expunge.ledger.rows import Record, note, rows
from expunge.ledger.tables import metadata

LATER = '''
"""A test's second revision: a new column, and one for which SQLite makes a table anew."""

import sqlalchemy as sa
from alembic import op

revision = "test_2"
down_revision = "{before}"


def upgrade() -> None:
    op.add_column("meta", sa.Column("remark", sa.Text(), nullable=True))
    with op.batch_alter_table("models") as models:
        models.alter_column("policy", nullable=True)
    {then}
'''


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    opened = Database(empty_url)
    yield opened
    opened.close()


def later(folder: Path, then: str = "") -> Path:
    """The migrations of a version to come."""
    copied = folder / "a later version 100%"
    shutil.copytree(MIGRATIONS, copied, ignore=shutil.ignore_patterns("__pycache__"))
    newest = sorted((copied / "versions").glob("r*.py"))[-1].name[1:5]
    (copied / "versions" / "test_2.py").write_text(LATER.format(before=newest, then=then).lstrip())
    return copied


MODEL = {
    column.name: 1 if column.name == "version" else column.name
    for column in metadata.tables["models"].columns
    if column.name != "id"
}


def with_work_in_flight(database: Database) -> dict[str, list[Record]]:
    """A model and what runs on it; the rows of every table."""
    with database.writing() as connection:
        append(connection, "made", [Write("models", {"id": "m"}, MODEL)])
        run = dict.fromkeys(("kind", "requests", "state", "created_at", "updated_at"), "running")
        append(connection, "ran", [Write("runs", {"id": "u"}, {"model": "m", **run})])
        note(connection, "progress", {"run": "u", "step": "fold", "at": "now", "share": 0.5})
    return stored(database)


def stored(database: Database) -> dict[str, list[Record]]:
    with database.reading() as connection:
        return {name: rows(connection, name) for name in metadata.tables}


def test_the_revisions_make_the_tables_that_the_code_describes(empty: Database) -> None:
    empty.migrate()
    empty.check_schema()
    with empty.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(empty: Database) -> None:
    empty.migrate()
    before = with_work_in_flight(empty)
    empty.migrate()
    assert stored(empty) == before


def test_an_upgrade_keeps_rows_and_chain_and_the_old_version_refuses(
    empty: Database, tmp_path: Path
) -> None:
    empty.migrate()
    before = with_work_in_flight(empty)
    to_come = later(tmp_path)
    with pytest.raises(ExpungeError, match=r"older version of expunge .*revision 0003, now test_2"):
        empty.check_schema(to_come)
    empty.migrate(to_come)
    empty.check_schema(to_come)
    assert stored(empty) == before
    with empty.writing() as connection:
        assert "remark" in {c["name"] for c in inspect(connection).get_columns("meta")}
        append(connection, "ran", [Write("runs", {"id": "u"}, {"state": "done"})])
        assert faults(connection) == []
        assert last(connection).seq == 3
    for refused in (empty.check_schema, empty.migrate):
        with pytest.raises(
            ExpungeError, match=r"newer version of expunge .*revision test_2"
        ) as told:
            refused()
        assert str(told.value).count(". ") == 0
    assert stored(empty)["meta"] == before["meta"]


def test_an_upgrade_that_fails_is_undone(empty: Database, tmp_path: Path) -> None:
    empty.migrate()
    before = with_work_in_flight(empty)
    with pytest.raises(ZeroDivisionError):
        empty.migrate(later(tmp_path, then="1 / 0"))
    empty.check_schema()
    assert stored(empty) == before
    with empty.reading() as connection:
        assert "remark" not in {c["name"] for c in inspect(connection).get_columns("meta")}


def test_the_tables_of_others_stay(empty: Database, tmp_path: Path) -> None:
    if empty.path is not None:
        empty.path.touch()
    with empty.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE theirs (id TEXT)")
        connection.exec_driver_sql("INSERT INTO theirs VALUES ('one')")
    empty.migrate()
    with empty.reading() as connection:
        assert connection.exec_driver_sql("SELECT id FROM theirs").scalar_one() == "one"
