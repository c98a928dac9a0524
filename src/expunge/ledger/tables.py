"""The tables of a ledger, as SQLAlchemy Core describes them, on SQLite and on PostgreSQL.

Column types are those that both keep alike: identifiers, times and JSON values are text (JSON as
canonical text, times as ISO 8601 in UTC with microseconds, so that their order as text is their
order in time). What a person could be recognised by is never in a column: subjects are keyed
hashes, and everything else is the address of an encrypted object.

``CHAINED`` tables may be written by :func:`expunge.ledger.chain.append` alone; the chain can
rebuild every row of them. ``UNCHAINED`` columns are what it cannot: the wrapped keys, which are
destroyed with their objects. Accounts, with all that belongs to them, are rows that can be deleted:
they name people who work with the ledger, and the chain never does.
"""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
"""Every constraint has a name, so that a later migration can change it on both databases."""

metadata = MetaData(naming_convention=NAMES)


class RequestState(StrEnum):
    """Where a request stands."""

    RECEIVED = "received"
    RUNNING = "running"
    GUARDED = "guarded"
    """Phase one is published: a guard acts, and the weights follow by the deadline."""
    PUBLISHED = "published"
    ANSWERED = "answered"
    """Nothing had to be done: not in the training data, or forgotten before."""
    REFUSED = "refused"
    """The gate stopped every version that was tried."""
    FAILED = "failed"
    """An error ended the work."""
    WITHDRAWN = "withdrawn"
    """Revoked."""


def _refers(name: str, to: str, *, nullable: bool = False) -> Column[str]:
    """A column that names a row of another table; checked when the transaction ends."""
    target = ForeignKey(to, deferrable=True, initially="DEFERRED")
    return Column(name, Text, target, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _id() -> Column[str]:
    return Column("id", Text, primary_key=True)


meta = Table("meta", metadata, Column("key", Text, primary_key=True), _text("value"))

models = Table(
    "models",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _text("created_at"),
    _text("family"),
    _text("spec"),
    _text("base"),
    _text("base_digest"),
    _text("policy"),
    _text("columns"),
    _text("aggregation"),
    _number("version"),
    _text("sealed_before", nullable=True),
)

requests = Table(
    "requests",
    metadata,
    _id(),
    _refers("model", "models.id"),
    _number("number"),
    _text("kind"),
    _text("scope"),
    _text("scope_hash"),
    _text("method"),
    _text("parameters"),
    _text("aggregation", nullable=True),
    Column("strength", Float, nullable=True),
    _number("priority"),
    _text("deadline", nullable=True),
    _text("idempotency_hash", nullable=True),
    _text("state"),
    _text("reason", nullable=True),
    _text("account", nullable=True),
    _text("rows", nullable=True),
    _text("row_hashes", nullable=True),
    _number("row_count", nullable=True),
    _text("created_at"),
    _text("updated_at"),
    Column("sealed", Boolean, nullable=False),
    UniqueConstraint("model", "number"),
    UniqueConstraint("model", "idempotency_hash"),
    Index(None, "model", "state"),
)

subjects = Table(
    "subjects",
    metadata,
    Column(
        "request",
        Text,
        ForeignKey("requests.id", deferrable=True, initially="DEFERRED"),
        primary_key=True,
    ),
    Column("hash", Text, primary_key=True),
    Index(None, "hash"),
)

runs = Table(
    "runs",
    metadata,
    _id(),
    _refers("model", "models.id"),
    _text("kind"),
    _text("requests"),
    _text("state"),
    _text("reason", nullable=True),
    _text("created_at"),
    _text("updated_at"),
    Index(None, "model", "state"),
)

attempts = Table(
    "attempts",
    metadata,
    Column(
        "run",
        Text,
        ForeignKey("runs.id", deferrable=True, initially="DEFERRED"),
        primary_key=True,
    ),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _text("repair"),
    _text("history"),
    _text("figures", nullable=True),
    _text("outcome"),
    _text("created_at"),
)
"""What a run tried: the method as it was asked for, then each repair of the policy."""

versions = Table(
    "versions",
    metadata,
    _id(),
    _refers("model", "models.id"),
    _number("number"),
    _refers("parent", "versions.id", nullable=True),
    _text("run"),
    _text("cause"),
    _text("history"),
    _text("weights_digest"),
    _text("deletion_state", nullable=True),
    _text("figures"),
    _text("certificate"),
    _text("certificate_digest"),
    _text("created_at"),
    UniqueConstraint("model", "number"),
)

objects = Table(
    "objects",
    metadata,
    Column("address", Text, primary_key=True),
    _text("kind"),
    _number("size"),
    _text("key_digest"),
    Column("destroyed", Boolean, nullable=False),
    _text("created_at"),
    Column("wrapped_key", LargeBinary, nullable=True),
)

hash_keys = Table(
    "hash_keys",
    metadata,
    Column("purpose", Text, primary_key=True),
    _text("key_digest"),
    Column("wrapped_key", LargeBinary, nullable=True),
)
"""What names are hashed under, one for each purpose: they outlive the master key."""

uses = Table(
    "uses",
    metadata,
    Column(
        "address",
        Text,
        ForeignKey("objects.address", deferrable=True, initially="DEFERRED"),
        primary_key=True,
    ),
    Column("owner", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Index(None, "owner"),
)

descendants = Table(
    "descendants",
    metadata,
    _id(),
    _refers("model", "models.id"),
    _text("name"),
    _text("kind"),
    _number("version"),
    _text("digest"),
    _text("created_at"),
    _text("updated_at"),
    Index(None, "model"),
)

progress = Table(
    "progress",
    metadata,
    Column("run", Text, primary_key=True),
    _text("step"),
    _text("at"),
    Column("share", Float, nullable=True),
    _text("note", nullable=True),
)

workers = Table("workers", metadata, _id(), _text("seen_at"))

actions = Table(
    "actions",
    metadata,
    _id(),
    _text("at"),
    _text("actor", nullable=True),
    _text("role"),
    _text("action"),
    _text("model", nullable=True),
    _text("target", nullable=True),
    _text("outcome"),
    Index(None, "at", "id"),
    Index(None, "actor", "action"),
    Index(None, "target"),
)
"""What was done by whom: accounts by their ids, models by their names."""

accounts = Table(
    "accounts",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _text("password_hash", nullable=True),
    Column("admin", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    _text("created_at"),
)


def _of_account(*, key: bool = False) -> Column[str]:
    target = ForeignKey("accounts.id", deferrable=True, initially="DEFERRED")
    return Column("account", Text, target, nullable=False, primary_key=key)


grants = Table(
    "grants",
    metadata,
    _of_account(key=True),
    Column("model", Text, primary_key=True),
    _text("role"),
)
"""The role of an account for a model by its name, or for every model (``*``)."""

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    _of_account(),
    _text("label"),
    _text("secret_hash"),
    _text("created_at"),
    _text("expires_at", nullable=True),
    _text("revoked_at", nullable=True),
    Index(None, "account"),
)

sessions = Table(
    "sessions",
    metadata,
    _id(),
    _of_account(),
    _text("created_at"),
    _text("seen_at"),
    Index(None, "account"),
)
"""Browsers that are signed in: the id is the SHA-256 of what their cookie holds."""

failures = Table(
    "failures",
    metadata,
    _id(),
    _number("count"),
    _text("at"),
    _text("until", nullable=True),
)
"""Failed sign-ins by the keyed hash of a name or an address, and until when the next one waits."""

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _text("at"),
    _text("kind"),
    _text("body"),
    _text("previous"),
    _text("hash"),
)

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    _text("hash"),
)
"""One row (id 1): the number and hash of the last event, so that its removal is noticed."""

CHAINED: Mapping[str, Table] = {
    table.name: table
    for table in (
        meta,
        models,
        requests,
        subjects,
        runs,
        attempts,
        versions,
        objects,
        hash_keys,
        uses,
        descendants,
        actions,
    )
}
"""Tables whose every row and field the chain knows."""

VOLATILE: Mapping[str, Table] = {table.name: table for table in (progress, workers)}
"""Tables for those who watch; they may be emptied at any time."""

UNCHAINED: Mapping[str, frozenset[str]] = {
    "objects": frozenset({"wrapped_key"}),
    "hash_keys": frozenset({"wrapped_key"}),
}
"""Columns of chained tables that are not in the chain."""

KEYS: Mapping[str, tuple[str, ...]] = {
    name: tuple(column.name for column in table.primary_key)
    for name, table in metadata.tables.items()
}
"""Names of the columns of every primary key, in order."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    name: tuple(
        column.name
        for column in table.columns
        if not column.primary_key and column.name not in UNCHAINED.get(name, ())
    )
    for name, table in CHAINED.items()
}
"""Names of the fields beside the key that the chain knows, of every chained table."""
