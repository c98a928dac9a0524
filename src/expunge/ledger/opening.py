"""A ledger: a database, a vault and keys; how one is made, found and opened.

Where nothing is said, a ledger is a folder: ``ledger.db`` in it, encrypted objects in ``objects``,
and the keys in ``keys``, which belong on another disk as soon as the ledger is more than a trial.
"""

import os
import secrets as randomness
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from expunge import __version__
from expunge.errors import ConflictError, ExpungeError, IntegrityError, UnknownError
from expunge.ledger.canonical import sha256
from expunge.ledger.chain import Erase, Write, append, ledger_time
from expunge.ledger.database import Database
from expunge.ledger.keys import (
    HASHED,
    MASTER,
    MASTER_FILE,
    MASTER_NAME,
    Keys,
    fresh_hash_keys,
    key_id,
)
from expunge.ledger.locks import locked, storing
from expunge.ledger.rows import Record, Value, one, rows
from expunge.ledger.vault import Stored, Vault

URL, KEYS = "EXPUNGE_LEDGER", "EXPUNGE_LEDGER_KEYS"
"""Environment: the URL of the ledger, and the folder of its keys."""
DEFAULT = "sqlite:///ledger/ledger.db"
OBJECTS = "objects"
"""Store of a SQLite ledger, beside its file: a copy of the folder has objects of its own."""
SCRATCH = "expunge-ledger-"
"""How folders of content that is not encrypted begin."""
CONTENT, LOCK = "content.safetensors", "lock"
"""Files of such a folder."""


T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ledger:
    """An open ledger.

    Args:
        database: its rows.
        vault: its objects.
        keys: what opens both.
    """

    database: Database
    vault: Vault
    keys: Keys
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def init(
        cls, url: str | None = None, store: str | None = None, keys: Path | None = None
    ) -> Self:
        """Make a ledger, or bring one of an older version up to date.

        Args:
            url: of the database; ``EXPUNGE_LEDGER`` or ``sqlite:///ledger/ledger.db`` by default.
            store: folder or URL of the objects; beside a SQLite file by default.
            keys: folder of the keys, made where it holds none; beside a SQLite file by default.

        Raises:
            ExpungeError: something of it cannot be made, or the ledger is of a newer version.
        """
        database = Database(_url(url))
        place = _keys_folder(database, keys)
        store = _store(database, store)
        place_of = Vault(_resolved(database, store), Keys.generate())  # a wrong URL is said first
        opened = _opened_keys(place, fresh=not _has_ledger(database))
        database.migrate()
        with database.writing() as connection:
            _made(connection, store, opened)
            row = one(connection, "meta", key="ledger")
            assert row is not None
            place_of.claim(row["value"])
        return cls.open(url, keys)

    @classmethod
    def open(cls, url: str | None = None, keys: Path | None = None) -> Self:
        """Open a ledger that was made before.

        Raises:
            ExpungeError: there is none, or it is of another version.
            IntegrityError: a key is not the one that the ledger was made with, or what the ledger
                says of itself was altered.
        """
        database = Database(_url(url))
        database.check_schema()
        with database.reading() as connection:
            meta = {row["key"]: row["value"] for row in rows(connection, "meta")}
        missing = sorted({"ledger", "store", "keys", "public"} - set(meta))
        if missing:
            raise IntegrityError(
                f"{database.shown} does not say its {missing[0]!r} any more: the table meta was "
                "altered; restore the database from a backup."
            )
        opened = Keys.open(_keys_folder(database, keys))
        opened.expect(meta["keys"])
        opened = opened.with_hashing(_hash_keys(database, opened))
        if opened.key_id != key_id(meta["public"].encode()):
            raise IntegrityError(
                "The signing key is not the one that the ledger was made with; give that one, or "
                "its certificates could not be checked any more."
            )
        database.writes_if(partial(_check_key, opened.fingerprint))
        return cls(database, Vault(_resolved(database, meta["store"]), opened), opened)

    def claim(self) -> None:
        """Refuse a vault that is another ledger's: before anything in it is deleted.

        Raises:
            IntegrityError: it is.
        """
        with self.database.reading() as connection:
            row = one(connection, "meta", key="ledger")
        assert row is not None
        self.vault.claim(row["value"])

    @property
    def folder(self) -> Path | None:
        """The folder of a SQLite ledger; None on a server."""
        return None if self.database.path is None else self.database.path.parent

    def stored(self, address: str) -> Stored:
        """What is kept of an object.

        Raises:
            ExpungeError: there is no such object, or it was destroyed.
        """
        with self.database.reading() as connection:
            found = one(connection, "objects", address=address)
        if found is None:
            raise ExpungeError(
                f"There is no object {address[:12]}; `expunge ledger verify` names what is missing."
            )
        if found["destroyed"]:
            raise ConflictError(
                f"The object {address[:12]} ({found['kind']}) was destroyed when the history was "
                "sealed; nothing brings it back."
            )
        return Stored(address, found["kind"], found["size"], found["wrapped_key"])

    def read(self, address: str) -> bytes:
        """The content of an object.

        Raises:
            ExpungeError: there is no such object, or it was destroyed.
            IntegrityError: it is not what was stored.
        """
        return self.vault.get(self.stored(address))

    def made_of(self, address: str, make: Callable[[bytes], T]) -> T:
        """What ``make`` makes of the content of an object that is kept for good, such as a policy;
        made once, since an object never changes."""
        if address not in self._made:
            self._made[address] = make(self.read(address))
        found: T = self._made[address]
        return found

    @contextmanager
    def file(self, address: str) -> Iterator[Path]:
        """The content of an object as a file, for as long as it is read."""
        stored = self.stored(address)
        with scratch() as folder:
            path = folder / CONTENT
            self.vault.get_file(stored, path)
            yield path

    def draft(self, run: str, data: bytes, kind: str, role: str) -> str:
        """Store an object of a run that is not finished; its address.

        It is in the chain at once, so that the next step finds it in any process.
        """
        with storing(self.database):
            return self._kept(run, self.vault.put(data, kind), role)

    def draft_file(self, run: str, save: Callable[[Path], None], kind: str, role: str) -> str:
        """The same with what ``save`` writes to a file."""
        with scratch() as folder:
            path = folder / CONTENT
            save(path)
            with storing(self.database):
                return self._kept(run, self.vault.put_file(path, kind), role)

    def put_file(self, save: Callable[[Path], None], kind: str) -> Stored:
        """Encrypt what ``save`` writes to a file."""
        with scratch() as folder:
            path = folder / CONTENT
            save(path)
            return self.vault.put_file(path, kind)

    def _kept(self, run: str, stored: Stored, role: str) -> str:
        with self.database.writing() as connection:
            keep(connection, "drafted", [(stored, f"run:{run}", role)])
        return stored.address


def _made(connection: Connection, store: str, keys: Keys) -> None:
    """Write what a ledger says of itself, and the keys that names are hashed under.

    A ledger of an older version has hashed under keys derived from its master key: it keeps them.
    """
    known = one(connection, "meta", key="keys")
    writes: list[Write | Erase] = []
    if known is None:
        facts = {
            "ledger": randomness.token_hex(16),
            "store": store,
            "keys": keys.fingerprint,
            "public": keys.public.decode(),
            "expunge": __version__,
        }
        writes += [Write("meta", {"key": k}, {"value": v}) for k, v in facts.items()]
    else:
        keys.expect(known["value"])
    secrets: dict[str, bytes] = {}
    if not rows(connection, "hash_keys"):
        hashing = fresh_hash_keys() if known is None else keys.hash_keys()
        secrets = {purpose: keys.wrap(key) for purpose, key in hashing.items()}
        writes += [
            Write("hash_keys", {"purpose": purpose}, {"key_digest": sha256(wrapped)})
            for purpose, wrapped in secrets.items()
        ]
    if writes:
        append(connection, "made" if known is None else "upgraded", writes, secrets=secrets)


def _hash_keys(database: Database, keys: Keys) -> dict[str, bytes]:
    """The keys that names are hashed under.

    Raises:
        IntegrityError: one is missing or damaged.
    """
    with database.reading() as connection:
        found = {row["purpose"]: row["wrapped_key"] for row in rows(connection, "hash_keys")}
    if missing := sorted(set(HASHED) - set(found)):
        raise IntegrityError(
            f"{database.shown} does not hold the key any more that it hashes each {missing[0]} "
            "under: the table hash_keys was altered; restore the database from a backup."
        )
    return {purpose: keys.unwrap(wrapped) for purpose, wrapped in found.items()}


def _check_key(fingerprint: str, connection: Connection) -> None:
    """Refuse to write with a master key that was changed: nobody could read it any more."""
    row = one(connection, "meta", key="keys")
    if row is not None and row["value"] != fingerprint:
        raise IntegrityError(
            f"The master key {fingerprint} that this process works with was changed to "
            f"{row['value']}; end it, and start it again with the new one."
        )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this user alone (mode 0700) for content that is not encrypted.

    A file in it is locked for as long as this process lives and works with it.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
        lock = _lock_of(folder)
        if lock is None:  # another process swept it before it was locked
            continue
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
        return


def sweep_scratch() -> None:
    """Remove what processes of this machine left unencrypted when they were killed: folders whose
    lock nobody holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        lock = _lock_of(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock_of(folder: Path) -> int | None:
    """The locked file of a folder, as a descriptor; None where it is another's or is gone."""
    path = folder / LOCK
    try:
        found = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # swept, another user's, or no folder
        return None
    try:
        if locked(found) and os.path.samestat(os.fstat(found), path.stat()):
            return found
    except OSError:  # swept since it was opened
        pass
    os.close(found)
    return None


def keep(
    connection: Connection,
    kind: str,
    objects: Sequence[tuple[Stored, str, str]],
    writes: Sequence[Write | Erase] = (),
) -> None:
    """Append an event that keeps objects, each with (owner, role), beside other writes."""
    at = ledger_time(connection)
    own: list[Write | Erase] = []
    for stored, owner, role in objects:
        fields: dict[str, Value] = {
            "kind": stored.kind,
            "size": stored.size,
            "key_digest": stored.key_digest,
            "destroyed": False,
            "created_at": at,
        }
        own.append(Write("objects", {"address": stored.address}, fields))
        own.append(used(stored.address, owner, role))
    secrets = {stored.address: stored.wrapped_key for stored, _, _ in objects}
    append(connection, kind, [*own, *writes], secrets=secrets)


def used(address: str, owner: str, role: str) -> Write:
    """That an owner (``model:ID``, ``request:ID``, ``version:ID``, ``run:ID``) uses an object."""
    return Write("uses", {"address": address, "owner": owner, "role": role}, {})


def model_row(connection: Connection, name: str) -> Record:
    """A registered model by name.

    Raises:
        ExpungeError: there is none.
    """
    found = one(connection, "models", name=name)
    if found is None:
        known = ", ".join(row["name"] for row in rows(connection, "models")) or "none"
        raise UnknownError(
            f"There is no model {name!r} in this ledger; registered: {known}. "
            "`expunge ledger register` adds one."
        )
    return found


def fresh_id(prefix: str) -> str:
    """A random id."""
    return prefix + randomness.token_hex(6)


def _url(given: str | None) -> str:
    return given or os.environ.get(URL) or DEFAULT


def _store(database: Database, given: str | None) -> str:
    if given is not None:
        return given if "://" in given else str(Path(given).resolve())
    if database.path is None:
        raise ExpungeError(
            "A ledger on a server needs `--store`: a folder that every worker sees, or "
            "s3://bucket/prefix."
        )
    return OBJECTS


def _resolved(database: Database, store: str) -> str:
    """The store by its URL; one beside a SQLite file goes where the file goes."""
    if store != OBJECTS or database.path is None:
        return store
    return str((database.path.parent / OBJECTS).resolve())


def _keys_folder(database: Database, given: Path | None) -> Path | None:
    if given is not None:
        return given
    if os.environ.get(KEYS):
        return Path(os.environ[KEYS])
    return None if database.path is None else database.path.parent / "keys"


def _has_ledger(database: Database) -> bool:
    if database.path is not None and not database.path.exists():
        return False
    try:
        with database.reading() as connection:
            return one(connection, "meta", key="keys") is not None
    except ExpungeError:  # no server there, or no such database
        raise
    except Exception:  # no such table: nothing was made yet; other faults are said by what follows
        return False


def _opened_keys(folder: Path | None, fresh: bool) -> Keys:
    """The keys of a folder; made where a ledger is made and there are none."""
    given = any(os.environ.get(name) for name in (MASTER, MASTER_FILE))
    if folder is not None and fresh and not given and not (folder / MASTER_NAME).exists():
        made = Keys.generate()
        made.save(folder)
        return made
    return Keys.open(folder)
