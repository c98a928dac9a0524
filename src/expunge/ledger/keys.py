"""The keys of a ledger: a master key that wraps others, keys that names are hashed under, and a
signing key for certificates.

Sub-keys are derived per purpose (Krawczyk, Eronen 2010, HKDF, RFC 5869), names are hashed with
HMAC-SHA256 (RFC 2104) under keys that are stored wrapped, stored keys are wrapped with AES-GCM
(NIST SP 800-38D), and certificates are signed with Ed25519 (Josefsson, Liusvaara 2017, RFC 8032).
"""

import base64
import binascii
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger.canonical import sha256

MASTER, MASTER_FILE = "EXPUNGE_MASTER_KEY", "EXPUNGE_MASTER_KEY_FILE"
SIGNING_FILE = "EXPUNGE_SIGNING_KEY_FILE"
"""Environment variables; they come before the files of a folder."""
NEW_MASTER = "EXPUNGE_NEW_MASTER_KEY"
"""Environment: what the master key is changed to."""
MASTER_NAME, SIGNING_NAME, PUBLIC_NAME = "master.key", "signing.pem", "signing.pub"
"""Files of a folder of keys."""

LENGTH = 32
"""Bytes of the master key and of every key derived from it or wrapped by it."""
HASHED = ("idempotency", "row", "scope", "subject")
"""What names are hashed for; each has a key of its own."""
NONCE = 12
"""Bytes of a random AES-GCM nonce."""


@dataclass(frozen=True, repr=False, eq=False)
class Keys:
    """The secrets of one ledger; neither ``repr`` nor any error shows them.

    Attributes:
        master: 32 random bytes; without them no stored object can be read.
        signing: signs certificates; None where this process only reads.
        public: PEM (SubjectPublicKeyInfo) of the key that certificates are checked with.
        hashing: by purpose, the keys that names are hashed under. Of a ledger that keeps none yet
            they are derived from the master key.
    """

    master: bytes
    signing: Ed25519PrivateKey | None
    public: bytes
    hashing: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.master) != LENGTH:
            raise ExpungeError(
                f"A master key has {LENGTH} bytes, and {len(self.master)} were given; "
                "give the key that the ledger was made with."
            )
        public = public_key(self.public)
        if self.signing is not None and self.signing.public_key() != public:
            raise IntegrityError(
                "The signing key and the public key are not a pair; give the two files that were "
                "made together."
            )

    def __repr__(self) -> str:
        signs = "signs as" if self.signing else "checks"
        return f"Keys(master {self.fingerprint}, {signs} {self.key_id[:16]})"

    @classmethod
    def generate(cls) -> Self:
        """New random keys."""
        signing = Ed25519PrivateKey.generate()
        return cls(secrets.token_bytes(LENGTH), signing, _public_pem(signing))

    @classmethod
    def open(cls, folder: Path | None) -> Self:
        """The keys that the environment names, and those of a folder for what it does not name.

        Args:
            folder: holds ``master.key``, ``signing.pem`` and ``signing.pub``, or some of them.

        Raises:
            ExpungeError: a key is missing, cannot be read, or other users may read its file.
            IntegrityError: a file holds no such key, or the two signing files are not a pair.
        """
        master = _master(folder)
        path = os.environ.get(SIGNING_FILE)
        if path:
            signing = _signing(Path(path))
            return cls(master, signing, _public_pem(signing))
        if folder is None:
            raise ExpungeError(
                f"There is no signing key: set {SIGNING_FILE}, or give the folder that holds "
                f"{SIGNING_NAME} or {PUBLIC_NAME}."
            )
        secret, public = folder / SIGNING_NAME, folder / PUBLIC_NAME
        found = _signing(secret) if os.access(secret, os.F_OK) else None
        if found is not None and not os.access(public, os.F_OK):
            return cls(master, found, _public_pem(found))
        return cls(master, found, _read(public, "public key"))

    def save(self, folder: Path) -> None:
        """Write the keys to a folder that has none; files 0600, the folder 0700.

        Raises:
            ExpungeError: a key is there already (a lost master key cannot be made again, so
                nothing is replaced), or the folder cannot be written.
        """
        files = {MASTER_NAME: base64.b64encode(self.master) + b"\n"}
        if self.signing is not None:
            files[SIGNING_NAME] = self.signing.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
        files[PUBLIC_NAME] = self.public
        written: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            for name, content in files.items():
                _write_new(folder / name, content)
                written.append(folder / name)
        except BaseException as error:
            for path in written:
                path.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise ExpungeError(
                    f"{folder} holds keys already, and keys are never replaced; give a new folder."
                ) from None
            if isinstance(error, OSError):
                raise ExpungeError(
                    f"The keys cannot be written to {folder} ({error.strerror}); give a folder "
                    "that can be written."
                ) from None
            raise

    @property
    def fingerprint(self) -> str:
        """The public name of the master key, 16 hexadecimal digits."""
        return hmac.digest(self._derived("fingerprint"), b"", "sha256").hex()[:16]

    @property
    def key_id(self) -> str:
        """The public name of the signing key."""
        return key_id(self.public)

    def expect(self, fingerprint: str) -> None:
        """Refuse a master key other than the one a ledger was made with.

        Raises:
            IntegrityError: the fingerprints differ.
        """
        if fingerprint != self.fingerprint:
            raise IntegrityError(
                f"The ledger was made with the master key {fingerprint}, and {self.fingerprint} "
                "was given; give the key that the ledger was made with."
            )

    def with_master(self, master: bytes) -> Self:
        """The same with another master key; names are hashed as before.

        Raises:
            ExpungeError: it has not as many bytes as a master key.
        """
        return replace(self, master=master, hashing=self.hash_keys())

    def with_hashing(self, keys: Mapping[str, bytes]) -> Self:
        """The same with stored keys that names are hashed under."""
        return replace(self, hashing=keys)

    def hash_keys(self) -> dict[str, bytes]:
        """The keys that names are hashed under, by purpose."""
        return {purpose: self._hash_key(purpose) for purpose in HASHED}

    def hashed(self, purpose: str, value: str) -> str:
        """A name that only a holder of the keys can compute or link, hexadecimal.

        Args:
            purpose: ``subject``, ``scope``, ``row`` or ``idempotency``; equal values have
                unrelated hashes under different purposes.
            value: compared byte by byte; no case or Unicode form is folded.
        """
        data = value.encode(errors="surrogatepass")
        return hmac.digest(self._hash_key(purpose), data, "sha256").hex()

    def wrap(self, key: bytes) -> bytes:
        """An object's key under the master key: nonce, ciphertext, tag."""
        nonce = secrets.token_bytes(NONCE)
        return nonce + AESGCM(self._derived("wrap")).encrypt(nonce, key, None)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The key that :meth:`wrap` was given.

        Raises:
            IntegrityError: another master key wrapped it, or it is damaged, or no bytes at all.
        """
        try:
            return AESGCM(self._derived("wrap")).decrypt(wrapped[:NONCE], wrapped[NONCE:], None)
        except (InvalidTag, TypeError, ValueError):
            raise IntegrityError(
                f"A wrapped key does not open with the master key {self.fingerprint}: this is the "
                "wrong master key, or the wrapped key is damaged; give the key that the ledger was "
                "made with, or restore the ledger."
            ) from None

    def _hash_key(self, purpose: str) -> bytes:
        return self.hashing.get(purpose) or self._derived(f"hash/{purpose}")

    def _derived(self, purpose: str) -> bytes:
        info = f"expunge/ledger/1/{purpose}".encode()
        return HKDF(algorithm=SHA256(), length=LENGTH, salt=None, info=info).derive(self.master)


def fresh_hash_keys() -> dict[str, bytes]:
    """New random keys to hash names under, by purpose."""
    return {purpose: secrets.token_bytes(LENGTH) for purpose in HASHED}


def new_master(path: Path | None) -> bytes:
    """What the master key is changed to: of a file, which is made where there is none, or of the
    environment.

    Raises:
        ExpungeError: none is given, or the file cannot be read or made.
        IntegrityError: what is there is no master key.
    """
    text = os.environ.get(NEW_MASTER)
    if path is None:
        if not text:
            raise ExpungeError(
                f"No new master key was given; give --new-key-file FILE, which is made where there "
                f"is none, or set {NEW_MASTER}."
            )
        return _decoded(text.encode(errors="surrogateescape"), NEW_MASTER)
    if text:
        raise ExpungeError(f"{NEW_MASTER} and --new-key-file are both given; give one of them.")
    if os.path.lexists(path):
        return _decoded(_read_secret(path, "new master key"), str(path))
    made = secrets.token_bytes(LENGTH)
    try:
        _write_new(path, base64.b64encode(made) + b"\n")
    except OSError as error:
        raise ExpungeError(
            f"The new master key cannot be written to {path} ({error.strerror}); give a file in a "
            "folder that can be written."
        ) from None
    return made


def public_key(pem: bytes) -> Ed25519PublicKey:
    """The key in a PEM file.

    Raises:
        IntegrityError: it is no PEM, or another sort of key.
    """
    try:
        key = load_pem_public_key(pem)
    except Exception:  # the library raises many kinds, some of its own
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise IntegrityError(
            f"This is no Ed25519 public key in PEM; give the {PUBLIC_NAME} of the ledger."
        )
    return key


def key_id(public: bytes) -> str:
    """The name of a public key (PEM): SHA-256 of its DER form, hexadecimal.

    Raises:
        IntegrityError: it is no Ed25519 public key.
    """
    der = public_key(public).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(der)


def _public_pem(signing: Ed25519PrivateKey) -> bytes:
    return signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _master(folder: Path | None) -> bytes:
    """The master key: from the environment, a file that it names, or the folder."""
    text, named = os.environ.get(MASTER), os.environ.get(MASTER_FILE)
    if text and named:
        raise ExpungeError(f"{MASTER} and {MASTER_FILE} are both set; set one of them.")
    if text:
        return _decoded(text.encode(errors="surrogateescape"), MASTER)
    if named:
        path = Path(named)
    elif folder is not None:
        path = folder / MASTER_NAME
    else:
        raise ExpungeError(
            f"There is no master key: set {MASTER} or {MASTER_FILE}, or give the folder that holds "
            f"{MASTER_NAME}."
        )
    return _decoded(_read_secret(path, "master key"), str(path))


def _decoded(text: bytes, origin: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != LENGTH:
        raise IntegrityError(
            f"{origin} holds no master key: expected the base64 text of {LENGTH} bytes; give the "
            "key that the ledger was made with."
        )
    return key


def _signing(path: Path) -> Ed25519PrivateKey:
    content = _read_secret(path, "signing key")
    try:
        key = load_pem_private_key(content, password=None)
    except Exception:  # the library raises many kinds, and some show what they read
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise IntegrityError(
            f"{path} holds no Ed25519 private key in PEM without a password; give the "
            f"{SIGNING_NAME} of the ledger."
        )
    return key


def _read_secret(path: Path, what: str) -> bytes:
    """A file's content, where only its owner may read it."""
    content = _read(path, what)
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise ExpungeError(
            f"{path} holds the {what} and other users may read it (mode {mode:04o}); "
            f"run: chmod 600 {path}."
        )
    return content


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExpungeError(
            f"The {what} cannot be read from {path} ({error.strerror}); give the file that was "
            "made with the ledger."
        ) from None


def _write_new(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole or not at all, and never over another."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.link(partial, path)  # fails where a file of that name is, which a rename would replace
    finally:
        partial.unlink(missing_ok=True)
