"""Facts about a changed master key, and about ledgers that hashed under keys derived from it."""

import base64
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_model import ASCENT, OPEN, SOURCE, Dying, Killed, Working, material
from torch import nn

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import queueing
from expunge.ledger.asking import seal
from expunge.ledger.chain import Write, append
from expunge.ledger.database import MIGRATIONS, Database
from expunge.ledger.keys import LENGTH, MASTER_NAME, Keys
from expunge.ledger.locks import storing
from expunge.ledger.material import Source
from expunge.ledger.opening import Ledger
from expunge.ledger.refusals import UnavailableError
from expunge.ledger.registering import register
from expunge.ledger.rekeying import rekey
from expunge.ledger.rows import rows
from expunge.ledger.scope import Scope
from expunge.ledger.submitting import Submission, submit
from expunge.ledger.vault import Vault
from expunge.ledger.verifying import verify
from expunge.ledger.worker import Worker

Make = Callable[..., Working]
NEW = bytes(range(LENGTH))


def keys_of(made: Working) -> Path:
    return Path(made.ledger.vault.url).parent / "keys"


def opened_with(made: Working, master: bytes) -> Ledger:
    """The ledger, as if the master key had been put in the place of the old one."""
    (keys_of(made) / MASTER_NAME).write_bytes(base64.b64encode(master))
    return Ledger.open(
        made.ledger.database.url.render_as_string(hide_password=False), keys_of(made)
    )


def wrapped(made: Working) -> list[bytes]:
    found = [row["wrapped_key"] for name in ("objects", "hash_keys") for row in made.rows(name)]
    return [key for key in found if key is not None]


def test_the_new_key_opens_all_and_the_old_one_nothing(
    working: Make, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge.ledger.rekeying.AT_ONCE", 7)
    made = working(url=empty_url)
    first = submit(made.ledger, "digits", asked("k")).request
    made.work()
    seal(made.ledger, "digits")
    made.work()
    second = made.served("subject", "writer 2", **ASCENT)
    waiting = made.ask("subject", "writer 3", **ASCENT)
    old, before = made.ledger.keys, wrapped(made)
    weights = made.weights()

    assert rekey(made.ledger, NEW) == len(before)

    after = wrapped(made)
    assert len(after) == len(before)
    for key in after:
        with pytest.raises(IntegrityError):
            old.unwrap(key)
    path = made.ledger.database.path
    if path is not None:
        files = b"".join(f.read_bytes() for f in path.parent.glob("ledger.db*"))
        assert not [key for key in before if key in files]
    assert set(before).isdisjoint(after)
    with pytest.raises(IntegrityError, match="was made with the master key"):
        opened_with(made, old.master)
    with pytest.raises(IntegrityError, match="was changed"):
        made.ask("label", "1")  # a process that still works with the old key

    anew = Working(opened_with(made, NEW))
    assert verify(anew.ledger).faults == ()
    assert anew.weights() == weights
    again = submit(anew.ledger, "digits", asked("k"))
    assert (again.request, again.repeated) == (first, True)
    known = anew.ask("subject", "writer 1")  # sealed: found by its keyed hash alone
    assert sorted(Worker(anew.ledger).until_idle().values()) == ["answered", "published"]
    assert anew.state(known) == ("answered", "already forgotten")
    assert [anew.state(r)[0] for r in (second, waiting)] == ["published", "published"]
    assert verify(anew.ledger).faults == ()
    with anew.ledger.database.reading() as connection:
        kinds = list(connection.exec_driver_sql("SELECT kind FROM events").scalars())
    assert kinds.count("rekeyed") == 1
    assert rekey(anew.ledger, NEW) == 0  # the files are rewritten once more, that is all
    for ledger in (made.ledger, anew.ledger):
        ledger.database.close()


def asked(key: str) -> Submission:
    scope = Scope("one", "subject", ("writer 1",))
    return Submission(scope, "gradient-ascent", ASCENT["parameters"], key=key)


def test_nothing_is_changed_where_a_key_is_damaged_or_the_work_is_cut(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    before, counts = wrapped(made), made.counts()
    real, calls = Keys.wrap, iter(range(10**6))

    def dying(keys: Keys, key: bytes) -> bytes:
        if next(calls) == 3:
            raise Killed
        return real(keys, key)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Keys, "wrap", dying)
        rekey(made.ledger, NEW)
    assert (wrapped(made), made.counts()) == (before, counts)
    assert verify(made.ledger).faults == ()
    with pytest.raises(ExpungeError, match="32 bytes"):
        rekey(made.ledger, b"short")
    assert (wrapped(made), made.counts()) == (before, counts)


def test_it_is_refused_while_a_worker_runs_or_something_is_stored(
    working: Make, empty_url: str
) -> None:
    made = working(url=empty_url)
    other = Ledger(made.ledger.database.another(), made.ledger.vault, made.ledger.keys)
    before = wrapped(made)
    with Worker(other)._alone(), pytest.raises(ExpungeError, match="A worker runs"):
        rekey(made.ledger, NEW)
    with storing(other.database), pytest.raises(ExpungeError, match="Somebody is storing"):
        rekey(made.ledger, NEW)
    assert wrapped(made) == before
    rekey(made.ledger, NEW)  # the worker has ended, and its row is still there
    assert set(wrapped(made)).isdisjoint(before)
    for database in (other.database, made.ledger.database):
        database.close()


def test_where_the_files_cannot_be_rewritten_the_new_key_is_said_to_be_the_ledgers(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Database) -> None:
        raise UnavailableError("It is still read by another process; run this again.")

    made = working()
    with monkeypatch.context() as patched, pytest.raises(UnavailableError) as told:
        patched.setattr(Database, "scrub", read)
        rekey(made.ledger, NEW)
    fingerprint = made.ledger.keys.with_master(NEW).fingerprint
    assert f"the new one, {fingerprint}, alone: keep it" in str(told.value)
    assert "run this again" in str(told.value)
    anew = opened_with(made, NEW)
    assert rekey(anew, NEW) == 0
    assert verify(anew).faults == ()


def test_a_missing_hash_key_is_noticed(working: Make) -> None:
    made = working()
    with made.ledger.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM hash_keys WHERE purpose = 'subject'")
    assert any("hash_keys subject" in fault for fault in verify(made.ledger).faults)
    with pytest.raises(IntegrityError, match="hashes each subject"):
        opened_with(made, made.ledger.keys.master)


def as_of_the_first_revision(folder: Path, url: str, network: nn.Module) -> Working:
    """A ledger as the first version made it: its names are hashed under its master key."""
    first = folder / "first revision"
    shutil.copytree(MIGRATIONS, first, ignore=shutil.ignore_patterns("__pycache__", "r000[23]*"))
    database = Database(url)
    database.migrate(first)
    keys = Keys.generate()
    keys.save(folder / "keys")
    store = str(folder / "objects")
    facts: dict[str, Any] = {
        "ledger": secrets.token_hex(16),
        "store": store,
        "keys": keys.fingerprint,
        "public": keys.public.decode(),
        "expunge": "0",
    }
    with database.writing() as connection:
        writes = [Write("meta", {"key": k}, {"value": v}) for k, v in facts.items()]
        append(connection, "made", writes)
    vault = Vault(store, keys)
    vault.claim(facts["ledger"])
    ledger = Ledger(database, vault, keys)
    source = Source.of_function(SOURCE)
    register(ledger, "digits", source, OPEN, replace(material(), model=network))
    return Working(ledger)


def test_a_ledger_of_the_first_revision_is_upgraded_with_work_in_flight_and_rekeyed(
    tmp_path: Path, empty_url: str, digits_model: nn.Module
) -> None:
    older = as_of_the_first_revision(tmp_path, empty_url, digits_model)
    first = submit(older.ledger, "digits", asked("k")).request
    older.work()
    second = older.ask("subject", "writer 2", **ASCENT)
    [run] = queueing.due(older.ledger)
    with suppress(Killed):
        Dying(older.ledger, after="unlearn").conduct(run["id"])
    assert older.state(second)[0] == "running"
    with pytest.raises(ExpungeError, match="older version of expunge"):
        Ledger.open(empty_url, tmp_path / "keys")
    other = tmp_path / "other keys"
    Keys.generate().save(other)
    with pytest.raises(IntegrityError, match="was made with the master key"):
        Ledger.init(empty_url, str(tmp_path / "objects"), other)

    made = Working(Ledger.init(empty_url, str(tmp_path / "objects"), tmp_path / "keys"))
    with made.ledger.database.reading() as connection:
        assert len(rows(connection, "hash_keys")) == 4
    assert submit(made.ledger, "digits", asked("k")).request == first
    assert made.work() == ["published"]
    assert made.state(second) == ("published", None)
    assert verify(made.ledger).faults == ()

    rekey(made.ledger, NEW)
    anew = Working(opened_with(made, NEW))
    assert submit(anew.ledger, "digits", asked("k")).request == first
    assert anew.state(anew.served("subject", "writer 1")) == ("answered", "already forgotten")
    assert verify(anew.ledger).faults == ()
    for ledger in (older.ledger, made.ledger, anew.ledger):
        ledger.database.close()
