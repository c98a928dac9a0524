"""Facts about uploads: safetensors alone, no larger than allowed, and nothing of them stays."""

import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from api_world import MODEL, World, problem
from safetensors.torch import save

pytest_plugins = ["api_fixtures"]

WHERE = f"/v1/models/{MODEL}/identification"
SENT = {"Content-Type": "application/octet-stream"}


def safetensors(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 10_000)
    return file.getvalue()


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
MALFORMED = {
    "nothing": b"",
    "a few bytes": b"\x08",
    "a pickle": pickle.dumps({"weights": [1.0] * 1000}),
    "an archive of torch": zipped(),
    "a header of 2^63 bytes": (2**63).to_bytes(8, "little") + b"{" + b" " * 100,
    "a header of 2^64 - 1 bytes": b"\xff" * 8 + b"{",
    "an empty header": (0).to_bytes(8, "little"),
    "a header longer than the file": (1000).to_bytes(8, "little") + b"{}",
    "a header that is no JSON": safetensors(b"{'a': 1}       "),
    "a header that nests": safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "tensors that are cut off": safetensors(json.dumps({"a": ENTRY}).encode(), b"\0" * 4),
    "tensors that overlap": safetensors(json.dumps({"a": ENTRY, "b": ENTRY}).encode(), b"\0" * 8),
    "a tensor larger than all numbers": safetensors(
        json.dumps({"a": {**ENTRY, "shape": [2**62, 2**62]}}).encode(), b"\0" * 8
    ),
    "negative offsets": safetensors(
        json.dumps({"a": {**ENTRY, "data_offsets": [-8, 0]}}).encode(), b"\0" * 8
    ),
    "an unknown type": safetensors(json.dumps({"a": {**ENTRY, "dtype": "X"}}).encode(), b"\0" * 8),
    "metadata that is no text": safetensors(b'{"__metadata__":{"a":1}}'),
    "a name that is no text": safetensors(b'{"\xff\xfe":1}'),
}


@pytest.fixture(scope="module")
def asking(lived_world: World) -> Iterator[Any]:
    """Clients of a ledger that nothing here changes."""
    with lived_world.asking(upload_limit=2_000_000, certificate_limit=20_000) as client:
        yield client


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other processes put into the machine's is not looked at."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def left() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("expunge-ledger-*"))


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_safetensors_file_is_refused_and_nothing_of_it_stays(
    asking: Any, name: str
) -> None:
    before = left()
    told = problem(asking("auditor").post(WHERE, content=MALFORMED[name], headers=SENT), 422)
    assert tempfile.gettempdir() not in json.dumps(told)
    assert left() <= before


def test_weights_of_another_model_are_no_version(asking: Any) -> None:
    other = save({"a": torch.zeros(3)})
    found = asking("auditor").post(WHERE, content=other, headers=SENT).json()
    assert found["version"] is None
    assert "no version" in found["sentence"]


def test_an_upload_beyond_the_limit_is_refused_declared_or_not(asking: Any) -> None:
    before = left()
    large = save({"a": torch.zeros(600_000)})
    problem(asking("auditor").post(WHERE, content=large, headers=SENT), 413)
    pieces = (large[i : i + 50_000] for i in range(0, len(large), 50_000))
    problem(asking("auditor").post(WHERE, content=pieces, headers=SENT), 413)
    assert left() <= before


def test_a_pickle_is_refused_at_its_first_bytes(asking: Any) -> None:
    taken = []

    def pieces() -> Iterator[bytes]:
        yield pickle.dumps(list(range(1000)))
        for i in range(30):
            taken.append(i)
            yield b"\0" * 60_000

    problem(asking("auditor").post(WHERE, content=pieces(), headers=SENT), 422)


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json", ""])
def test_another_type_of_body_is_refused(asking: Any, kind: str) -> None:
    sent = {"Content-Type": kind}
    problem(asking("auditor").post(WHERE, content=b"x", headers=sent), 415)


def test_a_certificate_beyond_its_limit_is_refused(asking: Any) -> None:
    sent = {"Content-Type": "application/json"}
    answer = asking("auditor").post(
        "/v1/certificates/verification", content=b" " * 20_001, headers=sent
    )
    problem(answer, 413)
    answer = asking("auditor").post(
        "/v1/certificates/verification", content=b"x", headers={"Content-Type": "text/plain"}
    )
    problem(answer, 415)


def test_nobody_uploads_who_may_not(asking: Any) -> None:
    problem(asking("").post(WHERE, content=b"x", headers=SENT), 401)
    problem(asking("requester").post(WHERE, content=b"x", headers=SENT), 403)
