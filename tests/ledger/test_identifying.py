"""Facts about identifying: a file of weights is told by its tensors, and by nothing else."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import ASCENT, Working

from expunge.errors import IntegrityError, UnknownError
from expunge.ledger import identifying
from expunge.ledger.asking import revoke, seal
from expunge.ledger.identifying import identify
from expunge.ledger.opening import model_row
from expunge.ledger.serving import materialise
from expunge.ledger.standing import Standing

Make = Callable[..., Working]


def standing(made: Working) -> Standing:
    with made.ledger.database.reading() as connection:
        return Standing.of(made.ledger, model_row(connection, made.model))


def weights(made: Working, out: Path, number: int) -> Path:
    return materialise(made.ledger, made.model, out, number) / "model.safetensors"


def test_every_version_is_known_by_its_weights_whatever_the_file_says(
    working: Make, tmp_path: Path
) -> None:
    made = working()
    request = made.served("subject", "writer 1", **ASCENT)
    made.served("label", "8", method="guardrail")
    files = {number: weights(made, tmp_path / "out", number) for number in (0, 1)}

    base = identify(made.ledger, made.model, files[0])
    assert (base.version, base.versions, base.base, base.current) == (0, (0,), True, False)
    assert "digits@0; the current version is 2" in base.sentence
    assert "nothing is forgotten" in base.sentence
    edited = identify(made.ledger, made.model, files[1])
    assert (edited.versions, edited.base, edited.current) == ((1, 2), False, True)
    assert edited.digest == made.version()["weights_digest"]
    assert "What digits@2 forgot stands in a guard" in edited.sentence

    plain = tmp_path / "plain.safetensors"  # other bytes and no facts: the same tensors
    save_file(dict(reversed(load_file(files[1]).items())), plain, {"note": "version 7"})
    assert plain.read_bytes() != files[1].read_bytes()
    assert identify(made.ledger, made.model, plain) == edited
    assert identify(made.ledger, made.model, plain, standing(made)) == edited

    revoke(made.ledger, request, "admin", "by mistake")
    made.work()
    again = identify(made.ledger, made.model, files[0])
    assert (again.versions, again.current, again.base) == ((0, 3), True, True)


def test_one_changed_number_makes_it_the_weights_of_no_version(
    working: Make, tmp_path: Path
) -> None:
    made = working()
    tensors = load_file(weights(made, tmp_path / "out", 0))
    tensors[max(tensors)].view(-1)[0] += 1e-3
    save_file(tensors, tmp_path / "changed.safetensors")
    found = identify(made.ledger, made.model, tmp_path / "changed.safetensors", standing(made))
    assert (found.version, found.versions, found.base) == (None, (), False)
    assert "no version of 'digits'" in found.sentence
    with pytest.raises(UnknownError, match="no model 'emoji'"):
        identify(made.ledger, "emoji", tmp_path / "changed.safetensors")


def test_a_sealed_base_is_known_as_the_version_of_the_seal(working: Make, tmp_path: Path) -> None:
    made = working()
    made.served("subject", "writer 1", **ASCENT)
    original = weights(made, tmp_path / "out", 0)
    seal(made.ledger, made.model)
    made.work()
    sealed = identify(made.ledger, made.model, weights(made, tmp_path / "out", 2))
    assert (sealed.versions, sealed.base) == ((1, 2), True)
    kept = identify(made.ledger, made.model, original)  # somebody's own copy, from before
    assert (kept.versions, kept.base) == ((0,), False)


def test_tensors_of_another_model_are_not_read(
    working: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = working()
    tensors = load_file(weights(made, tmp_path / "out", 0))
    other, large = tmp_path / "other.safetensors", tmp_path / "large.safetensors"
    save_file({name: torch.zeros(3, 3) for name in tensors}, other)
    save_file({"a": torch.zeros(1_000_000, dtype=torch.uint8)}, large)
    monkeypatch.setattr(identifying, "digest", lambda _: pytest.fail("tensors were read"))
    assert (
        "no tensor of the shape"
        in identify(made.ledger, made.model, other, standing(made)).sentence
    )
    found = identify(made.ledger, made.model, large)
    assert (found.version, found.digest) == (None, None)
    assert "holds 1,000,000 numbers" in found.sentence


def test_what_is_no_safetensors_file_is_refused(working: Make, tmp_path: Path) -> None:
    made = working()
    whole = weights(made, tmp_path / "out", 0).read_bytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}})
    contents = {
        "pickle": pickle.dumps({"a": [1.0]}),
        "nothing": b"",
        "cut": whole[:-5],
        "beyond its end": struct.pack("<Q", len(header)) + header.encode() + b"\0" * 16,
        "a header of 2 ** 60 bytes": struct.pack("<Q", 1 << 60) + b"{}",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match="not a readable safetensors file"):
            identify(made.ledger, made.model, path)
    with pytest.raises(IntegrityError, match="There is no file"):
        identify(made.ledger, made.model, tmp_path / "absent")
