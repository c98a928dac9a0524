"""Keys: what is derived, wrapped, saved and refused, and that no secret is ever shown."""

import base64
import hashlib
import hmac
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.keys import MASTER, MASTER_FILE, SIGNING_FILE, Keys, key_id


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MASTER, MASTER_FILE, SIGNING_FILE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def keys() -> Keys:
    return Keys.generate()


def with_master(keys: Keys, master: bytes) -> Keys:
    return Keys(master, keys.signing, keys.public)


def hkdf(master: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, no salt, one block."""
    extracted = hmac.digest(bytes(32), master, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_a_hash_is_hmac_under_the_sub_key_of_its_purpose(keys: Keys) -> None:
    """Written out by hand: a changed derivation would orphan every ledger."""
    sub_key = hkdf(keys.master, b"expunge/ledger/1/hash/subject")
    expected = hmac.new(sub_key, "zoë@example.org".encode(), hashlib.sha256).hexdigest()
    assert keys.hashed("subject", "zoë@example.org") == expected


def test_hashes_of_two_purposes_or_two_masters_cannot_be_linked(keys: Keys) -> None:
    other = with_master(keys, bytes(32))
    purposes = ("subject", "scope", "row", "idempotency")
    hashes = {holder.hashed(purpose, "7") for holder in (keys, other) for purpose in purposes}
    assert len(hashes) == 2 * len(purposes)


def test_a_wrapped_key_opens_and_is_never_wrapped_alike(keys: Keys) -> None:
    secret = os.urandom(32)
    first, second = keys.wrap(secret), keys.wrap(secret)
    assert keys.unwrap(first) == keys.unwrap(second) == secret
    assert first != second
    assert secret not in first


def test_every_changed_byte_of_a_wrapped_key_is_noticed(keys: Keys) -> None:
    wrapped = keys.wrap(os.urandom(32))
    for place in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(IntegrityError, match="wrong master key, or the wrapped key is damaged"):
            keys.unwrap(bytes(changed))
    for cut in (b"", wrapped[:5], wrapped[:-1], wrapped + b"x"):
        with pytest.raises(IntegrityError, match="wrong master key"):
            keys.unwrap(cut)
    for other in (wrapped.hex(), 7, None):
        with pytest.raises(IntegrityError, match="wrong master key"):
            keys.unwrap(other)  # type: ignore[arg-type]


def test_a_wrong_master_key_is_said_by_its_public_name(keys: Keys) -> None:
    other = with_master(keys, bytes(32))
    keys.expect(keys.fingerprint)
    with pytest.raises(IntegrityError, match=f"{keys.fingerprint}, and {other.fingerprint} was"):
        other.expect(keys.fingerprint)
    with pytest.raises(IntegrityError, match=other.fingerprint):
        other.unwrap(keys.wrap(b"x"))


def test_repr_shows_no_secret(keys: Keys) -> None:
    shown = f"{keys!r} {keys}"
    assert keys.fingerprint in shown
    assert keys.master.hex() not in shown
    assert base64.b64encode(keys.master).decode() not in shown
    assert repr(keys.master) not in shown


def test_saved_keys_are_opened_again(keys: Keys, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "keys"
    keys.save(folder)
    again = Keys.open(folder)
    assert (again.master, again.public) == (keys.master, keys.public)
    assert keys.signing is not None
    assert again.signing is not None
    assert again.signing.private_bytes_raw() == keys.signing.private_bytes_raw()
    assert again.key_id == key_id(keys.public)
    assert sorted(path.name for path in folder.iterdir()) == [
        "master.key", "signing.pem", "signing.pub",
    ]  # fmt: skip


def test_only_the_owner_can_read_what_was_saved(keys: Keys, tmp_path: Path) -> None:
    keys.save(tmp_path / "keys")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_keys_are_never_replaced(keys: Keys, tmp_path: Path) -> None:
    keys.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ExpungeError, match="holds keys already"):
        Keys.generate().save(tmp_path)
    (tmp_path / "master.key").unlink()
    with pytest.raises(ExpungeError, match="holds keys already"):
        Keys.generate().save(tmp_path)
    del before[tmp_path / "master.key"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_leaves_no_key(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(_: int) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExpungeError, match="No space left on device"):
        keys.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_comes_before_the_folder(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.save(tmp_path / "folder")
    given = Keys.generate()
    given.save(tmp_path / "given")
    monkeypatch.setenv(MASTER, base64.b64encode(given.master).decode())
    opened = Keys.open(tmp_path / "folder")
    assert (opened.master, opened.public) == (given.master, keys.public)
    monkeypatch.setenv(SIGNING_FILE, str(tmp_path / "given" / "signing.pem"))
    assert Keys.open(None).public == given.public
    monkeypatch.delenv(MASTER)
    monkeypatch.setenv(MASTER_FILE, str(tmp_path / "given" / "master.key"))
    assert Keys.open(None).fingerprint == given.fingerprint
    monkeypatch.setenv(MASTER, "x")
    with pytest.raises(ExpungeError, match="both set"):
        Keys.open(None)


def test_a_folder_without_the_private_key_only_checks(keys: Keys, tmp_path: Path) -> None:
    keys.save(tmp_path)
    (tmp_path / "signing.pem").unlink()
    opened = Keys.open(tmp_path)
    assert opened.signing is None
    assert opened.public == keys.public
    opened.save(tmp_path / "reader")
    assert Keys.open(tmp_path / "reader").signing is None


def test_the_public_file_is_made_from_the_private_key_where_it_lacks(
    keys: Keys, tmp_path: Path
) -> None:
    keys.save(tmp_path)
    (tmp_path / "signing.pub").unlink()
    assert Keys.open(tmp_path).public == keys.public


@pytest.mark.parametrize("name", ["master.key", "signing.pem"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_may_read_is_refused(
    keys: Keys, tmp_path: Path, name: str, mode: int
) -> None:
    keys.save(tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(ExpungeError, match=f"mode {mode:04o}.*chmod 600"):
        Keys.open(tmp_path)


def pem(key: Ed25519PrivateKey, password: bytes | None) -> bytes:
    sealed = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("master.key", b"", "holds no master key"),
        ("master.key", base64.b64encode(bytes(31)), "holds no master key"),
        ("master.key", b"\xff" * 44, "holds no master key"),
        ("master.key", b"!" + base64.b64encode(bytes(32)), "holds no master key"),
        ("signing.pem", b"no pem", "no Ed25519 private key"),
        ("signing.pem", pem(Ed25519PrivateKey.generate(), b"secret"), "without a password"),
        (
            "signing.pem",
            generate_private_key(SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "no Ed25519 private key",
        ),
        ("signing.pem", pem(Ed25519PrivateKey.generate(), None), "are not a pair"),
        ("signing.pub", b"no pem", "no Ed25519 public key"),
        (
            "signing.pub",
            generate_private_key(SECP256R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "no Ed25519 public key",
        ),
    ],
)
def test_a_file_that_is_no_such_key_is_refused(
    keys: Keys, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    keys.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=said):
        Keys.open(tmp_path)


def test_a_missing_key_is_said_with_where_to_put_it(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match=f"set {MASTER} or {MASTER_FILE}"):
        Keys.open(None)
    with pytest.raises(ExpungeError, match=r"master key cannot be read from .*master\.key"):
        Keys.open(tmp_path)
    keys.save(tmp_path)
    (tmp_path / "signing.pem").unlink()
    (tmp_path / "signing.pub").unlink()
    with pytest.raises(ExpungeError, match=r"public key cannot be read from .*signing\.pub"):
        Keys.open(tmp_path)


def test_no_error_shows_the_value_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MASTER, "almost-a-secret")
    with pytest.raises(IntegrityError) as caught:
        Keys.open(None)
    assert "almost-a-secret" not in str(caught.value)
    monkeypatch.setenv(MASTER, base64.b64encode(bytes(32)).decode())
    with pytest.raises(ExpungeError, match=SIGNING_FILE):
        Keys.open(None)
