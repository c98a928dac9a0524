"""Encrypted, content-addressed objects in a folder or a bucket.

Every object has a random key of its own, wrapped by the master key, so that destroying the wrapped
key makes every copy of the object unreadable. Content is encrypted with AES-256-GCM (NIST SP
800-38D) in chunks, each bound to its number, to whether it is the last and to the object's kind:
Hoang, Reyhanitabar, Rogaway, Vizár 2015, Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance (the STREAM construction).
"""

import errno
import hashlib
import os
import re
import secrets
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol
from urllib.parse import unquote

import fsspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.ledger.canonical import sha256
from expunge.ledger.keys import Keys
from expunge.ledger.locks import locked
from expunge.ledger.refusals import UnavailableError

CHUNK = 16 * 2**20
"""Bytes of content per chunk of a new object; a stored object names its own."""
LARGEST_CHUNK = 64 * 2**20
"""Bytes of the largest chunk that is read: a damaged header must not ask for all memory."""
TAG = 16
"""Bytes that AES-GCM adds to a chunk."""
PART, PARTS, UPLOADS = 16 * 2**20, 10_000, 4
"""Bytes of a part of an upload to a bucket, the most parts that S3 takes, parts sent at once."""

HEADER = struct.Struct(">7sBI8s")
MAGIC, VERSION = b"expunge", 1
"""An object opens with these, its chunk size and the first 8 bytes of every nonce."""

ADDRESS = re.compile("[0-9a-f]{64}")
MARK = "ledger"
"""File of a vault that names the ledger whose objects they are."""
STAGED = ".staged"
"""Folder, inside a vault in a folder, of objects that are still being written."""


@dataclass(frozen=True)
class Stored:
    """What the ledger keeps of one object.

    Attributes:
        address: SHA-256 of the encrypted bytes, hexadecimal.
        kind: what the object is, for example ``history``; it opens as this kind only.
        size: bytes of the content.
        wrapped_key: the object's key under the master key.
    """

    address: str
    kind: str
    size: int
    wrapped_key: bytes = field(repr=False)

    @property
    def key_digest(self) -> str:
        """SHA-256 of the wrapped key: what the chain holds in its place."""
        return sha256(self.wrapped_key)


class Readable(Protocol):
    """Bytes in order: ``read`` gives as many as asked for, fewer only at the end."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        ...


class Store(Protocol):
    """Where the encrypted bytes lie."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What is raised when it is full, read-only or out of reach."""
        ...

    @property
    def staging(self) -> Path:
        """A folder of this machine where an object is encrypted before it is kept."""
        ...

    def keep(self, staged: Path, path: str) -> None:
        """Make a finished file an object, at once and durably."""
        ...

    def reading(self, path: str) -> AbstractContextManager[Readable]:
        """Open an object; FileNotFoundError where there is none."""
        ...

    def remove(self, path: str) -> None:
        """Delete an object; none is fine."""
        ...

    def paths(self) -> Iterator[str]:
        """Paths of all files, ``/`` between the parts."""
        ...


class Vault:
    """Encrypted objects at a URL; nothing is touched before the first object.

    Args:
        url: a folder, ``file:///folder``, ``s3://bucket/prefix`` (credentials and endpoint from
            the environment, as for the AWS command line), or ``memory://name`` (one process).
        keys: wrap the keys of the objects.

    Raises:
        ExpungeError: no such sort of URL, or the library for it is not installed.
    """

    def __init__(self, url: str, keys: Keys) -> None:
        self.url, self.keys = url, keys
        self._store = _store(url)

    def __repr__(self) -> str:
        return f"Vault({self.url!r}, {self.keys!r})"

    def claim(self, owner: str) -> None:
        """Mark the vault as a ledger's, or refuse one that is another's: its garbage is not ours.

        Raises:
            IntegrityError: the mark is another ledger's.
            ExpungeError: the vault is read-only or out of reach.
        """
        with self._reaching("written"):
            try:
                with self._store.reading(MARK) as source:
                    found = source.read(CHUNK).decode(errors="replace").strip()
            except FileNotFoundError:
                found = ""
            except NotADirectoryError:  # nothing was ever stored in this folder
                found = ""
            if not found:
                self._store.staging.mkdir(parents=True, exist_ok=True)
                staged = self._store.staging / f"expunge-{secrets.token_hex(16)}.partial"
                staged.write_text(owner + "\n", encoding="utf-8")
                self._store.keep(staged, MARK)
                staged.unlink(missing_ok=True)
                return
        if found != owner:
            raise IntegrityError(
                f"The objects in {self.url} are those of another ledger, and nothing of them is "
                "touched; give this ledger a folder or a prefix of its own."
            )

    def put(self, data: bytes, kind: str) -> Stored:
        """Encrypt and store some bytes; the same bytes twice are two objects.

        Raises:
            ExpungeError: the vault is full, read-only or out of reach; nothing is left of it.
        """
        return self._put(_chunks(BytesIO(data), CHUNK), kind)

    def put_file(self, path: Path, kind: str) -> Stored:
        """Encrypt and store a file, chunk by chunk.

        Raises:
            ExpungeError: the file cannot be read, or as :meth:`put`.
        """
        return self._put(_file_chunks(path), kind)

    def get(self, stored: Stored) -> bytes:
        """The content of an object.

        Raises:
            IntegrityError: it is missing or changed, or key, kind or size are another object's.
            ExpungeError: the vault is out of reach.
        """
        return b"".join(self._contents(stored))

    def get_file(self, stored: Stored, path: Path) -> None:
        """Write the content of an object to a file, chunk by chunk, whole or not at all.

        The file has mode 0600: what was encrypted is not for other users.

        Raises:
            IntegrityError: as :meth:`get`; ``path`` is then as it was.
            ExpungeError: the vault is out of reach, or ``path`` cannot be written.
        """
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        with _said(f"{path} cannot be written", "give a path that can be written", OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "wb") as sink:
                    for content in self._contents(stored):
                        sink.write(content)
                    _flush(sink)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)

    def check(self, address: str) -> None:
        """Hash the stored bytes again; this needs no key.

        Raises:
            IntegrityError: the object is missing, or its bytes are not those that were written.
            ExpungeError: the vault is out of reach.
        """
        with self._reading(address) as source:
            while source.read(CHUNK):
                pass
        _match(address, source)

    def destroy(self, address: str) -> None:
        """Delete the stored bytes; an object that is gone already is fine.

        A local file is overwritten first. A copying file system, a backup or a bucket that keeps
        versions may undo that: what makes every copy unreadable is that the wrapped key goes as
        well, and to delete it is the ledger's part.

        Raises:
            ExpungeError: the vault is read-only or out of reach; the object may still be there.
        """
        with self._reaching("written"):
            self._store.remove(_path(address))

    def addresses(self) -> Iterator[str]:
        """Addresses of all objects, in no order; their bytes are not read.

        Raises:
            ExpungeError: the vault is out of reach.
        """
        with self._reaching("read"):
            for path in self._store.paths():
                name = path.rpartition("/")[2]
                if ADDRESS.fullmatch(name) and path == _path(name):
                    yield name

    def sweep(self, older_than: float) -> int:
        """Delete what killed processes left half written on this machine; returns how many files.

        A file that its writer holds is left, however long that takes.

        Args:
            older_than: seconds since a file was last written; longer than any upload of an earlier
                version, which did not hold it, takes.
        """
        swept = 0
        with self._reaching("written"):
            for staged in self._store.staging.glob("expunge-*.partial"):
                with (
                    suppress(FileNotFoundError, PermissionError),  # its writer finished; another's
                    open(staged, "rb") as file,
                ):
                    old = time.time() - staged.stat().st_mtime >= older_than
                    if old and locked(file.fileno()):
                        staged.unlink()
                        swept += 1
        return swept

    def _put(self, chunks: Iterator["_Chunk"], kind: str) -> Stored:
        key = AESGCM.generate_key(256)
        with self._reaching("written"):
            self._store.staging.mkdir(parents=True, exist_ok=True)
            staged = self._store.staging / f"expunge-{secrets.token_hex(16)}.partial"
            try:
                with open(staged, "xb") as sink:
                    locked(sink.fileno())  # as long as it is open: nobody sweeps it
                    address, size = _encrypt(chunks, sink, key, kind)
                    _flush(sink)
                    self._store.keep(staged, _path(address))
            finally:
                staged.unlink(missing_ok=True)
        return Stored(address, kind, size, self.keys.wrap(key))

    def _contents(self, stored: Stored) -> Iterator[bytes]:
        """The content in chunks; it is the object's only once all of them were taken."""
        try:
            key = self.keys.unwrap(stored.wrapped_key)
        except IntegrityError as error:
            raise IntegrityError(f"The object {stored.address} cannot be opened: {error}") from None
        size = 0
        with self._reading(stored.address) as source:
            try:
                for content in _decrypt(source, key, stored.kind):
                    size += len(content)
                    yield content
            except InvalidTag:
                self.check(stored.address)  # where the bytes are the reason, that is what is said
                raise IntegrityError(
                    f"The object {stored.address} does not open as {stored.kind!r}: its bytes are "
                    "those that were written, so the kind or the key is another object's; restore "
                    "the ledger from a backup."
                ) from None
        _match(stored.address, source)
        if size != stored.size:
            raise IntegrityError(
                f"The object {stored.address} has {size} bytes, and {stored.size} were recorded; "
                "restore the ledger from a backup."
            )

    @contextmanager
    def _reading(self, address: str) -> Iterator["_Hashed"]:
        """An open object; what fails while it is read is said of the vault."""
        with self._reaching("read"):
            try:
                with self._store.reading(_path(address)) as raw:
                    yield _Hashed(raw)
            except FileNotFoundError:
                raise IntegrityError(
                    f"There is no object {address} in the vault {self.url}; restore it from a "
                    "backup."
                ) from None

    def _reaching(self, verb: str) -> AbstractContextManager[None]:
        then = "see that it is there, has space and lets this user in, then run the same again"
        return _said(f"The vault {self.url} cannot be {verb}", then, *self._store.failures)


@dataclass(frozen=True)
class Folder:
    """Objects as files of a folder of this machine."""

    root: Path
    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    _durable: set[Path] = field(default_factory=set, repr=False, compare=False)
    """Folders whose own names this process flushed: that costs time and is needed once."""

    @property
    def staging(self) -> Path:
        """Inside the folder, so that a finished file only has to be renamed."""
        return self.root / STAGED

    def keep(self, staged: Path, path: str) -> None:
        """Rename, and make the new names durable."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, target)
        _flush_folder(target.parent)
        for folder in (target.parent, target.parent.parent):
            if folder not in self._durable:
                _flush_folder(folder.parent)
                self._durable.add(folder)

    @contextmanager
    def reading(self, path: str) -> Iterator[Readable]:
        """Open the file; a folder that is not there at all (not mounted) is another failure."""
        if not self.root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "there is no such folder")
        with open(self.root / path, "rb") as handle:
            yield handle

    def remove(self, path: str) -> None:
        """Overwrite where that is possible, and delete."""
        target = self.root / path
        with suppress(OSError):  # what counts is that it goes, which is said below
            _overwrite(target)
        with suppress(FileNotFoundError):
            target.unlink()
            _flush_folder(target.parent)

    def paths(self) -> Iterator[str]:
        """All files; none where nothing was ever stored."""
        if self.root.exists():
            for folder, _, names in os.walk(self.root, onerror=_raise):
                yield from (
                    (Path(folder) / name).relative_to(self.root).as_posix() for name in names
                )


@dataclass(frozen=True)
class Remote:
    """Objects in a file system that fsspec reaches.

    Attributes:
        protocol: fsspec's name of it.
        root: bucket and prefix.
        failures: what its library raises.
    """

    protocol: str
    root: str
    failures: tuple[type[Exception], ...]

    @property
    def staging(self) -> Path:
        """The temporary folder: what lies there is encrypted already."""
        return Path(tempfile.gettempdir())

    def keep(self, staged: Path, path: str) -> None:
        """One upload, which a bucket shows when it is complete."""
        part = max(PART, -(-staged.stat().st_size // PARTS))
        bounded = {"chunksize": part, "max_concurrency": UPLOADS} if self.protocol == "s3" else {}
        self._files.put_file(str(staged), self._at(path), **bounded)

    @contextmanager
    def reading(self, path: str) -> Iterator[Readable]:
        """Read by ranges: no more than one chunk is in memory."""
        yield _Ranges(self._files, self._at(path), int(self._files.size(self._at(path))))

    def remove(self, path: str) -> None:
        """Delete the object."""
        with suppress(FileNotFoundError):
            self._files.rm_file(self._at(path))

    def paths(self) -> Iterator[str]:
        """All objects below the root."""
        prefix = self._files._strip_protocol(self.root) + "/"
        for found in self._files.find(self.root):
            yield found.removeprefix(prefix)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"

    @property
    def _files(self) -> Any:
        """The file system; fsspec keeps one per process, which a forked process must not share."""
        return fsspec.filesystem(self.protocol, use_listings_cache=False)


def _store(url: str) -> Store:
    """The store that a URL names."""
    protocol, separator, rest = url.partition("://")
    if not separator:
        return Folder(Path(url).absolute())
    if protocol == "file" and rest.startswith("/"):
        return Folder(Path(unquote(rest)))
    if protocol == "memory":
        return Remote("memory", f"/{rest.strip('/')}", (OSError,))
    if protocol == "s3" and rest.strip("/") and "@" not in rest.partition("/")[0]:
        return Remote("s3", rest.strip("/"), _s3_failures())
    raise ExpungeError(
        f"The vault is at a URL that begins with {protocol}://, and that cannot be used as it is; "
        "give a folder, file:///folder, or s3://bucket/prefix with the credentials in the "
        "environment."
    )


def _s3_failures() -> tuple[type[Exception], ...]:
    try:
        import s3fs  # noqa: F401
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise ExpungeError(
            "A vault at s3:// needs the library s3fs, which is not installed; run: "
            "pip install 'expunge[s3]'."
        ) from None
    return (OSError, BotoCoreError, ClientError)


class _Ranges:
    """A remote object as bytes in order, one request per read."""

    def __init__(self, files: Any, path: str, size: int) -> None:
        self.files, self.path, self.size, self.at = files, path, size, 0

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        start, self.at = self.at, min(self.at + size, self.size)
        if start == self.at:
            return b""
        data: bytes = self.files.cat_file(self.path, start=start, end=self.at)
        return data


class _Hashed:
    """Bytes in order, and the SHA-256 of those that were read."""

    def __init__(self, raw: Readable) -> None:
        self.raw, self.sha = raw, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data = self.raw.read(size)
        self.sha.update(data)
        return data


@dataclass(frozen=True)
class _Chunk:
    """A piece of an object, its place, and whether it is the last."""

    number: int
    data: bytes
    last: bool


def _chunks(source: Readable, size: int) -> Iterator[_Chunk]:
    """Pieces of a size; nothing at all is one empty piece."""
    number, data = 0, source.read(size)
    while True:
        following = source.read(size) if len(data) == size else b""
        yield _Chunk(number, data, not following)
        if not following:
            return
        number, data = number + 1, following


def _file_chunks(path: Path) -> Iterator[_Chunk]:
    with (
        _said(f"{path} cannot be read", "give a file that can be read", OSError),
        open(path, "rb") as source,
    ):
        yield from _chunks(source, CHUNK)


def _encrypt(chunks: Iterator[_Chunk], sink: BinaryIO, key: bytes, kind: str) -> tuple[str, int]:
    """Write an object; its address and the bytes of its content."""
    prefix = secrets.token_bytes(8)
    header = HEADER.pack(MAGIC, VERSION, CHUNK, prefix)
    cipher, sha, size = AESGCM(key), hashlib.sha256(header), 0
    sink.write(header)
    for chunk in chunks:
        sealed = cipher.encrypt(_nonce(prefix, chunk), chunk.data, _bound(header, chunk, kind))
        sha.update(sealed)
        sink.write(sealed)
        size += len(chunk.data)
    return sha.hexdigest(), size


def _decrypt(source: Readable, key: bytes, kind: str) -> Iterator[bytes]:
    """The content of an object in chunks; InvalidTag where anything is not as it was written."""
    header = source.read(HEADER.size)
    if len(header) < HEADER.size:
        raise InvalidTag
    magic, version, size, prefix = HEADER.unpack(header)
    if (magic, version) != (MAGIC, VERSION) or not 0 < size <= LARGEST_CHUNK:
        raise InvalidTag
    cipher = AESGCM(key)
    for chunk in _chunks(source, size + TAG):
        yield cipher.decrypt(_nonce(prefix, chunk), chunk.data, _bound(header, chunk, kind))


def _nonce(prefix: bytes, chunk: _Chunk) -> bytes:
    """12 bytes, never twice under one key."""
    return prefix + chunk.number.to_bytes(4)


def _bound(header: bytes, chunk: _Chunk, kind: str) -> bytes:
    """What a chunk is authenticated with: moving, cutting or relabelling it is noticed."""
    return header + chunk.number.to_bytes(4) + bytes([chunk.last]) + kind.encode()


def _match(address: str, source: _Hashed) -> None:
    found = source.sha.hexdigest()
    if found != address:
        raise IntegrityError(
            f"The stored bytes of the object {address} are not those that were written (their "
            f"SHA-256 is {found}); restore it from a backup."
        )


def _path(address: str) -> str:
    """Where an object lies below the root of its store."""
    if not ADDRESS.fullmatch(address):
        raise IntegrityError(
            f"{address!r} is no address of an object: expected 64 hexadecimal digits; restore the "
            "ledger from a backup."
        )
    return f"{address[:2]}/{address[2:4]}/{address}"


@contextmanager
def _said(what: str, then: str, *failures: type[Exception]) -> Iterator[None]:
    """Say in one sentence what failed, why, and what to do."""
    try:
        yield
    except failures as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UnavailableError(f"{what} ({reason}); {then}.") from None


def _flush(handle: BinaryIO) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _overwrite(path: Path) -> None:
    with open(path, "r+b") as handle:
        left = path.stat().st_size
        while left > 0:
            left -= handle.write(bytes(min(left, 2**20)))
        _flush(handle)


def _raise(error: OSError) -> None:
    raise error
