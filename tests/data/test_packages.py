"""Packages: what comes is what was pinned, or nothing is kept and one sentence says why."""

import errno
import io
import multiprocessing
import os
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.data import packages
from expunge.data.packages import AptIndex, Package, Registry, archive, archives, scratch, sha256
from expunge.errors import ExpungeError, IntegrityError

Client = Callable[[str], Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Puts a shell script in the place of npm, apt-get, apt-cache and pip; it logs its calls."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def put(script: str) -> Path:
        log = tmp_path / "calls"
        for name in ("npm", "apt-get", "apt-cache", "python"):
            program = path / name
            program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{script}\n')
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(packages.sys, "executable", str(path / "python"))  # type: ignore[attr-defined]
        return log

    return put


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """An npm archive as the registry would send it."""
    path = tmp_path / "published.tgz"
    with tarfile.open(path, "w:gz") as packed:
        fact = tarfile.TarInfo("package/fact.txt")
        fact.size = 4
        packed.addfile(fact, io.BytesIO(b"real"))
    return path


def package(path: Path, registry: Registry = Registry.NPM) -> Package:
    """The package pinned to a file."""
    return Package(registry, "facts", "1.0.0", "facts-1.0.0.tgz", sha256(path), 4, "MIT")


def test_what_was_pinned_is_kept_and_unpacked(
    cache: Path, client: Client, published: Path, tmp_path: Path
) -> None:
    log = client(f"cp {published} facts-1.0.0.tgz")
    wanted = package(published)
    kept = archive(wanted)
    assert kept == archives() / "facts-1.0.0.tgz" and kept.is_relative_to(cache)
    wanted.unpack(kept, tmp_path / "open")
    assert (tmp_path / "open/package/fact.txt").read_text() == "real"
    assert "pack facts@1.0.0" in log.read_text()


def test_a_kept_archive_is_not_fetched_again(cache: Path, client: Client, published: Path) -> None:
    log = client(f"cp {published} facts-1.0.0.tgz")
    archive(package(published))
    archive(package(published))
    assert len(log.read_text().splitlines()) == 1


def test_an_archive_put_there_by_hand_needs_no_client(
    cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    archives().mkdir(parents=True)
    (archives() / "facts-1.0.0.tgz").write_bytes(published.read_bytes())
    assert archive(package(published)).read_bytes() == published.read_bytes()


def test_another_hash_is_refused_and_nothing_is_kept_until_the_right_one_comes(
    cache: Path, client: Client, published: Path
) -> None:
    client("echo evil > facts-1.0.0.tgz")
    with pytest.raises(IntegrityError, match="nothing was kept") as caught:
        archive(package(published))
    assert sha256(published)[:16] in str(caught.value)
    assert [p for p in archives().iterdir() if not p.name.endswith(".lock")] == []
    client(f"cp {published} facts-1.0.0.tgz")
    assert archive(package(published)).exists()


def test_a_truncated_archive_in_the_cache_is_fetched_again(
    cache: Path, client: Client, published: Path
) -> None:
    log = client(f"cp {published} facts-1.0.0.tgz")
    kept = archive(package(published))
    kept.write_bytes(kept.read_bytes()[:20])
    assert archive(package(published)).read_bytes() == published.read_bytes()
    assert len(log.read_text().splitlines()) == 2


def test_verifying_removes_a_damaged_archive_and_says_so(
    cache: Path, client: Client, published: Path
) -> None:
    client(f"cp {published} facts-1.0.0.tgz")
    kept = archive(package(published))
    assert list(packages.verify([package(published)])) == []
    kept.write_bytes(b"cut")
    (said,) = packages.verify([package(published)])
    assert "facts-1.0.0.tgz" in said and "fetch again" in said
    assert not kept.exists()


def test_a_missing_client_is_named_with_the_way_round(
    cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ExpungeError, match="npm, which is not on this machine") as caught:
        archive(package(published))
    assert "facts-1.0.0.tgz" in str(caught.value) and str(archives()) in str(caught.value)


@pytest.mark.parametrize(
    ("registry", "said", "expected"),
    [
        (Registry.NPM, "npm error code ENOTFOUND", "ENOTFOUND"),
        (Registry.DEBIAN, "E: Unable to locate package facts", "apt-get update"),
        (Registry.PYPI, "ERROR: No matching distribution found for facts", "No matching"),
    ],
)
def test_a_client_that_fails_is_quoted_in_one_line(
    registry: Registry, said: str, expected: str, cache: Path, client: Client, published: Path
) -> None:
    client(f"echo noise; echo '{said}' >&2; echo more >&2; exit 1")
    with pytest.raises(ExpungeError, match=expected) as caught:
        archive(package(published, registry))
    assert "\n" not in str(caught.value) and "noise" not in str(caught.value)
    assert not (archives() / "facts-1.0.0.tgz").exists()


def test_a_client_that_brings_nothing_is_no_success(
    cache: Path, client: Client, published: Path
) -> None:
    client("exit 0")
    with pytest.raises(ExpungeError, match="0 files came"):
        archive(package(published))


def test_pip_must_compare_the_hash_before_it_runs_anything(
    cache: Path, client: Client, published: Path, tmp_path: Path
) -> None:
    log = client(
        f'for a in "$@"; do last=$a; case $a in *.txt) cp $a {tmp_path}/asked;; esac; done\n'
        f"cp {published} $last/facts-1.0.0.tgz"
    )
    archive(package(published, Registry.PYPI))
    assert "--require-hashes" in log.read_text() and "--no-deps" in log.read_text()
    assert (tmp_path / "asked").read_text() == f"facts==1.0.0 --hash=sha256:{sha256(published)}\n"


def test_what_builds_a_source_archive_may_run_no_setup_of_its_own(
    cache: Path, client: Client, published: Path
) -> None:
    log = client(f'for a in "$@"; do last=$a; done\ncp {published} $last/facts-1.0.0.tgz')
    archive(package(published, Registry.PYPI))
    assert "--only-binary :all: --no-binary facts" in log.read_text()


def test_a_hash_that_pip_refuses_is_a_fault_of_the_archive(
    cache: Path, client: Client, published: Path
) -> None:
    client("echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE FILE' >&2; exit 1")
    with pytest.raises(IntegrityError, match="another hash"):
        archive(package(published, Registry.PYPI))


@pytest.mark.parametrize("file", ["facts.whl", "facts.tgz", "facts.deb"])
def test_what_is_no_archive_is_refused(
    file: str, cache: Path, published: Path, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.write_bytes(b"no archive at all")
    (tmp_path / "open").mkdir()
    with pytest.raises(ExpungeError, match="facts"):
        replace(package(published), file=file).unpack(path, tmp_path / "open")


def test_a_damaged_debian_package_is_a_fault_of_the_archive_and_not_of_the_network(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "facts.deb"
    path.write_bytes(b"no archive at all")
    wanted = replace(package(published), file=path.name)
    with pytest.raises(IntegrityError, match=r"facts\.deb cannot be unpacked \(dpkg-deb: error"):
        wanted.unpack(path, tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ExpungeError, match="dpkg-deb, which is not on this machine; install dpkg"):
        wanted.unpack(path, tmp_path)


def test_an_archive_cannot_write_outside_its_folder(published: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.tgz"
    with tarfile.open(evil, "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("../escaped"), io.BytesIO())
    with pytest.raises(IntegrityError, match="cannot be unpacked"):
        package(published).unpack(evil, tmp_path / "open")
    wheel = tmp_path / "evil.whl"
    with zipfile.ZipFile(wheel, "w") as packed_wheel:
        packed_wheel.writestr("../escaped", "x")
    package(published).unpack(wheel, tmp_path / "open")
    assert not (tmp_path / "escaped").exists()


def test_a_full_disk_is_one_sentence_and_nothing_is_kept(
    cache: Path, client: Client, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client(f"cp {published} facts-1.0.0.tgz")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(packages.os, "replace", full)  # type: ignore[attr-defined]
        with pytest.raises(ExpungeError, match="is full"):
            archive(package(published))
    assert list((cache / "data/unfinished").iterdir()) == []
    assert archive(package(published)).exists()


def test_a_client_that_finds_the_disk_full_is_understood(
    cache: Path, client: Client, published: Path
) -> None:
    client("echo 'tar: Cannot write: No space left on device' >&2; exit 1")
    with pytest.raises(ExpungeError, match="is full"):
        archive(replace(package(published), size=2**62))
    with pytest.raises(ExpungeError, match="npm could not fetch"):  # another disk is full
        archive(replace(package(published), size=0))


def test_a_cache_that_may_not_be_written_is_said(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ExpungeError, match="EXPUNGE_CACHE"):
        archive(package(published))


def test_what_a_killed_process_left_is_cleared_after_a_day(cache: Path) -> None:
    old, new = cache / "data/unfinished/old", cache / "data/unfinished/new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    long_ago = time.time() - packages.ABANDONED - 60
    os.utime(old, (long_ago, long_ago))
    with scratch():
        assert not old.exists() and new.exists()


def _archive(wanted: Package) -> None:
    archive(wanted)


def test_two_processes_at_once_fetch_once(cache: Path, client: Client, published: Path) -> None:
    log = client(f"sleep 0.3; cp {published} facts-1.0.0.tgz")
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_archive, args=(package(published),)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(log.read_text().splitlines()) == 1


def test_the_index_of_apt_is_frozen_when_first_fetched(
    cache: Path, client: Client, tmp_path: Path
) -> None:
    client("echo 'Package: a'")
    kept = archive(AptIndex())
    client("echo 'Package: b'")
    assert archive(AptIndex()) == kept
    AptIndex().unpack(kept, tmp_path)
    assert (tmp_path / "index.txt").read_text() == "Package: a\n"


def test_an_empty_index_says_what_to_run(cache: Path, client: Client) -> None:
    client("exit 0")
    with pytest.raises(ExpungeError, match="apt-get update"):
        archive(AptIndex())
