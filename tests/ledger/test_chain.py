"""The chain rebuilds every row, survives two writers at once, and names what was altered."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing import get_context
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.canonical import canonical, sha256
from expunge.ledger.chain import (
    GENESIS,
    Anchor,
    Erase,
    Event,
    Write,
    append,
    events,
    faults,
    last,
    ledger_time,
    replay,
    stamp,
)
from expunge.ledger.database import Database
from expunge.ledger.rows import Value, one, rows
from expunge.ledger.tables import CHAINED, FIELDS, KEYS, RequestState

SAMPLES: Mapping[str, Value] = {"TEXT": "x", "BIGINT": 7, "FLOAT": 0.1, "BOOLEAN": False}
WRAPPED = b"a wrapped key"
SECRETS = {"adr": WRAPPED, "subject": WRAPPED}


REFERRED: Mapping[str, Value] = {
    "models.id": "m",
    "requests.id": "r1",
    "runs.id": "u1",
    "objects.address": "adr",
    "versions.id": None,
}


def sample(column: Column[Any]) -> Value:
    """A value of the column's type, or the key of a row that it may name."""
    for key in column.foreign_keys:
        return REFERRED[key.target_fullname]
    return SAMPLES[str(column.type)]


def row(table: str, *key: Value, **fields: Value) -> Write:
    """A whole row: what is not given has a sample of its type."""
    columns = CHAINED[table].columns
    whole = {name: sample(columns[name]) for name in FIELDS[table]}
    return Write(table, dict(zip(KEYS[table], key, strict=True)), {**whole, **fields})


def request(number: int, **fields: Value) -> list[Write]:
    """A request and its two subjects."""
    unique: dict[str, Value] = {"number": number, "idempotency_hash": f"{number}"}
    return [
        row("requests", f"r{number}", state=RequestState.RECEIVED, **(unique | fields)),
        *(Write("subjects", {"request": f"r{number}", "hash": side * 64}) for side in "ab"),
    ]


def filled(database: Database) -> list[Event]:
    """A row or more in every chained table, over five events."""
    made_by_name = {
        *("meta", "models", "requests", "subjects", "objects", "hash_keys", "descendants"),
    }
    first = row("objects", "adr", destroyed=False, key_digest=sha256(WRAPPED))
    hashing = row("hash_keys", "subject", key_digest=sha256(WRAPPED))
    others = [
        row(name, *(sample(CHAINED[name].columns[column]) for column in KEYS[name]))
        for name in CHAINED
        if name not in made_by_name | {"runs"}
    ]
    ran = Write("requests", {"id": "r1"}, {"state": RequestState.PUBLISHED})
    steps: list[tuple[str, list[Write | Erase]]] = [
        ("made", [row("meta", "store", value="here"), row("models", "m", name="name")]),
        ("received", [*request(1)]),
        ("received", [*request(2), first, hashing, row("runs", "u1"), *others]),
        ("ran", [ran, row("descendants", "d1")]),
        ("renamed", [Write("models", {"id": "m"}, {"name": "other"})]),
    ]
    made = []
    for kind, writes in steps:
        with database.writing() as connection:
            made.append(append(connection, kind, writes, secrets=SECRETS))
    return made


def found(database: Database, anchor: Anchor | None = None) -> list[str]:
    with database.reading() as connection:
        return faults(connection, anchor)


def alter(connection: Connection, statement: str) -> None:
    """Raw SQL on one row, past everything that guards the tables."""
    if connection.dialect.name == "postgresql":  # nor does it ask what refers to the row
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
    assert connection.exec_driver_sql(statement).rowcount == 1


def tamper(database: Database, statement: str) -> None:
    with database.writing() as connection:
        alter(connection, statement)


@pytest.fixture
def full(database: Database) -> Database:
    filled(database)
    return database


def test_an_empty_ledger_has_no_fault(database: Database) -> None:
    with database.reading() as connection:
        assert last(connection) == (0, GENESIS)
        assert faults(connection, (0, GENESIS)) == []
        assert replay(connection) == {name: {} for name in CHAINED}


def test_events_rebuild_every_row(full: Database) -> None:
    with full.reading() as connection:
        rebuilt = replay(connection)
        for name, table in CHAINED.items():
            stored = {tuple(r[k] for k in KEYS[name]): r for r in rows(connection, name)}
            assert stored
            assert rebuilt[name] == {
                key: {field: r[field] for field in FIELDS[name]} for key, r in stored.items()
            }
            assert table.name == name
        assert faults(connection, last(connection)) == []
        assert rebuilt["requests"]["r1",]["state"] == "published"
        assert rebuilt["requests"]["r2",]["state"] == "received"


def test_the_hash_is_over_the_previous_hash_and_the_body(database: Database) -> None:
    made = filled(database)
    with database.reading() as connection:
        assert list(events(connection)) == made
        assert list(events(connection, after=3)) == made[3:]
        assert last(connection) == made[-1].anchor
    previous = GENESIS
    for event in made:
        assert event.previous == previous
        assert event.hash == sha256((previous + event.body).encode())
        content = json.loads(event.body)
        assert canonical(content).decode() == event.body
        assert (content["kind"], content["at"]) == (event.kind, event.at)
        previous = event.hash
    assert made[4].writes == [Write("models", {"id": "m"}, {"name": "other"})]


def test_an_undone_transaction_leaves_no_event(full: Database) -> None:
    with full.reading() as connection:
        before = last(connection)
    with pytest.raises(RuntimeError), full.writing() as connection:
        append(connection, "received", [*request(3)])
        raise RuntimeError
    with full.reading() as connection:
        assert last(connection) == before
        assert one(connection, "requests", id="r3") is None


def test_erased_rows_are_gone_from_table_and_chain(full: Database) -> None:
    with full.writing() as connection:
        gone: list[Write | Erase] = [
            Erase("subjects", {"request": "r1", "hash": "a" * 64}),
            Erase("meta", {"key": "store"}),
        ]
        append(connection, "erased", gone)
    with full.reading() as connection:
        assert rows(connection, "meta") == []
        assert len(rows(connection, "subjects", request="r1")) == 1
        assert list(events(connection))[-1].writes == gone
    assert found(full) == []


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    text=texts,
    number=st.integers(-(2**63) + 1, 2**63 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda f: abs(f) < 1e18),
    truth=st.booleans(),
)
def test_values_come_back_as_they_were_written(
    database: Database, text: str, number: int, real: float, truth: bool
) -> None:
    fields: dict[str, Value] = {
        "reason": text,
        "priority": number,
        "strength": real,
        "sealed": truth,
    }
    with database.writing() as connection:
        append(connection, "made", [row("models", "m"), *request(1, **fields)])
    with database.reading() as connection:
        stored = one(connection, "requests", id="r1")
        assert stored is not None
        assert {name: stored[name] for name in fields} == fields
        assert faults(connection) == []


def test_time_never_goes_back(database: Database) -> None:
    late = stamp(datetime.now(UTC) + timedelta(days=1))
    early = stamp(datetime(2001, 1, 1, tzinfo=timezone(timedelta(hours=2))))
    assert early == "2000-12-31T22:00:00.000000Z"
    with database.writing() as connection:
        assert append(connection, "one", [], at=early).at == early
        assert early < ledger_time(connection) < late
        assert append(connection, "two", [], at=late).at == late
        assert ledger_time(connection) == late
        assert append(connection, "three", [], at=early).at == late
        assert append(connection, "four", []).at == late
        for wrong in ("2001-01-01", "2001-01-01T00:00:00Z", "soon"):
            with pytest.raises(ValueError):
                append(connection, "five", [], at=wrong)


def test_what_the_databases_would_keep_differently_is_refused(full: Database) -> None:
    refused: list[tuple[type[Exception], Write | Erase]] = [
        (ValueError, Write("workers", {"id": "w"}, {"seen_at": "now"})),
        (ValueError, Write("requests", {"number": 1}, {})),
        (ValueError, Write("objects", {"address": "adr"}, {"wrapped_key": "text"})),
        (ValueError, row("objects", "new", key_digest="another's")),
        (TypeError, Write("requests", {"id": "r1"}, {"number": "1"})),
        (TypeError, Write("requests", {"id": "r1"}, {"number": True})),
        (TypeError, Write("requests", {"id": "r1"}, {"number": 2**63})),
        (TypeError, Write("requests", {"id": "r1"}, {"sealed": 1})),
        (TypeError, Write("requests", {"id": "r1"}, {"state": None})),
        (TypeError, Erase("requests", {"id": 1})),
        (LookupError, Write("requests", {"id": "r9"}, {"state": "running"})),
        (ExpungeError, Write("requests", {"id": "r1"}, {"reason": "a\x00b"})),
        (ExpungeError, Write("requests", {"id": "r1"}, {"strength": float("nan")})),
    ]
    for kind, write in refused:
        with pytest.raises(kind), full.writing() as connection:
            append(connection, "wrong", [write])
    assert found(full) == []


def test_a_destroyed_object_has_no_key(full: Database) -> None:
    with full.reading() as connection:
        stored = one(connection, "objects", address="adr")
        assert stored is not None
        assert stored["wrapped_key"] == WRAPPED
    with full.writing() as connection:
        append(connection, "sealed", [Write("objects", {"address": "adr"}, {"destroyed": True})])
    with full.reading() as connection:
        stored = one(connection, "objects", address="adr")
        assert stored is not None
        assert stored["wrapped_key"] is None
        assert not any(WRAPPED.hex() in event.body for event in events(connection))
    assert found(full) == []
    literal = "'old'" if full.path is None else "x'00'"
    tamper(full, f"UPDATE objects SET wrapped_key = {literal}")
    assert found(full) == ["objects adr: it is destroyed, and the field wrapped_key is not."]


OTHER = {"TEXT": "'altered'", "BIGINT": "99", "FLOAT": "0.30000000000000004", "BOOLEAN": "1 = 1"}


def test_every_altered_field_is_named(full: Database) -> None:
    with full.reading() as connection:
        keys = {table: next(iter(made)) for table, made in replay(connection).items()}
    for name, field in ((table, field) for table in CHAINED for field in FIELDS[table]):
        where = " AND ".join(
            f"\"{column}\" = '{value}'"
            for column, value in zip(KEYS[name], keys[name], strict=True)
        )
        other = OTHER[str(CHAINED[name].columns[field].type)]
        named = f"{name} {', '.join(map(str, keys[name]))}"
        with pytest.raises(Undo), full.writing() as connection:
            connection.exec_driver_sql(f'UPDATE {name} SET "{field}" = {other} WHERE {where}')
            assert faults(connection) == [f"{named}: the field {field} is not as it was written."]
            raise Undo
    assert found(full) == []


class Undo(Exception):  # noqa: N818
    """Ends a transaction that must leave nothing."""


TAMPERED: dict[str, tuple[str, list[str]]] = {
    "a key is altered": (
        "UPDATE subjects SET hash = 'someone' WHERE request = 'r1' AND hash LIKE 'b%%'",
        [
            "subjects r1, someone: the chain does not know this row.",
            f"subjects r1, {'b' * 64}: the row is missing.",
        ],
    ),
    "a wrapped key is lost": (
        "UPDATE objects SET wrapped_key = NULL",
        ["objects adr: the field wrapped_key is not as it was written."],
    ),
    "a field becomes null": (
        "UPDATE requests SET reason = NULL WHERE id = 'r2'",
        ["requests r2: the field reason is not as it was written."],
    ),
    "a row is put in": (
        "INSERT INTO uses VALUES ('adr', 'model:m', 'base')",
        ["uses adr, model:m, base: the chain does not know this row."],
    ),
    "a row is deleted": ("DELETE FROM descendants", ["descendants d1: the row is missing."]),
    "one byte of a body": (
        "UPDATE events SET body = REPLACE(body, '\"other\"', '\"othes\"') WHERE seq = 5",
        [
            "event 5: its field body or hash was altered.",
            "models m: the field name is not as it was written.",
        ],
    ),
    "a body that is none": (
        "UPDATE events SET body = '[]' WHERE seq = 5",
        [
            "event 5: its field body or hash was altered.",
            "event 5: its body is not that of an event.",
            "models m: the field name is not as it was written.",
        ],
    ),
    "the time of an event": (
        "UPDATE events SET at = '1999' WHERE seq = 2",
        ["event 2: the field at is not that of its body."],
    ),
    "the kind of an event": (
        "UPDATE events SET kind = 'sealed' WHERE seq = 2",
        ["event 2: the field kind is not that of its body."],
    ),
    "a link": (
        "UPDATE events SET previous = 'x' WHERE seq = 3",
        [
            "event 3: it does not follow event 2 (its field previous).",
            "event 3: its field body or hash was altered.",
        ],
    ),
    "a hash": (
        "UPDATE events SET hash = 'x' WHERE seq = 3",
        [
            "event 3: its field body or hash was altered.",
            "event 4: it does not follow event 3 (its field previous).",
        ],
    ),
    "an event in the middle": (
        "DELETE FROM events WHERE seq = 4",
        [
            "event 4: it is missing.",
            "requests r1: the field state is not as it was written.",
            "descendants d1: the chain does not know this row.",
        ],
    ),
    "the last event": (
        "DELETE FROM events WHERE seq = 5",
        [
            "head: it does not name event 4, the last; it was altered, or later events were "
            "removed.",
            "models m: the field name is not as it was written.",
        ],
    ),
    "the head": (
        "UPDATE head SET seq = 4",
        ["head: it does not name event 5, the last; it was altered, or later events were removed."],
    ),
    "no head": (
        "DELETE FROM head",
        ["head: it does not name event 5, the last; it was altered, or later events were removed."],
    ),
}


def test_tampering_is_named(full: Database) -> None:
    for name, (statement, expected) in TAMPERED.items():
        with pytest.raises(Undo), full.writing() as connection:
            alter(connection, statement)
            assert (name, faults(connection)) == (name, expected)
            raise Undo


def test_nothing_is_written_after_an_altered_end(full: Database) -> None:
    for name in ("the last event", "the head", "no head"):
        with pytest.raises(Undo), full.writing() as connection:
            alter(connection, TAMPERED[name][0])
            with pytest.raises(IntegrityError, match="end of the chain was altered"):
                append(connection, "received", [*request(3)])
            raise Undo
    with pytest.raises(Undo), full.writing() as connection:
        connection.exec_driver_sql("DELETE FROM events")
        with pytest.raises(IntegrityError, match="end of the chain was altered"):
            last(connection)
        raise Undo


def test_a_tampered_chain_is_not_replayed(full: Database) -> None:
    tamper(full, TAMPERED["one byte of a body"][0])
    with pytest.raises(IntegrityError, match=r"^event 5: "), full.reading() as connection:
        replay(connection)


def cut(connection: Connection, to: Event) -> None:
    """Remove the events behind one, and the traces of the renaming that they held."""
    connection.exec_driver_sql(f"DELETE FROM events WHERE seq > {to.seq}")
    connection.exec_driver_sql(f"UPDATE head SET seq = {to.seq}, hash = '{to.hash}'")
    connection.exec_driver_sql("UPDATE models SET name = 'name'")


def test_an_end_cut_off_with_all_its_traces_is_noticed_by_an_anchor_only(
    database: Database,
) -> None:
    made = filled(database)
    with database.writing() as connection:
        cut(connection, made[3])
    assert found(database) == []
    assert found(database, made[3].anchor) == []
    assert found(database, made[4].anchor) == [
        "event 5: the anchor names it, and it is not there; the chain ends at event 4."
    ]
    with database.writing() as connection:
        append(connection, "something else", [])
    assert found(database, made[4].anchor) == [
        "event 5: it is not the event of the anchor; the chain was rewritten."
    ]


def append_many(url: str, who: str, count: int) -> None:
    """What one of two processes does: each number is the next free one."""
    database = Database(url)
    database.migrate()
    for _ in range(count):
        with database.writing() as connection:
            number = len(rows(connection, "meta"))
            append(connection, who, [Write("meta", {"key": f"{number:03}"}, {"value": who})])
    database.close()


def test_two_processes_make_one_ledger_and_keep_one_chain(empty_url: str) -> None:
    database = Database(empty_url)
    context = get_context("spawn")
    processes = [context.Process(target=append_many, args=(empty_url, who, 50)) for who in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    with database.reading() as connection:
        made = list(events(connection))
        assert faults(connection) == []
        assert [r["key"] for r in rows(connection, "meta")] == [f"{n:03}" for n in range(100)]
    assert [event.seq for event in made] == list(range(1, 101))
    assert sorted(event.kind for event in made) == ["a"] * 50 + ["b"] * 50
    assert [event.at for event in made] == sorted(event.at for event in made)
    database.check_schema()
    database.close()
