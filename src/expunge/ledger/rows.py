"""Rows of the ledger's tables as mappings: read by equality, written and erased by their key.

A record that has every column which may not be null replaces or makes its row; one with fewer
columns changes a row that exists. Records of the same table and columns travel in one statement.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Executable, and_, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from expunge.ledger.tables import KEYS, VOLATILE, metadata

Value = str | int | float | bool | None
"""What a field of a chained table may hold."""
Stored = Value | bytes
Record = dict[str, Any]
"""One row: the names of its columns, and their values."""


def rows(connection: Connection, table: str, /, **where: object) -> list[Record]:
    """Rows whose columns equal what is given, in the order of their key.

    A list or tuple asks for any of its values, None for null.
    """
    columns = metadata.tables[table].columns
    asked = [
        columns[name].in_(value) if isinstance(value, list | tuple) else columns[name] == value
        for name, value in where.items()
    ]
    ordered = [columns[name] for name in KEYS[table]]
    found = connection.execute(select(metadata.tables[table]).where(*asked).order_by(*ordered))
    return [dict(row) for row in found.mappings()]


def one(connection: Connection, table: str, /, **where: object) -> Record | None:
    """The row whose columns equal what is given, or None; several are a ValueError."""
    found = rows(connection, table, **where)
    if len(found) > 1:
        raise ValueError(f"{len(found)} rows of {table} where one was expected")
    return found[0] if found else None


def note(connection: Connection, table: str, record: Mapping[str, Stored]) -> None:
    """Make or replace a row of a table that is not chained (progress, workers)."""
    if table not in VOLATILE:
        raise ValueError(f"{table} is chained; write it through the chain")
    put(connection, [(table, record)])


def put(connection: Connection, records: Iterable[tuple[str, Mapping[str, Stored]]]) -> None:
    """Write (table, record) pairs in their order.

    Raises:
        LookupError: a record with too few columns for a new row names a row that does not exist.
    """
    for (table, columns), group in groupby(records, lambda pair: (pair[0], tuple(pair[1]))):
        given = [dict(record) for _, record in group]
        if _needed(table) <= set(columns):
            connection.execute(_upsert(connection.dialect.name, table, columns), given)
            continue
        keyed = [{_bound(n) if n in KEYS[table] else n: v for n, v in r.items()} for r in given]
        changed = connection.execute(_change(table, columns), keyed).rowcount
        if changed != len(given):
            raise LookupError(
                f"{len(given) - changed} of {len(given)} rows of {table} do not exist, and a new "
                f"one needs {', '.join(sorted(_needed(table) - set(columns)))} too"
            )


def erase(connection: Connection, table: str, keys: Sequence[Mapping[str, Stored]]) -> None:
    """Delete the rows with these keys; a row that is not there is no error."""
    connection.execute(_deletion(table), [{_bound(n): v for n, v in key.items()} for key in keys])


def _bound(name: str) -> str:
    """The parameter for a key column, apart from the parameters of the new values."""
    return f"key_{name}"


@lru_cache(maxsize=64)
def _needed(table: str) -> frozenset[str]:
    """Columns without which no row can be made."""
    columns = metadata.tables[table].columns
    return frozenset(column.name for column in columns if not column.nullable)


@lru_cache(maxsize=256)
def _upsert(dialect: str, table: str, columns: tuple[str, ...]) -> Executable:
    into = metadata.tables[table]
    statement: postgresql.Insert | sqlite.Insert = (
        postgresql.insert(into) if dialect == "postgresql" else sqlite.insert(into)
    )
    fields = [name for name in columns if name not in KEYS[table]]
    if not fields:
        return statement.on_conflict_do_nothing(index_elements=KEYS[table])
    return statement.on_conflict_do_update(
        index_elements=KEYS[table], set_={name: statement.excluded[name] for name in fields}
    )


@lru_cache(maxsize=256)
def _change(table: str, columns: tuple[str, ...]) -> Executable:
    fields: dict[str, Any] = {name: bindparam(name) for name in columns if name not in KEYS[table]}
    return update(metadata.tables[table]).where(_keyed(table)).values(fields)


@lru_cache(maxsize=64)
def _deletion(table: str) -> Executable:
    return delete(metadata.tables[table]).where(_keyed(table))


def _keyed(table: str) -> Any:
    columns = metadata.tables[table].columns
    return and_(*(columns[name] == bindparam(_bound(name)) for name in KEYS[table]))
