"""Accounts, keys, sessions and actions on both databases; what the chain knows of them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from expunge.errors import ConflictError, ExpungeError, UnknownError
from expunge.ledger import accounts, actions, tables
from expunge.ledger.accounts import Lifetime, Role, Throttle
from expunge.ledger.actions import SUBMIT, Action, Outcome
from expunge.ledger.chain import faults
from expunge.ledger.database import Database
from expunge.ledger.opening import Ledger
from expunge.ledger.rows import rows
from expunge.ledger.verifying import verify

LIFE = Lifetime()


@pytest.fixture
def ledger(empty_url: str, tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.init(empty_url, str(tmp_path / "objects"), tmp_path / "keys")
    yield made
    made.database.close()


def hashing(secret: str) -> str:
    return f"hash of {len(secret)} characters"


def test_an_account_is_made_changed_and_read(ledger: Ledger) -> None:
    made = accounts.create(ledger, " Maria@Example.org ", "h1", True, {"*": Role.AUDITOR})
    own = accounts.by_name(ledger, "MARIA@example.ORG")
    assert own is not None
    assert own == accounts.account(ledger, made)
    assert (own.name, own.admin, own.grants) == ("maria@example.org", True, {"*": Role.AUDITOR})
    assert "h1" not in repr(own)
    accounts.create(ledger, "bob", None, admin=True)
    changed = accounts.change(ledger, made, admin=False, grants={"*": Role.OPERATOR})
    assert (changed.admin, changed.grants, changed.password_hash) == (
        False,
        {"*": Role.OPERATOR},
        "h1",
    )
    accounts.withdraw(ledger, made, "*")
    assert [(a.name, a.grants) for a in accounts.accounts(ledger)] == [
        ("bob", {}),
        ("maria@example.org", {}),
    ]


@pytest.mark.parametrize("name", ["", "-x", "a b", "ü", "x" * 65, "a\0", "a/b", "Аdmin"])
def test_a_name_that_could_be_taken_for_another_is_refused(name: str) -> None:
    with pytest.raises(ExpungeError, match="1 to 64 of the characters"):
        accounts.checked_name(name)


def test_what_is_refused_changes_nothing(ledger: Ledger) -> None:
    only = accounts.create(ledger, "only", "h", True)
    other = accounts.create(ledger, "other", "h", grants={"*": Role.REQUESTER})
    before = accounts.accounts(ledger)
    with pytest.raises(ConflictError, match="There is an account 'only' already"):
        accounts.create(ledger, "ONLY", None)
    with pytest.raises(UnknownError, match="no model 'never'"):
        accounts.create(ledger, "third", None, grants={"never": Role.AUDITOR})
    with pytest.raises(ExpungeError, match="'admin' is an account's"):
        accounts.grant(ledger, other, "*", Role.ADMIN)
    with pytest.raises(UnknownError, match="has no role for 'never'"):
        accounts.change(ledger, other, disabled=True, grants={"never": None})
    for change in ({"admin": False}, {"disabled": True}):
        with pytest.raises(ConflictError, match="the last admin"):
            accounts.change(ledger, only, **change)  # type: ignore[arg-type]
    with pytest.raises(UnknownError, match="no account 'c0'"):
        accounts.disable(ledger, "c0")
    assert accounts.accounts(ledger) == before


def test_the_first_account_is_made_once(ledger: Ledger) -> None:
    made = accounts.create_first(ledger, "admin", "h")
    assert made is not None
    assert accounts.account(ledger, made).admin
    assert accounts.create_first(ledger, "admin", "h") is None
    assert len(accounts.accounts(ledger)) == 1


def test_a_key_is_told_once_and_revoked_for_good(ledger: Ledger) -> None:
    own = accounts.create(ledger, "program", None)
    made, whole = accounts.issue_key(ledger, own, "  a\n job ", hashing)
    prefix, identifier, secret = whole.split("_", 2)
    assert (prefix, identifier) == ("expunge", made)
    assert len(secret) == 43  # 32 bytes
    with ledger.database.reading() as connection:
        stored = str(rows(connection, "api_keys"))
    assert secret not in stored
    assert accounts.key(ledger, made).label == "a job"
    held = accounts.key_with_account(ledger, made)
    assert held is not None
    assert held[1].name == "program"
    accounts.revoke_key(ledger, made)
    [revoked] = accounts.keys(ledger, own)
    assert accounts.key_with_account(ledger, made) is None
    accounts.revoke_key(ledger, made)
    assert accounts.keys(ledger, own) == [revoked]
    for label, expires in (("", None), ("x" * 101, None), ("a", "soon"), ("a", "2001-01-01")):
        with pytest.raises(ExpungeError):
            accounts.issue_key(ledger, own, label, hashing, expires)
    with pytest.raises(ExpungeError, match="is past"):
        accounts.issue_key(ledger, own, "a", hashing, "2001-01-01T00:00:00+00:00")
    accounts.disable(ledger, own)
    with pytest.raises(ConflictError, match="is disabled"):
        accounts.issue_key(ledger, own, "a", hashing)


def test_a_session_is_of_an_account_as_its_password_was_checked(ledger: Ledger) -> None:
    own = accounts.account(ledger, accounts.create(ledger, "maria", "h1"))
    secret = accounts.open_session(ledger, own, LIFE)
    assert secret is not None
    found = accounts.session(ledger, accounts.session_id(secret), LIFE)
    assert found is not None
    assert found[1] == own
    kept = found[0].id
    accounts.set_password(ledger, own.id, "h2", kept)
    assert accounts.session(ledger, kept, LIFE) is not None
    assert accounts.open_session(ledger, own, LIFE) is None  # the password is another one now
    accounts.change(ledger, own.id, password_hash="h3")
    assert accounts.session(ledger, kept, LIFE) is None


def test_failures_add_up_and_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = accounts.now()
    monkeypatch.setattr(accounts, "now", lambda: begun)
    throttle, tries = Throttle(), {("name", "maria"): 2, ("address", "10.0.0.1"): 3}
    waits = [accounts.attempt(ledger, tries, throttle) for _ in range(3)]
    assert waits == [0, 0, 30]
    assert accounts.waiting(ledger, tries) == 30
    assert accounts.attempt(ledger, {("address", "10.0.0.1"): 3}, throttle) == 0
    accounts.succeeded(ledger, "maria", [("address", "10.0.0.1")])
    assert accounts.attempt(ledger, tries, throttle) == 0
    monkeypatch.setattr(accounts, "now", lambda: begun + timedelta(minutes=16))
    accounts.attempt(ledger, {("name", "other"): 2}, throttle)
    with ledger.database.reading() as connection:
        assert [row["count"] for row in rows(connection, "failures")] == [1]


def test_who_asked_for_a_request_is_read_from_the_actions(ledger: Ledger) -> None:
    for actor, outcome, target in (
        ("c1", Outcome.FAILED, "r1"),
        ("c2", Outcome.DONE, "r1"),
        ("c1", Outcome.DONE, "r2"),
    ):
        actions.put_down(ledger, Action(actor, "requester", SUBMIT, outcome, "m", target))
    actions.put_down(ledger, Action("c1", "operator", "revoke", Outcome.DONE, "m", "r1"))
    assert actions.asked_by(ledger, "c1") == {"r2"}
    assert actions.asker(ledger, "r1") == "c2"
    assert actions.asker(ledger, "r3") is None
    assert actions.has_asked(ledger, "c2", "r1")
    assert not actions.has_asked(ledger, "c1", "r1")


def test_an_altered_or_removed_action_is_noticed(ledger: Ledger) -> None:
    first = actions.put_down(ledger, Action("c1", "operator", "seal", Outcome.DONE, "m"))
    second = actions.put_down(ledger, Action(None, "terminal", "grant", Outcome.DONE))
    assert verify(ledger).holds
    columns = tables.actions.c
    with ledger.database.writing() as connection:
        connection.execute(
            update(tables.actions).where(columns.id == first).values(actor="c2", outcome="refused")
        )
        connection.execute(delete(tables.actions).where(columns.id == second))
    assert set(verify(ledger).faults) == {
        f"actions {first}: the field actor is not as it was written.",
        f"actions {first}: the field outcome is not as it was written.",
        f"actions {second}: the row is missing.",
    }


def test_accounts_are_not_in_the_chain_and_can_be_deleted(ledger: Ledger) -> None:
    own = accounts.create(ledger, "maria", "a hash of maria", grants={"*": Role.AUDITOR})
    made, _ = accounts.issue_key(ledger, own, "her job", hashing)
    accounts.open_session(ledger, accounts.account(ledger, own), LIFE)
    accounts.attempt(ledger, {("name", "maria"): 5}, Throttle())
    actions.put_down(ledger, Action(own, "auditor", "verify", Outcome.DONE))
    with ledger.database.reading() as connection:
        chained = "".join(row["body"] for row in rows(connection, "events"))
    for word in ("maria", "her job", made):
        assert word not in chained
    with ledger.database.writing() as connection:
        for table in (tables.grants, tables.api_keys, tables.sessions, tables.accounts):
            connection.execute(delete(table))
    assert verify(ledger).holds


def test_a_ledger_of_before_is_brought_up_to_date(empty_url: str, tmp_path: Path) -> None:
    """As a ledger of revision 0002 was: without these tables."""
    made = Ledger.init(empty_url, str(tmp_path / "objects"), tmp_path / "keys")
    ours = ("actions", "grants", "api_keys", "sessions", "failures", "accounts")
    with made.database.writing() as connection:
        for name in ours:
            connection.exec_driver_sql(f"DROP TABLE {name}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    made.database.close()
    with pytest.raises(ExpungeError, match="bring it up to date with 'expunge ledger init'"):
        Ledger.open(empty_url, tmp_path / "keys")
    again = Ledger.init(empty_url, str(tmp_path / "objects"), tmp_path / "keys")
    accounts.create(again, "maria", None)
    actions.put_down(again, Action(None, "terminal", "create account", Outcome.DONE))
    with Database(empty_url).reading() as connection:
        assert faults(connection) == []
    again.database.close()
