"""Accounts on the command line: secrets are printed once, and everything is put down."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.ledger import accounts
from expunge.ledger.opening import Ledger
from expunge.ledger.rows import rows
from expunge.service import passwords
from expunge.service.access import FIRST, first_admin
from expunge.service.passwords import Argon2, Passwords

Run = Callable[..., Result]
SENTENCE = "a sentence that is long"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("EXPUNGE_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    monkeypatch.setattr(passwords, "Argon2", lambda: Argon2(1, 8, 1))
    Ledger.init()

    def run(*words: str, typed: str = "") -> Result:
        return CliRunner().invoke(app, ["account", *words], input=typed)

    return run


def refused(found: Result) -> str:
    assert isinstance(found.exception, ExpungeError), found.output
    return str(found.exception)


def verified(name: str, password: str) -> bool:
    own = accounts.by_name(Ledger.open(), name)
    assert own is not None
    return Passwords().verify(own.password_hash, password)


def test_an_account_with_a_password_a_role_and_a_key(asked: Run, tmp_path: Path) -> None:
    made = asked("add", "Maria", "--password-file", "-", "--grant", "*=auditor", typed=SENTENCE)
    assert made.exit_code == 0, made.output
    assert SENTENCE not in made.output
    assert verified("maria", SENTENCE)
    key = asked("key", "maria", "--label", "a job").output.splitlines()[-1]
    identifier = key.split("_")[1]
    listed = tmp_path / "accounts.json"
    shown = asked("list", "--json", str(listed)).output + asked("keys", "maria").output
    assert key.split("_", 2)[2] not in shown + listed.read_text()
    [own] = json.loads(listed.read_text())
    assert (own["name"], own["grants"], own["password"]) == ("maria", {"*": "auditor"}, True)
    assert asked("grant", "maria", "*", "operator").output == "maria: *=operator\n"
    assert asked("withdraw", "maria", "*").output == "maria: none\n"
    assert asked("revoke-key", identifier).exit_code == 0
    assert accounts.key_with_account(Ledger.open(), identifier) is None
    assert asked("disable", "maria").exit_code == 0
    assert asked("enable", "maria").exit_code == 0
    with Ledger.open().database.reading() as connection:
        found = sorted(rows(connection, "actions"), key=lambda row: str(row["at"]))
    assert [(row["action"], row["role"], row["actor"]) for row in found] == [
        (what, "terminal", None)
        for what in (
            "create account",
            "make key",
            "grant",
            "withdraw",
            "revoke key",
            "disable account",
            "enable account",
        )
    ]


def test_a_password_that_is_made_is_printed_once(asked: Run) -> None:
    told = asked("add", "maria", "--generate", "--admin").output.strip().rsplit(" ", 1)[1]
    assert verified("maria", told)
    changed = asked("password", "maria", "--generate").output.strip().rsplit(" ", 1)[1]
    assert changed != told
    assert verified("maria", changed)
    assert not verified("maria", told)
    assert asked("password", "maria", "--remove").exit_code == 0
    assert not verified("maria", changed)


def test_what_cannot_be_used_is_refused_in_a_sentence(asked: Run, tmp_path: Path) -> None:
    assert "no terminal to ask on" in refused(asked("add", "maria"))
    assert "12 to 1024" in refused(asked("add", "maria", "--password-file", "-", typed="short\n"))
    missing = str(tmp_path / "missing")
    assert "cannot be read" in refused(asked("add", "maria", "--password-file", missing))
    assert "is no MODEL=ROLE" in refused(asked("add", "maria", "--keys-only", "--grant", "x"))
    assert "no model 'x'" in refused(asked("add", "maria", "--keys-only", "--grant", "x=auditor"))
    assert "no role 'admin'" in refused(asked("add", "m", "--keys-only", "--grant", "*=admin"))
    assert "no account 'maria'" in refused(asked("disable", "maria"))
    assert "no key 'k1'" in refused(asked("revoke-key", "k1"))
    assert accounts.accounts(Ledger.open()) == []


def test_the_first_start_makes_one_admin(asked: Run) -> None:
    ledger, own = Ledger.open(), Passwords(Argon2(1, 8, 1))
    told = first_admin(ledger, own)
    assert told is not None
    assert verified(FIRST, told)
    [made] = accounts.accounts(ledger)
    assert (made.name, made.admin) == (FIRST, True)
    assert first_admin(ledger, own) is None
    assert len(accounts.accounts(ledger)) == 1
