"""Facts about what is whose: a store of one ledger, keys of one ledger, folders of one export."""

from collections.abc import Callable
from pathlib import Path

import pytest
import small_model
from small_model import ASCENT, Working

from expunge.changes.deletion import DeletionState
from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import runs
from expunge.ledger.asking import revoke
from expunge.ledger.certificate import Removal, sign, statement, verified
from expunge.ledger.chain import Erase, append
from expunge.ledger.collecting import collect
from expunge.ledger.exporting import export
from expunge.ledger.keys import Keys
from expunge.ledger.opening import Ledger
from expunge.ledger.publishing import not_covered
from expunge.ledger.serving import materialise

Make = Callable[..., Working]


def test_two_ledgers_do_not_share_a_store(working: Make, tmp_path: Path) -> None:
    made = working()
    files = set(made.ledger.vault.addresses())
    url = f"sqlite:///{tmp_path / 'other.db'}"
    with pytest.raises(IntegrityError, match="those of another ledger"):
        Ledger.init(url, made.ledger.vault.url, tmp_path / "keys")
    assert set(made.ledger.vault.addresses()) == files


def test_garbage_of_another_ledger_is_left_alone(working: Make, tmp_path: Path) -> None:
    made, other = working(), working()
    files = set(made.ledger.vault.addresses())
    (Path(made.ledger.vault.url) / "ledger").write_text("somebody else")
    with pytest.raises(IntegrityError, match="those of another ledger"):
        collect(made.ledger, patience=0)
    assert set(made.ledger.vault.addresses()) == files
    assert collect(other.ledger, patience=0).unnamed == 0


def test_a_copy_of_a_ledger_has_its_own_objects(tmp_path: Path) -> None:
    made = Ledger.init(f"sqlite:///{tmp_path / 'one' / 'ledger.db'}")
    made.vault.put(b"1", "test")
    made.database.close()
    (tmp_path / "one").rename(tmp_path / "two")
    moved = Ledger.open(f"sqlite:///{tmp_path / 'two' / 'ledger.db'}")
    assert Path(moved.vault.url) == tmp_path / "two" / "objects"
    assert collect(moved, patience=0).unnamed == 1


def test_another_signing_key_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    url = f"sqlite:///{folder / 'ledger.db'}"
    Ledger.init(url)
    other = Keys.generate()
    other.save(tmp_path / "others")
    for name in ("signing.pem", "signing.pub"):
        (folder / "keys" / name).write_bytes((tmp_path / "others" / name).read_bytes())
    with pytest.raises(IntegrityError, match="signing key is not the one"):
        Ledger.open(url)


def test_a_ledger_that_does_not_know_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    made = Ledger.init(url)
    with made.database.writing() as connection:
        append(connection, "test", [Erase("meta", {"key": "keys"})])
    with pytest.raises(IntegrityError, match="does not say its 'keys'"):
        Ledger.open(url)


def test_an_export_replaces_nothing_but_an_export(working: Make, tmp_path: Path) -> None:
    made, out = working(), tmp_path / "out"
    export(made.ledger, "digits", out)
    export(made.ledger, "digits", out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ExpungeError, match="which no export wrote"):
        export(made.ledger, "digits", out)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "certificate.json").exists()


def test_weights_behind_a_guard_are_not_written(working: Make, tmp_path: Path) -> None:
    made = working()
    made.served("label", "8", method="guardrail")
    assert made.version()["deletion_state"] == DeletionState.SUPPRESSED.value
    with pytest.raises(ExpungeError, match="is suppressed"):
        materialise(made.ledger, "digits", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_come_back_is_not_revoked(
    working: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working(source="small_model:thinned")
    request = made.served("label", "8", **ASCENT)
    before = made.weights()
    monkeypatch.setattr(small_model, "REMOVED", [8])  # the owner removed the rows, as she should
    runs.forget_standing()
    revoke(made.ledger, request, "admin", "by mistake")
    assert made.work() == ["failed"]
    assert made.state(request)[0] == "published"
    assert made.weights() == before


def test_a_revocation_says_which_request_it_took_back(working: Make) -> None:
    made = working()
    request = made.served("label", "8", **ASCENT)
    revoke(made.ledger, request, "admin", "by mistake")
    made.work()
    envelope = made.ledger.read(made.version()["certificate"])
    removal = Removal.from_json(verified(envelope, made.ledger.keys.public)["predicate"])
    assert removal.cause == "revocation"
    assert removal.request_hashes == (made.row("requests", id=request)["scope_hash"],)


def test_a_certificate_about_another_version_than_it_is_named_for(working: Make) -> None:
    made = working()
    keys = made.ledger.keys
    stated = verified(made.ledger.read(made.version()["certificate"]), keys.public)["predicate"]
    forged = sign(statement("digits@7", stated["after"], stated), keys)
    with pytest.raises(IntegrityError, match="another version than its predicate"):
        verified(forged, keys.public)


def test_a_certificate_says_that_the_model_from_before_is_kept() -> None:
    for state in (None, DeletionState.RETRAINED, DeletionState.EXACT):
        assert any("is kept, encrypted" in sentence for sentence in not_covered(state, True))
        assert not any("is kept, encrypted" in sentence for sentence in not_covered(state, False))
