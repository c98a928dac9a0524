"""Encrypted objects: in a folder, in memory and in a bucket, and every way to damage them."""

import base64
import errno
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from expunge.errors import ExpungeError, IntegrityError
from expunge.ledger import vault as vault_module
from expunge.ledger.keys import Keys
from expunge.ledger.vault import HEADER, Stored, Vault

SMALL = 64
"""Bytes of a chunk in these tests, so that a short object has several."""
CONTENT = bytes(range(256)) * 2 + b"end"


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys.generate()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "CHUNK", SMALL)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a server of this process, on a free port of the loopback interface."""
    s3fs = pytest.importorskip("s3fs", reason="a vault in a bucket needs s3fs")
    server_module = pytest.importorskip("moto.server", reason="the test bucket needs moto[server]")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("NO_PROXY", host)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("expunge-test")
        yield "s3://expunge-test"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "vault")
    if request.param == "memory":
        return f"memory://{uuid4().hex}"
    return f"{request.getfixturevalue('bucket')}/{uuid4().hex}"


@pytest.fixture
def vault(url: str, keys: Keys) -> Vault:
    return Vault(url, keys)


def place(vault: Vault, address: str) -> tuple[Any, str]:
    """The file system and the path of an object, for a test that damages it."""
    path = f"{vault.url}/{address[:2]}/{address[2:4]}/{address}"
    files, path = fsspec.core.url_to_fs(path)
    return files, path


def stored_bytes(vault: Vault, stored: Stored) -> bytes:
    files, path = place(vault, stored.address)
    data: bytes = files.cat_file(path)
    return data


def damage(vault: Vault, stored: Stored, data: bytes) -> None:
    files, path = place(vault, stored.address)
    files.pipe_file(path, data)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


SIZES = (0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL)


@pytest.mark.parametrize(
    ("url", "size"),
    [*((store, size) for store in ("folder", "memory") for size in SIZES), ("s3", 0), ("s3", 300)],
    indirect=["url"],
)
def test_what_was_put_is_what_is_got(vault: Vault, size: int) -> None:
    data = CONTENT[:size]
    stored = vault.put(data, "history")
    assert vault.get(stored) == data
    assert (stored.kind, stored.size) == ("history", size)
    vault.check(stored.address)
    assert list(vault.addresses()) == [stored.address]


def test_a_file_is_stored_and_comes_back(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(CONTENT)
    stored = vault.put_file(tmp_path / "given", "delta")
    vault.get_file(stored, tmp_path / "new" / "got")
    assert (tmp_path / "new" / "got").read_bytes() == CONTENT == vault.get(stored)
    assert (tmp_path / "new" / "got").stat().st_mode & 0o777 == 0o600
    vault.get_file(stored, tmp_path / "given")
    assert sorted(path.name for path in files_below(tmp_path / "new")) == ["got"]


def test_the_same_data_twice_are_two_objects_that_show_nothing(vault: Vault) -> None:
    first, second = vault.put(CONTENT, "scope"), vault.put(CONTENT, "scope")
    assert first.address != second.address
    assert first.key_digest != second.key_digest
    assert sorted(vault.addresses()) == sorted([first.address, second.address])
    assert CONTENT[:8] not in stored_bytes(vault, first)
    vault.destroy(first.address)
    assert vault.get(second) == CONTENT


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_every_changed_byte_is_noticed(vault: Vault) -> None:
    stored = vault.put(CONTENT[: 2 * SMALL + 5], "scope")
    whole = stored_bytes(vault, stored)
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 1
        damage(vault, stored, bytes(damaged))
        with pytest.raises(IntegrityError, match=f"object {stored.address} are not those"):
            vault.get(stored)
        with pytest.raises(IntegrityError, match=f"object {stored.address} are not those"):
            vault.check(stored.address)
    damage(vault, stored, whole)
    assert vault.get(stored) == CONTENT[: 2 * SMALL + 5]


SEALED = SMALL + vault_module.TAG
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "header": lambda whole: b"X" + whole[1:],
    "chunk size": lambda whole: whole[:8] + b"\xff" * 4 + whole[12:],
    "chunk size of none": lambda whole: whole[:8] + bytes(4) + whole[12:],
    "nonce": lambda whole: whole[:12] + bytes(8) + whole[20:],
    "a chunk": lambda whole: whole[:100] + bytes([whole[100] ^ 128]) + whole[101:],
    "last byte": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "last chunk gone": lambda whole: whole[: HEADER.size + 8 * SEALED],
    "one chunk left": lambda whole: whole[: HEADER.size + SEALED],
    "no chunk left": lambda whole: whole[: HEADER.size],
    "cut header": lambda whole: whole[:5],
    "nothing left": lambda whole: b"",
    "cut chunk": lambda whole: whole[:-1],
    "order": lambda whole: (
        whole[: HEADER.size]
        + whole[HEADER.size + SEALED : HEADER.size + 2 * SEALED]
        + whole[HEADER.size : HEADER.size + SEALED]
        + whole[HEADER.size + 2 * SEALED :]
    ),
    "a chunk twice": lambda whole: whole[: HEADER.size + SEALED] + whole[HEADER.size :],
    "appended byte": lambda whole: whole + b"\x00",
    "appended chunk": lambda whole: whole + whole[HEADER.size : HEADER.size + SEALED],
    "decrypted": lambda whole: CONTENT,
}


IN_A_BUCKET = ("last byte", "last chunk gone", "nothing left", "appended byte")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        *((store, name) for store in ("folder", "memory") for name in DAMAGES),
        *(("s3", name) for name in IN_A_BUCKET),
    ],
    indirect=["url"],
)
def test_damage_is_named_and_leaves_no_file(vault: Vault, tmp_path: Path, name: str) -> None:
    stored = vault.put(CONTENT, "scope")
    damage(vault, stored, DAMAGES[name](stored_bytes(vault, stored)))
    target = tmp_path / "out" / "got"
    target.parent.mkdir()
    target.write_bytes(b"before")
    for act in (
        lambda: vault.get(stored),
        lambda: vault.get_file(stored, target),
        lambda: vault.check(stored.address),
    ):
        with pytest.raises(IntegrityError, match=f"object {stored.address} are not those"):
            act()
    assert files_below(target.parent) == [target]
    assert target.read_bytes() == b"before"


@pytest.mark.parametrize("url", ["folder"], indirect=True)
@pytest.mark.parametrize("size", [SMALL, 2 * SMALL])
def test_the_tags_alone_notice_what_the_address_would(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Cut at a chunk, swapped or appended chunks: noticed without the hash of the whole."""
    stored = vault.put(CONTENT[: size + SMALL], "scope")
    whole = stored_bytes(vault, stored)
    monkeypatch.setattr(vault_module, "_match", lambda address, source: None)
    first = whole[HEADER.size : HEADER.size + SEALED]
    others = whole[HEADER.size + SEALED :]
    for damaged in (whole[:-SEALED], whole + first, whole[: HEADER.size] + others + first):
        damage(vault, stored, damaged)
        with pytest.raises(IntegrityError, match="does not open"):
            vault.get(stored)
    damage(vault, stored, whole)
    assert vault.get(stored) == CONTENT[: size + SMALL]


def test_another_kind_key_or_size_is_refused(vault: Vault) -> None:
    stored, other = vault.put(CONTENT, "scope"), vault.put(CONTENT, "scope")
    with pytest.raises(IntegrityError, match=f"{stored.address} does not open as 'history'"):
        vault.get(replace(stored, kind="history"))
    with pytest.raises(IntegrityError, match=f"{stored.address} does not open as 'scope'"):
        vault.get(replace(stored, wrapped_key=other.wrapped_key))
    with pytest.raises(IntegrityError, match=f"{stored.address} has 515 bytes, and 3 were"):
        vault.get(replace(stored, size=3))
    with pytest.raises(IntegrityError, match=f"{stored.address} cannot be opened"):
        vault.get(replace(stored, wrapped_key=b""))


def test_another_master_key_opens_nothing(vault: Vault) -> None:
    stored = vault.put(CONTENT, "scope")
    stranger = Vault(vault.url, Keys.generate())
    stranger.check(stored.address)
    with pytest.raises(IntegrityError, match=f"{stored.address} cannot be opened.*wrong master"):
        stranger.get(stored)


def test_one_object_in_the_place_of_another_is_noticed(vault: Vault) -> None:
    stored, other = vault.put(CONTENT, "scope"), vault.put(CONTENT, "scope")
    damage(vault, stored, stored_bytes(vault, other))
    with pytest.raises(IntegrityError, match=f"object {stored.address} are not those"):
        vault.get(stored)
    with pytest.raises(IntegrityError, match=f"object {stored.address} are not those"):
        vault.get(replace(stored, wrapped_key=other.wrapped_key))


def test_after_destroying_nothing_can_be_read(vault: Vault) -> None:
    stored = vault.put(CONTENT, "scope")
    vault.destroy(stored.address)
    vault.destroy(stored.address)
    for act in (lambda: vault.get(stored), lambda: vault.check(stored.address)):
        with pytest.raises(IntegrityError, match=f"no object {stored.address}"):
            act()
    assert list(vault.addresses()) == []
    with pytest.raises(FileNotFoundError):
        stored_bytes(vault, stored)


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_a_destroyed_file_is_overwritten_before_it_goes(vault: Vault, tmp_path: Path) -> None:
    stored = vault.put(CONTENT, "scope")
    _, path = place(vault, stored.address)
    os.link(path, tmp_path / "witness")
    vault.destroy(stored.address)
    assert (tmp_path / "witness").read_bytes() == bytes((tmp_path / "witness").stat().st_size)
    assert files_below(Path(vault.url)) == []


@pytest.mark.parametrize("address", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_an_address_is_a_path(vault: Vault, address: str) -> None:
    for act in (vault.check, vault.destroy):
        with pytest.raises(IntegrityError, match="no address of an object"):
            act(address)


def test_an_empty_vault_has_no_addresses_and_a_stray_file_is_none(vault: Vault) -> None:
    assert list(vault.addresses()) == []
    stored = vault.put(b"x", "scope")
    files, path = place(vault, stored.address)
    files.pipe_file(path[: -len(stored.address)] + "0" * 64, b"x")
    files.pipe_file(path + ".txt", b"x")
    assert list(vault.addresses()) == [stored.address]


class FullDisk:
    """A file that takes some bytes and then says that the disk is full."""

    def __init__(self, handle: Any, room: int) -> None:
        self.handle, self.room = handle, room

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.handle.write(data))

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handle, name)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full_open(path: Any, mode: str = "r") -> Any:
        handle = open(path, mode)  # noqa: SIM115 - closed by the wrapper
        return FullDisk(handle, 200) if mode in {"wb", "xb"} else handle

    monkeypatch.setattr(vault_module, "open", full_open, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_no_part_of_an_object(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(CONTENT)
    with pytest.raises(ExpungeError, match="No space left on device"):
        vault.put(CONTENT, "scope")
    with pytest.raises(ExpungeError, match="No space left on device"):
        vault.put_file(tmp_path / "given", "scope")
    assert list(vault.addresses()) == []
    assert files_below(tmp_path) == [tmp_path / "given"]


def test_a_full_disk_leaves_no_part_of_what_is_got(
    vault: Vault, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stored = vault.put(CONTENT, "scope")
    request.getfixturevalue("full_disk")
    with pytest.raises(ExpungeError, match="No space left on device"):
        vault.get_file(stored, tmp_path / "out" / "got")
    assert files_below(tmp_path / "out") == []


@pytest.mark.parametrize("url", ["folder"], indirect=True)
@pytest.mark.parametrize("step", ["mkdir", "fsync", "replace"])
def test_a_read_only_store_is_said_and_left_as_it_was(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stored = vault.put(CONTENT, "scope")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path if step == "mkdir" else os, step, refuse)
    with pytest.raises(ExpungeError, match=r"cannot be written \(Read-only file system\)"):
        vault.put(CONTENT, "scope")
    assert len(files_below(Path(vault.url))) == 1
    assert vault.get(stored) == CONTENT


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_what_cannot_be_deleted_is_said(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = vault.put(CONTENT, "scope")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ExpungeError, match=r"cannot be written \(Permission denied\)"):
        vault.destroy(stored.address)


def test_a_folder_that_is_not_there_is_no_missing_object(keys: Keys, tmp_path: Path) -> None:
    stored = Vault(str(tmp_path / "vault"), keys).put(CONTENT, "scope")
    (tmp_path / "vault").rename(tmp_path / "elsewhere")
    with pytest.raises(ExpungeError, match="there is no such folder"):
        Vault(str(tmp_path / "vault"), keys).get(stored)
    assert Vault((tmp_path / "elsewhere").as_uri(), keys).get(stored) == CONTENT
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExpungeError, match="file cannot be written"):
        Vault(str(tmp_path / "file"), keys).put(CONTENT, "scope")


def test_a_bucket_that_is_not_there_is_said(bucket: str, keys: Keys, tmp_path: Path) -> None:
    nowhere = Vault("s3://expunge-nowhere/x", keys)
    with pytest.raises(ExpungeError, match="vault s3://expunge-nowhere/x cannot be written"):
        nowhere.put(CONTENT, "scope")
    with pytest.raises(ExpungeError, match="vault s3://expunge-nowhere/x cannot be read"):
        list(nowhere.addresses())


def test_a_large_file_goes_to_a_bucket_in_parts(
    bucket: str, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 MiB is the smallest part that S3 takes."""
    for name in ("PART", "CHUNK"):
        monkeypatch.setattr(vault_module, name, 5 * 2**20)
    content = os.urandom(2**10) * 11 * 2**10
    (tmp_path / "given").write_bytes(content)
    vault = Vault(f"{bucket}/parts", keys)
    stored = vault.put_file(tmp_path / "given", "history")
    files, path = place(vault, stored.address)
    assert files.info(path)["ETag"].strip('"').endswith("-3")
    vault.get_file(stored, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content
    vault.check(stored.address)


def test_a_file_is_never_in_memory_as_a_whole(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk, size = 2**15, 2**22
    monkeypatch.setattr(vault_module, "CHUNK", chunk)
    (tmp_path / "given").write_bytes(bytes(size))
    (tmp_path / "small").write_bytes(bytes(chunk))
    vault = Vault(str(tmp_path / "vault"), keys)

    def through(name: str) -> None:
        stored = vault.put_file(tmp_path / name, "history")
        vault.get_file(stored, tmp_path / "got")
        vault.check(stored.address)

    through("small")  # what is imported on first use is not the file's
    tracemalloc.start()
    try:
        through("given")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "got").stat().st_size == size
    assert peak < 8 * chunk


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_an_object_keeps_the_chunk_size_it_was_written_with(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = vault.put(CONTENT, "scope")
    monkeypatch.setattr(vault_module, "CHUNK", 7)
    assert vault.get(stored) == CONTENT


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_a_file_that_cannot_be_read_is_said_and_nothing_stored(
    vault: Vault, tmp_path: Path
) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ExpungeError, match=f"{path} cannot be read"):
            vault.put_file(path, "scope")
    assert list(vault.addresses()) == []
    assert files_below(tmp_path) == []


WRITER = """
import os, sys
from pathlib import Path
from expunge.ledger import vault
from expunge.ledger.keys import Keys
vault.CHUNK = 64
box = vault.Vault(sys.argv[1], Keys.open(Path(sys.argv[2])))
for number in range(40):
    data = bytes([number]) * 1000
    stored = box.put(data, "scope")
    assert box.get(stored) == data
    print(stored.address)
"""


def test_two_processes_put_at_once(tmp_path: Path, keys: Keys) -> None:
    keys.save(tmp_path / "keys")
    command = [sys.executable, "-c", WRITER, str(tmp_path / "vault"), str(tmp_path / "keys")]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    addresses = [line for writer in writers for line in writer.communicate()[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0]
    vault = Vault(str(tmp_path / "vault"), keys)
    assert sorted(vault.addresses()) == sorted(addresses)
    assert len(set(addresses)) == 80
    for address in addresses:
        vault.check(address)


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_what_a_killed_writer_left_is_no_object_and_is_swept(vault: Vault) -> None:
    stored = vault.put(CONTENT, "scope")
    left = Path(vault.url) / vault_module.STAGED / "expunge-0.partial"
    left.write_bytes(b"half")
    assert list(vault.addresses()) == [stored.address]
    assert vault.sweep(older_than=3600) == 0
    old = time.time() - 7200
    os.utime(left, (old, old))
    assert vault.sweep(older_than=3600) == 1
    assert vault.get(stored) == CONTENT
    assert not left.exists()


@pytest.mark.parametrize(
    "url", ["http://x/y", "s3://", "s3://key:secret@bucket/x", "file://relative", "zip::s3://b/c"]
)
def test_another_url_is_refused_without_showing_what_is_in_it(url: str, keys: Keys) -> None:
    with pytest.raises(ExpungeError, match="s3://bucket/prefix") as caught:
        Vault(url, keys)
    assert "secret" not in str(caught.value)


def test_a_bucket_without_its_library_says_what_to_install(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ExpungeError, match=r"pip install 'expunge\[s3\]'"):
        Vault("s3://bucket/x", keys)


def test_repr_shows_no_secret(keys: Keys) -> None:
    shown = repr(Vault("memory://x", keys))
    assert keys.master.hex() not in shown
    assert base64.b64encode(keys.master).decode() not in shown
