"""Facts about verification: one changed byte or field is named, wherever it stands."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from small_model import ASCENT, Working

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import verifying
from expunge.ledger.asking import revoke
from expunge.ledger.canonical import sha256
from expunge.ledger.certificate import sign, statement, verified
from expunge.ledger.chain import Write
from expunge.ledger.opening import Ledger, keep
from expunge.ledger.replaying import replay
from expunge.ledger.verifying import verify

Make = Callable[..., Working]


@pytest.fixture
def answered(working: Make) -> Working:
    made = working()
    made.served("label", "8")
    revoke(made.ledger, made.served("subject", "writer 1", **ASCENT), "admin", "by mistake")
    made.work()
    return made


def object_file(working: Working, address: str) -> Path:
    return Path(working.ledger.vault.url) / address[:2] / address[2:4] / address


def altered(working: Working, statement: str, *values: object) -> None:
    assert working.ledger.database.path is not None
    with sqlite3.connect(working.ledger.database.path) as connection:
        assert connection.execute(statement, values).rowcount == 1


def test_what_was_not_touched_holds_and_is_rebuilt(answered: Working) -> None:
    found = verify(answered.ledger)
    assert found.holds
    assert (found.certificates, found.rebuilt) == (4, 1)
    assert found.objects == len(set(answered.ledger.vault.addresses()))


def test_a_changed_byte_of_any_object_is_named(answered: Working) -> None:
    for row in answered.rows("objects"):
        path = object_file(answered, row["address"])
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        faults = verify(answered.ledger, rebuild=False).faults
        assert any(row["address"] in fault for fault in faults), row["kind"]
        path.write_bytes(content)
    assert verify(answered.ledger).holds


def test_a_missing_object_is_named(answered: Working) -> None:
    address = answered.version()["figures"]
    object_file(answered, address).unlink()
    assert any(address in fault for fault in verify(answered.ledger).faults)


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        ("requests", "state", "withdrawn"),
        ("requests", "row_count", 5),
        ("requests", "deadline", "2040-01-01T00:00:00.000000Z"),
        ("versions", "weights_digest", "0" * 64),
        ("models", "version", 1),
        ("runs", "state", "failed"),
        ("attempts", "outcome", "passed!"),
        ("subjects", "hash", "0" * 64),
        ("objects", "wrapped_key", b"0"),
        ("meta", "value", "another"),
    ],
)
def test_a_changed_field_is_named(answered: Working, table: str, field: str, value: object) -> None:
    altered(
        answered,
        f"UPDATE {table} SET {field} = ? WHERE rowid = (SELECT min(rowid) FROM {table})",
        value,
    )
    faults = verify(answered.ledger, rebuild=False).faults
    assert any(table in fault and (field in fault or field == "hash") for fault in faults)


def test_a_changed_event_is_named(answered: Working) -> None:
    altered(answered, "UPDATE events SET body = replace(body, 'a', 'b') WHERE seq = 3")
    assert any("event 3" in fault for fault in verify(answered.ledger, rebuild=False).faults)


def test_a_changed_certificate_is_named(answered: Working) -> None:
    content = answered.ledger.read(answered.version()["certificate"])
    envelope = json.loads(content)
    envelope["payload"] = envelope["payload"][:-4] + "AAAA"
    with pytest.raises(IntegrityError):
        verified(json.dumps(envelope).encode(), answered.ledger.keys.public)


def test_a_certificate_that_states_something_else_is_named(answered: Working) -> None:
    """Signed by the right key, stored as an object, and yet not of this version."""
    ledger, version = answered.ledger, answered.version()
    stated = verified(ledger.read(version["certificate"]), ledger.keys.public)
    other = {**stated["predicate"], "after": "0" * 64}
    envelope = sign(statement("digits@3", "0" * 64, other), ledger.keys)
    stored = ledger.vault.put(envelope, "certificate")
    fields = {"certificate": stored.address, "certificate_digest": sha256(envelope)}
    with ledger.database.writing() as connection:
        owned = [(stored, f"version:{version['id']}", "certificate")]
        keep(connection, "forged", owned, [Write("versions", {"id": version["id"]}, fields)])
    faults = verify(ledger).faults
    assert any("digits@3" in fault and "weights" in fault for fault in faults)


def test_a_certificate_kept_outside_notices_a_chain_that_was_cut_off(answered: Working) -> None:
    ledger, version = answered.ledger, answered.version()
    kept = ledger.read(version["certificate"])
    assert verify(ledger, kept, rebuild=False).holds
    stated = verified(kept, ledger.keys.public)["predicate"]
    later = {**stated, "anchor": [stated["anchor"][0] + 99, "0" * 64]}
    issued = sign(statement(f"digits@{version['number']}", stated["after"], later), ledger.keys)
    faults = verify(ledger, issued, rebuild=False).faults
    assert any("the anchor names it, and it is not there" in fault for fault in faults)
    assert any("not in the ledger any more" in fault for fault in faults)


def test_a_base_that_does_not_fold_to_the_certificate_is_named(
    answered: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "digest_of", lambda _: "1" * 64)
    assert any("fold" in fault for fault in verify(answered.ledger).faults)


def test_a_certificate_is_measured_again(answered: Working) -> None:
    for version in answered.rows("versions"):
        found = replay(answered.ledger, answered.ledger.read(version["certificate"]))
        assert found.holds, version["cause"]
        assert found.version == version["number"]


def test_the_wrong_master_key_and_a_missing_one_are_said(answered: Working, working: Make) -> None:
    other = working()
    assert answered.ledger.folder is not None
    assert other.ledger.folder is not None
    url = f"sqlite:///{answered.ledger.database.path}"
    with pytest.raises(IntegrityError, match="master key"):
        Ledger.open(url, other.ledger.folder / "keys")
    (answered.ledger.folder / "keys" / "master.key").unlink()
    with pytest.raises(ExpungeError, match="master"):
        Ledger.open(url)
