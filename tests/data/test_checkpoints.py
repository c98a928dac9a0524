"""Checkpoints: tensors are read, everything else is refused and never run."""

from pathlib import Path

import pytest
import torch

from expunge.data.checkpoints import checkpoint
from expunge.errors import IntegrityError


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_named_tensors_are_read_from_the_top_or_under_a_key(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3), "b": torch.tensor(1.5)}
    torch.save(tensors, tmp_path / "flat.pth")
    torch.save({"weights": tensors, "epoch": 3}, tmp_path / "keyed.pth")
    assert checkpoint(tmp_path / "flat.pth").keys() == tensors.keys()
    assert torch.equal(checkpoint(tmp_path / "keyed.pth", "weights")["a"], torch.arange(3))
    with pytest.raises(IntegrityError, match="no named tensors under 'other'"):
        checkpoint(tmp_path / "keyed.pth", "other")
    with pytest.raises(IntegrityError, match="no named tensors"):
        checkpoint(tmp_path / "keyed.pth")


def test_an_object_is_refused_and_not_made(tmp_path: Path) -> None:
    torch.save({"a": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(IntegrityError, match=r"trap\.pth is no checkpoint of tensors"):
        checkpoint(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_missing_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged.pth").write_bytes(b"not a checkpoint")
    for name in ("missing.pth", "damaged.pth"):
        with pytest.raises(IntegrityError, match=name):
            checkpoint(tmp_path / name)
