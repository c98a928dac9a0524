"""The chain: every write of a chained table is an event, and the events rebuild the tables.

An event's hash is the SHA-256 of the previous event's hash and its own body, which is canonical
JSON of the kind, the time and the writes (Haber, Stornetta 1991, How to Time-Stamp a Digital
Document). Who can write the database can also rewrite a chain from some event on, or cut its end
off with all that followed from it; against that only what is kept outside helps: the ``Anchor`` in
a signed certificate, given to :func:`faults`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.types import BigInteger, Boolean, Float

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import tables
from expunge.ledger.canonical import canonical, sha256
from expunge.ledger.rows import Value, erase, put
from expunge.ledger.tables import CHAINED, FIELDS, KEYS

GENESIS = "0" * 64
"""What stands for the hash of the event before the first."""

HEAD = select(*tables.head.columns["seq", "hash"]).where(tables.head.columns.id == 1)
ENDS = (
    select(
        *tables.events.columns["seq", "hash", "at"],
        HEAD.with_only_columns(tables.head.columns.seq).scalar_subquery(),
        HEAD.with_only_columns(tables.head.columns.hash).scalar_subquery(),
    )
    .order_by(tables.events.columns.seq.desc())
    .limit(1)
)
ADVANCE = update(tables.head).where(tables.head.columns.id == 1)

Key = tuple[Value, ...]
Rows = dict[str, dict[Key, dict[str, Value]]]
"""Table, key, and fields beside the key; a field that was never written is None."""


@dataclass(frozen=True)
class Write:
    """Make a row, or replace the named fields of one that exists and leave the others."""

    table: str
    key: Mapping[str, Value]
    fields: Mapping[str, Value] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """What the body of an event says of it."""
        return {"table": self.table, "key": self.key, "fields": self.fields}


@dataclass(frozen=True)
class Erase:
    """Delete a row."""

    table: str
    key: Mapping[str, Value]

    def as_json(self) -> dict[str, object]:
        """What the body of an event says of it."""
        return {"table": self.table, "key": self.key, "erase": True}


class Anchor(NamedTuple):
    """Number and hash of an event: kept outside the ledger, they fix all that came before."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Event:
    """One link of the chain; ``body`` is the text that is hashed."""

    seq: int
    at: str
    kind: str
    body: str
    previous: str
    hash: str

    @property
    def anchor(self) -> Anchor:
        """What fixes the chain up to this event."""
        return Anchor(self.seq, self.hash)

    @property
    def writes(self) -> list[Write | Erase]:
        """What the event did to the tables, in order.

        Raises:
            IntegrityError: the body is not that of an event.
        """
        content = _content(self.body)
        if content is None:
            raise IntegrityError(
                f"event {self.seq}: its body was altered; restore the database from a backup."
            )
        return content.writes


def stamp(moment: datetime) -> str:
    """A moment (with a time zone) as the ledger writes it: UTC, with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _stamped(at: str) -> str:
    """The same text; anything else than a stamp would stay the time of the ledger for ever."""
    if stamp(datetime.fromisoformat(at)) != at:
        raise ValueError(f"{at!r} is no time as the ledger writes it")
    return at


def last(connection: Connection) -> Anchor:
    """The last event; (0, GENESIS) where there is none.

    Raises:
        IntegrityError: the head does not name the last event.
    """
    return _ends(connection)[0]


def ledger_time(connection: Connection) -> str:
    """Now, or the time of the last event where the clock is behind it."""
    return max(stamp(datetime.now(UTC)), _ends(connection)[1])


def append(
    connection: Connection,
    kind: str,
    writes: Sequence[Write | Erase],
    *,
    at: str | None = None,
    secrets: Mapping[str, bytes] | None = None,
) -> Event:
    """Apply writes to the chained tables and record them as one event.

    Args:
        connection: a transaction of ``Database.writing``: it holds off every other writer.
        kind: what happened, in a word.
        writes: applied in order.
        at: the time as ``stamp`` writes it, or None for now; never before the last event.
        secrets: wrapped keys by the address of the objects (or the purpose of the hash keys)
            that ``writes`` make or wrap anew. An object that becomes destroyed loses its wrapped
            key in the same transaction.

    Raises:
        IntegrityError: the end of the chain was altered, so that nothing may follow it.
        ExpungeError: a value cannot be stored.
        ValueError, TypeError, LookupError: a write names no such table, column, type or row.
    """
    for write in writes:
        _check(write)
    anchor, before = _ends(connection)
    moment = max(stamp(datetime.now(UTC)) if at is None else _stamped(at), before)
    content = {"kind": kind, "at": moment, "writes": [write.as_json() for write in writes]}
    body = canonical(content).decode()
    event = Event(anchor.seq + 1, moment, kind, body, anchor.hash, _link(anchor.hash, body))
    _apply(connection, writes, secrets or {})
    connection.execute(insert(tables.events), vars(event))
    end = {"seq": event.seq, "hash": event.hash}
    if anchor.seq == 0:
        connection.execute(insert(tables.head), {"id": 1, **end})
    else:
        connection.execute(ADVANCE, end)
    return event


def events(connection: Connection, after: int = 0) -> Iterator[Event]:
    """Every event in order, from the one that follows ``after``; nothing is checked."""
    columns = tables.events.columns
    asked = select(tables.events).where(columns.seq > after).order_by(columns.seq)
    for row in connection.execute(asked.execution_options(yield_per=1000)):
        yield Event(**row._mapping)


def replay(connection: Connection) -> Rows:
    """The rows of every chained table as the events make them; every link is checked.

    Raises:
        IntegrityError: an event was altered, removed or put in; the first is named.
    """
    rows, found, _ = _replayed(connection, None)
    if found:
        raise IntegrityError(found[0])
    return rows


def faults(connection: Connection, anchor: Anchor | tuple[int, str] | None = None) -> list[str]:
    """Everything in which chain and tables are not as they were written, a sentence each.

    Args:
        connection: a transaction of ``Database.reading``.
        anchor: number and hash of an event, from a certificate or a note outside the ledger. Only
            this notices a chain that was cut off or rewritten together with its tables.
    """
    rows, found, end = _replayed(connection, anchor)
    found += _head_faults(connection, end)
    for name in CHAINED:
        found += _row_faults(connection, name, rows[name])
    return found


def _link(previous: str, body: str) -> str:
    return sha256((previous + body).encode())


def _ends(connection: Connection) -> tuple[Anchor, str]:
    """The last event as head and events both say, and its time."""
    newest = connection.execute(ENDS).one_or_none()
    if newest is None:
        ends = Anchor(0, GENESIS), ""
        altered = connection.execute(HEAD).one_or_none() is not None
    else:
        seq, digest, at, *head = newest
        ends, altered = (Anchor(seq, digest), at), [seq, digest] != head
    if altered:
        raise IntegrityError(
            "The end of the chain was altered: the head does not name the last event; nothing is "
            "written until the database is restored from a backup."
        )
    return ends


def _check(write: Write | Erase) -> None:
    """Refuse what the two databases would keep differently, or not at all."""
    if write.table not in CHAINED or set(write.key) != set(KEYS[write.table]):
        raise ValueError(f"No chained table {write.table!r} with the key {sorted(write.key)}")
    fields = write.fields if isinstance(write, Write) else {}
    if strange := sorted(set(fields) - set(FIELDS[write.table])):
        raise ValueError(f"The chain knows no field {strange[0]!r} of {write.table}")
    columns = CHAINED[write.table].columns
    for name, value in (*write.key.items(), *fields.items()):
        column = columns[name]
        if value is None and column.nullable:
            continue
        if not _fits(value, column.type):
            raise TypeError(f"{write.table}.{name} cannot hold a {type(value).__name__}")
        if isinstance(value, str) and "\x00" in value:
            raise ExpungeError(
                f"The {name} of {write.table} holds a zero character, which a database cannot "
                "keep; give text without it."
            )


def _fits(value: Value, kind: object) -> bool:
    if isinstance(kind, Boolean):
        return isinstance(value, bool)
    if isinstance(kind, BigInteger | Float) and isinstance(value, bool):
        return False
    if isinstance(kind, BigInteger):
        return isinstance(value, int) and -(2**63) <= value < 2**63
    if isinstance(kind, Float):  # a whole number that a float has exactly
        return isinstance(value, float) or (isinstance(value, int) and abs(value) <= 2**53)
    return isinstance(value, str)


def _apply(
    connection: Connection, writes: Sequence[Write | Erase], secrets: Mapping[str, bytes]
) -> None:
    for kind, group in groupby(writes, type):
        if kind is Write:
            whole = (write for write in group if isinstance(write, Write))
            put(connection, [(write.table, _record(write, secrets)) for write in whole])
            continue
        for table, same in groupby(group, lambda write: write.table):
            erase(connection, table, [write.key for write in same])


def _record(write: Write, secrets: Mapping[str, bytes]) -> dict[str, Value | bytes]:
    """The columns that a write sets, with the wrapped key that belongs to them."""
    record: dict[str, Value | bytes] = {**write.key, **write.fields}
    if write.table not in tables.UNCHAINED:
        return record
    if write.fields.get("destroyed"):
        return record | {"wrapped_key": None}
    if "key_digest" in write.fields:
        [name] = map(str, write.key.values())
        secret = secrets.get(name)
        if secret is None or sha256(secret) != write.fields["key_digest"]:
            raise ValueError(f"The wrapped key of {name} is missing or another's")
        record["wrapped_key"] = secret
    return record


class _Content(NamedTuple):
    kind: str
    at: str
    writes: list[Write | Erase]


def _content(body: str) -> _Content | None:
    """What a body says, or None where it is not as ``append`` writes it."""
    try:
        read = json.loads(body)
        return _Content(read["kind"], read["at"], [_written(item) for item in read["writes"]])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _written(item: Mapping[str, Any]) -> Write | Erase:
    fields = () if item.get("erase") else item["fields"]
    known = set(item["key"]) == set(KEYS[item["table"]]) and item["table"] in CHAINED
    if not known or not set(fields) <= set(FIELDS[item["table"]]):
        raise ValueError
    if item.get("erase"):
        return Erase(item["table"], item["key"])
    return Write(item["table"], item["key"], item["fields"])


def _replayed(
    connection: Connection, anchor: Anchor | tuple[int, str] | None
) -> tuple[Rows, list[str], Anchor]:
    """The rows that the events make, what is wrong with the events, and the last of them."""
    rows: Rows = {name: {} for name in CHAINED}
    found: list[str] = []
    end, anchored = Anchor(0, GENESIS), anchor is None or tuple(anchor) == (0, GENESIS)
    for event in events(connection):
        found += _link_faults(event, end)
        end = event.anchor
        if anchor is not None and anchor[0] == end.seq:
            anchored = True
            if anchor[1] != end.hash:
                found.append(
                    f"event {end.seq}: it is not the event of the anchor; the chain was rewritten."
                )
        content = _content(event.body)
        found += _content_faults(event, content)
        for write in content.writes if content else ():
            _fold(rows, write)
    if anchor is not None and not anchored:
        found.append(
            f"event {anchor[0]}: the anchor names it, and it is not there; the chain ends at event "
            f"{end.seq}."
        )
    return rows, found, end


def _link_faults(event: Event, before: Anchor) -> Iterator[str]:
    first, final = before.seq + 1, event.seq - 1
    if first == final:
        yield f"event {first}: it is missing."
    elif first < final:
        yield f"events {first} to {final}: they are missing."
    elif event.previous != before.hash:
        yield f"event {event.seq}: it does not follow event {before.seq} (its field previous)."
    if event.hash != _link(event.previous, event.body):
        yield f"event {event.seq}: its field body or hash was altered."


def _content_faults(event: Event, content: _Content | None) -> Iterator[str]:
    if content is None:
        yield f"event {event.seq}: its body is not that of an event."
    else:
        if event.at != content.at:
            yield f"event {event.seq}: the field at is not that of its body."
        if event.kind != content.kind:
            yield f"event {event.seq}: the field kind is not that of its body."


def _fold(rows: Rows, write: Write | Erase) -> None:
    key = tuple(write.key[name] for name in KEYS[write.table])
    if isinstance(write, Erase):
        rows[write.table].pop(key, None)
        return
    row = rows[write.table].get(key)
    if row is None:
        row = rows[write.table][key] = dict.fromkeys(FIELDS[write.table])
    row.update(write.fields)


def _head_faults(connection: Connection, end: Anchor) -> Iterator[str]:
    heads = [(h.id, h.seq, h.hash) for h in connection.execute(select(tables.head))]
    if heads != ([(1, *end)] if end.seq else []):
        yield (
            f"head: it does not name event {end.seq}, the last; it was altered, or later events "
            "were removed."
        )


def _row_faults(
    connection: Connection, name: str, rows: Mapping[Key, Mapping[str, Value]]
) -> Iterator[str]:
    """How a table differs from the rows that the chain makes of it."""
    width = len(KEYS[name])
    columns = (*KEYS[name], *FIELDS[name], *tables.UNCHAINED.get(name, ()))
    asked = select(*(CHAINED[name].columns[column] for column in columns))
    # as the driver gives them: a type that SQLAlchemy would convert is a difference too
    stored = connection.exec_driver_sql(str(asked.compile(connection)))
    seen = set()
    for row in stored:
        key = tuple(row[:width])
        seen.add(key)
        expected = rows.get(key)
        if expected is None:
            yield f"{_named(name, key)}: the chain does not know this row."
            continue
        given = dict(zip(columns[width:], row[width:], strict=True))
        for column in FIELDS[name]:
            if given[column] != expected[column]:
                yield f"{_named(name, key)}: the field {column} is not as it was written."
        if name in tables.UNCHAINED:
            yield from _key_faults(name, key, expected, given["wrapped_key"])
    for key in rows:
        if key not in seen:
            yield f"{_named(name, key)}: the row is missing."


def _key_faults(
    name: str, key: Key, expected: Mapping[str, Value], wrapped: bytes | None
) -> Iterator[str]:
    if expected.get("destroyed"):
        if wrapped is not None:
            yield f"{_named(name, key)}: it is destroyed, and the field wrapped_key is not."
    elif not isinstance(wrapped, bytes) or sha256(wrapped) != expected["key_digest"]:
        yield f"{_named(name, key)}: the field wrapped_key is not as it was written."


def _named(name: str, key: Key) -> str:
    return f"{name} {', '.join(map(str, key))}"
