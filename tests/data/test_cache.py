"""The cache: what is damaged is made again."""

from pathlib import Path

import pytest
import torch

from expunge.data.cache import cached
from expunge.storage import Bundle


def test_a_flipped_byte_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path))
    made: list[int] = []

    def make() -> Bundle:
        made.append(1)
        return Bundle({"activation": torch.arange(4.0)})

    for _ in range(2):
        assert cached("key", make).tensors["activation"].tolist() == [0, 1, 2, 3]
    assert len(made) == 1
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cached("key", make).tensors["activation"].tolist() == [0, 1, 2, 3]
    assert len(made) == 2
