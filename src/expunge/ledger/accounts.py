"""Accounts of people and programs: their grants, keys and sessions, and sign-ins that failed.

Nothing here is in the chain, since it names people and can be deleted. Secrets are never stored:
of passwords and keys there is the hash that the caller makes (a slow one), of a session's cookie
the SHA-256 (it is random and long), and names and addresses that failed are keyed hashes.
"""

import re
import secrets as randomness
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from expunge.errors import ConflictError, ExpungeError, UnknownError
from expunge.ledger import tables
from expunge.ledger.canonical import sha256
from expunge.ledger.chain import stamp
from expunge.ledger.opening import Ledger, fresh_id, model_row
from expunge.ledger.rows import Record, one, put, rows

EVERY = "*"
"""What stands for every model, in a grant."""
NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
"""Names of accounts: no two look alike, and none needs an escape anywhere."""
TYPED = 256
"""Characters of a name as somebody types it; more are no name."""
LABEL = 100
"""Characters of a key's label."""
SECRET = 32
"""Random bytes of a key and of a session."""
PREFIX = "expunge"
"""How keys begin, so that a scanner of leaked secrets can know one."""
TOUCHED = timedelta(seconds=60)
"""How exactly it is known when a session was last used: not every look writes."""

NONE: Mapping[str, Any] = MappingProxyType({})

Hashing = Callable[[str], str]


class Role(StrEnum):
    """What an account may do; ``admin`` is of the account itself, the others of its grants."""

    REQUESTER = "requester"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"


@dataclass(frozen=True)
class Account:
    """Who may sign in, or has keys.

    Args:
        id: random; what actions name.
        name: unique.
        password_hash: None where keys alone open it.
        admin: may do everything, for every model.
        disabled: may do nothing.
        created_at: a time as the ledger writes it.
        grants: roles by the name of a model, or of every model (``*``).
    """

    id: str
    name: str
    password_hash: str | None = field(repr=False)
    admin: bool
    disabled: bool
    created_at: str
    grants: Mapping[str, Role]


@dataclass(frozen=True)
class Key:
    """What a program signs in with; ``secret_hash`` is of its secret."""

    id: str
    account: str
    label: str
    secret_hash: str = field(repr=False)
    created_at: str
    expires_at: str | None
    revoked_at: str | None

    @property
    def alive(self) -> bool:
        """Whether it is neither revoked nor past its time."""
        expired = self.expires_at is not None and self.expires_at <= stamp(now())
        return self.revoked_at is None and not expired


@dataclass(frozen=True)
class Session:
    """A browser that is signed in; the id is the SHA-256 of its cookie's secret."""

    id: str
    account: str
    created_at: str
    seen_at: str


@dataclass(frozen=True)
class Lifetime:
    """How long a session lasts: without use, and at most."""

    idle: timedelta = timedelta(minutes=30)
    longest: timedelta = timedelta(hours=12)


@dataclass(frozen=True)
class Throttle:
    """How failures make the next try wait.

    Args:
        name: failures for one name until it waits.
        address: failures from one address until it waits; people may share one.
        window: so long after the last failure, or the wait that it made, counting begins anew.
        first: the first wait; every further failure doubles it.
        longest: the longest wait.
    """

    name: int = 5
    address: int = 20
    window: timedelta = timedelta(minutes=15)
    first: timedelta = timedelta(seconds=30)
    longest: timedelta = timedelta(minutes=15)

    def wait(self, count: int, free: int) -> timedelta | None:
        """What follows so many failures; None while no wait does."""
        if count < free:
            return None
        doubled: timedelta = self.first * 2 ** min(count - free, 20)
        return min(self.longest, doubled)


def now() -> datetime:
    """The time, of which sessions, keys and waits are reckoned."""
    return datetime.now(UTC)


def folded(name: str) -> str:
    """A name in the one form in which names are compared; "" of what is too long to be one.

    To normalise takes the square of the length of a text of combining marks, and whoever signs in
    is not known yet.
    """
    given = name.strip()
    if len(given) > TYPED:
        return ""
    return unicodedata.normalize("NFKC", given).strip().casefold()


def checked_name(name: str) -> str:
    """The name of an account in its one form: lower case.

    Raises:
        ExpungeError: it has other characters than a name may have.
    """
    found = folded(name)
    if not NAME.fullmatch(found):
        raise ExpungeError(
            "A name of an account has 1 to 64 of the characters a-z, 0-9 and . _ @ + -, and begins "
            "with a letter or a digit; give such a name."
        )
    return found


def create(
    ledger: Ledger,
    name: str,
    password_hash: str | None,
    admin: bool = False,
    grants: Mapping[str, Role] = NONE,
) -> str:
    """Make an account; its id.

    Args:
        ledger: where.
        name: what it signs in by.
        password_hash: None where keys alone open it.
        admin: whether it may do everything.
        grants: roles by the name of a model, or of every model (``*``).

    Raises:
        ExpungeError: the name cannot be one, or the role is no model's.
        ConflictError: there is an account of this name.
        UnknownError: there is no such model.
    """
    with ledger.database.writing() as connection:
        made = _created(connection, checked_name(name), password_hash, admin)
        _grant(connection, _account(connection, made), grants)
    return made


def create_first(ledger: Ledger, name: str, password_hash: str) -> str | None:
    """Make the first account, an admin's; its id, or None where there is an account already."""
    with ledger.database.writing() as connection:
        if connection.execute(select(tables.accounts.c.id).limit(1)).first() is not None:
            return None
        return _created(connection, checked_name(name), password_hash, True)


def account(ledger: Ledger, identifier: str) -> Account:
    """An account by its id.

    Raises:
        UnknownError: there is none.
    """
    with ledger.database.reading() as connection:
        return _account(connection, identifier)


def by_name(ledger: Ledger, name: str) -> Account | None:
    """An account by its name, in any case of its letters; None where there is none."""
    own = folded(name)
    if not NAME.fullmatch(own):
        return None
    with ledger.database.reading() as connection:
        found = one(connection, "accounts", name=own)
        return None if found is None else _read(connection, found)


def accounts(ledger: Ledger) -> list[Account]:
    """Every account, by name."""
    with ledger.database.reading() as connection:
        granted: dict[str, dict[str, Role]] = {}
        for row in rows(connection, "grants"):
            granted.setdefault(row["account"], {})[row["model"]] = Role(row["role"])
        found = rows(connection, "accounts")
    made = [Account(**row, grants=granted.get(row["id"], {})) for row in found]
    return sorted(made, key=lambda own: own.name)


def change(
    ledger: Ledger,
    identifier: str,
    *,
    admin: bool | None = None,
    disabled: bool | None = None,
    password_hash: str | None = None,
    grants: Mapping[str, Role | None] = NONE,
) -> Account:
    """Change an account, all of it or nothing; as it is then.

    Args:
        ledger: where.
        identifier: of the account.
        admin: whether it may do everything; None leaves that as it is, here and below.
        disabled: whether it may do nothing. Its sessions end then, and its keys open nothing until
            it is enabled again.
        password_hash: of a new password; its sessions end.
        grants: roles by model, in the place of what it had there; None takes a role away.

    Raises:
        UnknownError: there is no such account or model, or no role to take away.
        ConflictError: no admin would be left.
        ExpungeError: the role is no model's.
    """
    with ledger.database.writing() as connection:
        own = _account(connection, identifier)
        if own.admin and (disabled or admin is False):
            _check_admin_left(connection, identifier)
        given = {"admin": admin, "disabled": disabled, "password_hash": password_hash}
        fields = {name: value for name, value in given.items() if value is not None}
        if fields:
            _change(connection, identifier, fields)
        if disabled or password_hash is not None:
            _end_sessions(connection, identifier)
        _grant(connection, own, grants)
        return _account(connection, identifier)


def disable(ledger: Ledger, identifier: str) -> None:
    """Let an account do nothing any more; raises as :func:`change`."""
    change(ledger, identifier, disabled=True)


def set_password(
    ledger: Ledger, identifier: str, password_hash: str | None, keep: str | None = None
) -> None:
    """Give an account another password, or none.

    Args:
        ledger: where.
        identifier: of the account.
        password_hash: of the new one.
        keep: the session that goes on; every other one of the account ends.

    Raises:
        UnknownError: there is none.
    """
    with ledger.database.writing() as connection:
        _account(connection, identifier)
        _change(connection, identifier, {"password_hash": password_hash})
        _end_sessions(connection, identifier, keep)


def rehash(ledger: Ledger, known: Account, password_hash: str) -> Account:
    """Replace the hash of the same password by one of another cost; the account as it is then.

    As it was known, where its password changed meanwhile: then the old one opens no session.
    """
    columns = tables.accounts.c
    with ledger.database.writing() as connection:
        changed = connection.execute(
            update(tables.accounts)
            .where(columns.id == known.id, columns.password_hash == known.password_hash)
            .values(password_hash=password_hash)
        )
        return _account(connection, known.id) if changed.rowcount else known


def grant(ledger: Ledger, identifier: str, model: str, role: Role) -> None:
    """Give an account a role for a model (``*``: every one); raises as :func:`change`."""
    change(ledger, identifier, grants={model: role})


def withdraw(ledger: Ledger, identifier: str, model: str) -> None:
    """Take the role that an account has for a model away; raises as :func:`change`."""
    change(ledger, identifier, grants={model: None})


def issue_key(
    ledger: Ledger, identifier: str, label: str, hashing: Hashing, expires: str | None = None
) -> tuple[str, str]:
    """Make a key for an account; its id, and the whole key, which cannot be read again.

    Args:
        ledger: where.
        identifier: of the account.
        label: what it is for.
        hashing: makes the hash of the secret that is stored.
        expires: ISO 8601 with a time zone; never by default.

    Raises:
        UnknownError: there is no such account.
        ConflictError: it is disabled.
        ExpungeError: the label is too long or empty, or the time is none or past.
    """
    until = None if expires is None else _later(expires)
    label = " ".join(label.split())
    if not 1 <= len(label) <= LABEL or not label.isprintable():
        raise ExpungeError(f"A key needs a label of 1 to {LABEL} characters; say what it is for.")
    made, secret = fresh_id("k"), randomness.token_urlsafe(SECRET)
    record = {
        "id": made,
        "account": identifier,
        "label": label,
        "secret_hash": hashing(secret),
        "created_at": stamp(now()),
        "expires_at": until,
        "revoked_at": None,
    }
    with ledger.database.writing() as connection:
        own = _account(connection, identifier)
        if own.disabled:
            raise ConflictError(
                f"The account {own.name!r} is disabled; enable it before a key is made for it."
            )
        connection.execute(insert(tables.api_keys), record)
    return made, f"{PREFIX}_{made}_{secret}"


def key(ledger: Ledger, identifier: str) -> Key:
    """A key by its id.

    Raises:
        UnknownError: there is none.
    """
    with ledger.database.reading() as connection:
        found = one(connection, "api_keys", id=identifier)
    if found is None:
        raise UnknownError(f"There is no key {identifier!r}.")
    return Key(**found)


def keys(ledger: Ledger, identifier: str) -> list[Key]:
    """The keys of an account, also those that open nothing any more; oldest first."""
    with ledger.database.reading() as connection:
        found = [Key(**row) for row in rows(connection, "api_keys", account=identifier)]
    return sorted(found, key=lambda own: own.created_at)


def key_with_account(ledger: Ledger, identifier: str) -> tuple[Key, Account] | None:
    """A key and whose it is, if both open something now."""
    with ledger.database.reading() as connection:
        found = one(connection, "api_keys", id=identifier)
        own = None if found is None else Key(**found)
        if own is None or not own.alive:
            return None
        holder = _account(connection, own.account)
    return None if holder.disabled else (own, holder)


def revoke_key(ledger: Ledger, identifier: str) -> None:
    """Let a key open nothing any more, from now on; a second time changes nothing.

    Raises:
        UnknownError: there is none.
    """
    columns = tables.api_keys.c
    with ledger.database.writing() as connection:
        if one(connection, "api_keys", id=identifier) is None:
            raise UnknownError(f"There is no key {identifier!r}.")
        connection.execute(
            update(tables.api_keys)
            .where(columns.id == identifier, columns.revoked_at.is_(None))
            .values(revoked_at=stamp(now()))
        )


def open_session(ledger: Ledger, holder: Account, lifetime: Lifetime) -> str | None:
    """Begin a session of an account whose password was checked; the secret for its cookie.

    None where the account was disabled, or its password changed, since it was read. Sessions that
    are over are deleted.
    """
    secret = randomness.token_urlsafe(SECRET)
    at = now()
    with ledger.database.writing() as connection:
        _end_old(connection, at, lifetime)
        as_it_is = one(connection, "accounts", id=holder.id, disabled=False)
        if as_it_is is None or as_it_is["password_hash"] != holder.password_hash:
            return None
        moment = stamp(at)
        connection.execute(
            insert(tables.sessions),
            {
                "id": session_id(secret),
                "account": holder.id,
                "created_at": moment,
                "seen_at": moment,
            },
        )
    return secret


def session_id(secret: str) -> str:
    """What a session is known by in the database."""
    return sha256(secret.encode(errors="surrogatepass"))


def session(ledger: Ledger, identifier: str, lifetime: Lifetime) -> tuple[Session, Account] | None:
    """A session and whose it is, if it goes on and the account may act."""
    at = now()
    with ledger.database.reading() as connection:
        found = one(connection, "sessions", id=identifier)
        if found is None or _over(found, at, lifetime):
            return None
        holder = _account(connection, found["account"])
    return None if holder.disabled else (Session(**found), holder)


def touch(ledger: Ledger, own: Session) -> None:
    """Put down that a session is in use, if that was not done within the last minute."""
    at = now()
    if stamp(at - TOUCHED) < own.seen_at:
        return
    with ledger.database.writing() as connection:
        connection.execute(
            update(tables.sessions).where(tables.sessions.c.id == own.id).values(seen_at=stamp(at))
        )


def end_session(ledger: Ledger, identifier: str) -> None:
    """End a session; one that is not there is no error."""
    with ledger.database.writing() as connection:
        connection.execute(delete(tables.sessions).where(tables.sessions.c.id == identifier))


def attempt(ledger: Ledger, tries: Mapping[tuple[str, str], int], throttle: Throttle) -> float:
    """Take one of the tries that somebody has; the seconds to wait where none is left.

    It counts as failed until :func:`succeeded` says otherwise, so that a hundred at once are not
    a hundred free ones. A try that has to wait is not counted.

    Args:
        ledger: where.
        tries: how many failures are free, by what is counted: ("name", NAME), ("address", ...).
        throttle: how long to wait then.
    """
    at = now()
    free = {_counted(ledger, *what): number for what, number in tries.items()}
    with ledger.database.writing() as connection:
        _forget(connection, at, throttle)
        known = {row["id"]: row for row in rows(connection, "failures", id=list(free))}
        if (wait := _wait(known.values(), at)) > 0:
            return wait
        for what, number in free.items():
            count = 1 + (known[what]["count"] if what in known else 0)
            pause = throttle.wait(count, number)
            until = None if pause is None else stamp(at + pause)
            record: Record = {"id": what, "count": count, "at": stamp(at), "until": until}
            put(connection, [("failures", record)])
    return 0.0


def waiting(ledger: Ledger, what: Iterable[tuple[str, str]]) -> float:
    """The seconds that somebody has to wait before the next try; nothing is counted."""
    at = now()
    counted = [_counted(ledger, *own) for own in what]
    with ledger.database.reading() as connection:
        return _wait(rows(connection, "failures", id=counted), at)


def succeeded(ledger: Ledger, name: str, also: Iterable[tuple[str, str]] = ()) -> None:
    """Forget the failures of a name, and take the last one back of what else was counted."""
    columns = tables.failures.c
    taken_back = [_counted(ledger, *what) for what in also]
    with ledger.database.writing() as connection:
        whole = _counted(ledger, "name", name)
        connection.execute(delete(tables.failures).where(columns.id == whole))
        connection.execute(
            update(tables.failures)
            .where(columns.id.in_(taken_back), columns.count > 0)
            .values(count=columns.count - 1, until=None)
        )


def _created(connection: Connection, name: str, password_hash: str | None, admin: bool) -> str:
    made = fresh_id("c")
    record = {
        "id": made,
        "name": name,
        "password_hash": password_hash,
        "admin": admin,
        "disabled": False,
        "created_at": stamp(now()),
    }
    if one(connection, "accounts", name=name) is not None:
        raise ConflictError(f"There is an account {name!r} already; give another name.")
    connection.execute(insert(tables.accounts), record)
    return made


def _account(connection: Connection, identifier: str) -> Account:
    found = one(connection, "accounts", id=identifier)
    if found is None:
        raise UnknownError(f"There is no account {identifier!r}.")
    return _read(connection, found)


def _read(connection: Connection, row: Record) -> Account:
    granted = rows(connection, "grants", account=row["id"])
    return Account(**row, grants={own["model"]: Role(own["role"]) for own in granted})


def _change(connection: Connection, identifier: str, fields: Mapping[str, Any]) -> None:
    changed = update(tables.accounts).where(tables.accounts.c.id == identifier).values(fields)
    connection.execute(changed)


def _grant(connection: Connection, own: Account, grants: Mapping[str, Role | None]) -> None:
    columns = tables.grants.c
    for model, role in grants.items():
        if role is Role.ADMIN:
            raise ExpungeError(
                "The role 'admin' is an account's and no model's; give one of "
                f"{', '.join(r for r in Role if r is not Role.ADMIN)}, or make the account an "
                "admin."
            )
        if role is None:
            gone = delete(tables.grants).where(columns.account == own.id, columns.model == model)
            if not connection.execute(gone).rowcount:
                raise UnknownError(
                    f"The account {own.name!r} has no role for {model!r}; it has roles for "
                    f"{', '.join(own.grants) or 'none'}."
                )
            continue
        if model != EVERY:
            model_row(connection, model)
        record = {"account": own.id, "model": model, "role": role.value}
        put(connection, [("grants", record)])


def _check_admin_left(connection: Connection, without: str) -> None:
    """Refuse what would leave a ledger that nobody can give accounts to."""
    admins = {row["id"] for row in rows(connection, "accounts", admin=True, disabled=False)}
    if admins == {without}:
        raise ConflictError(
            "This is the last admin who is not disabled; make another account an admin first."
        )


def _end_sessions(connection: Connection, identifier: str, keep: str | None = None) -> None:
    columns = tables.sessions.c
    gone = delete(tables.sessions).where(columns.account == identifier)
    connection.execute(gone if keep is None else gone.where(columns.id != keep))


def _over(found: Record, at: datetime, lifetime: Lifetime) -> bool:
    begun, seen = found["created_at"], found["seen_at"]
    return bool(begun <= stamp(at - lifetime.longest) or seen <= stamp(at - lifetime.idle))


def _end_old(connection: Connection, at: datetime, lifetime: Lifetime) -> None:
    columns = tables.sessions.c
    old = (columns.created_at <= stamp(at - lifetime.longest)) | (
        columns.seen_at <= stamp(at - lifetime.idle)
    )
    connection.execute(delete(tables.sessions).where(old))


def _counted(ledger: Ledger, kind: str, value: str) -> str:
    """What failures are counted under; tells nobody whose they are."""
    return ledger.keys.hashed("failure", f"{kind}:{value}")


def _forget(connection: Connection, at: datetime, throttle: Throttle) -> None:
    """Delete what begins anew: so long after the last failure, or after the wait that it made."""
    columns = tables.failures.c
    last = func.coalesce(columns.until, columns.at)
    connection.execute(delete(tables.failures).where(last <= stamp(at - throttle.window)))


def _wait(found: Iterable[Record], at: datetime) -> float:
    """Seconds until the last of several waits is over."""
    ends = [datetime.fromisoformat(row["until"]) for row in found if row["until"] is not None]
    return max((0.0, *((end - at).total_seconds() for end in ends)))


def _later(text: str) -> str:
    """A time to come, as the ledger writes it."""
    try:
        moment = datetime.fromisoformat(text)
        until = None if moment.tzinfo is None else stamp(moment)
    except (ValueError, OverflowError):  # the first and the last day are none in another zone
        until = None
    if until is None:
        raise ExpungeError(
            f"The time {text!r} is none; give ISO 8601 with a time zone, such as "
            "2027-01-15T00:00:00+01:00."
        )
    if until <= stamp(now()):
        raise ExpungeError(f"The time {text} is past; give one to come.")
    return until
