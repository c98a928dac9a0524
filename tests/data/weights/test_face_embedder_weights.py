"""The face embedder's weights: 8-bit values become what they stand for, in the layout of torch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from expunge.data.weights import face_embedder as weights
from expunge.errors import IntegrityError
from expunge.storage import read_tensors

CODED = {"dtype": "uint8", "scale": 0.5, "min": -1.0}
ENTRIES: list[dict[str, object]] = [
    {"name": "a/conv1/conv/filters", "shape": [1, 2, 3, 4], "dtype": "float32"},
    {"name": "a/conv1/scale/biases", "shape": [4], "dtype": "float32", "quantization": CODED},
    {"name": "fc", "shape": [2, 3], "dtype": "float32", "quantization": CODED},
]
FILTERS = np.arange(24, dtype="<f4").reshape(1, 2, 3, 4)
RAW = FILTERS.tobytes() + bytes([0, 1, 2, 255]) + bytes(range(6))


def source(root: Path, raw: bytes = RAW, entries: object = ENTRIES) -> dict[str, Path]:
    (root / weights.TENSORS).parent.mkdir(parents=True)
    (root / weights.TENSORS).write_bytes(raw)
    (root / weights.MANIFEST).write_text(json.dumps([{"weights": entries}]), encoding="utf-8")
    return {weights.PACKAGE.name: root}


def test_bytes_are_scaled_and_axes_are_those_of_torch(tmp_path: Path) -> None:
    weights.convert(source(tmp_path), tmp_path)
    found = read_tensors(tmp_path / "model.safetensors")
    assert found.keys() == {"a.conv1.conv.weight", "a.conv1.scale.bias", "fc.weight"}
    assert found["a.conv1.scale.bias"].tolist() == [-1.0, -0.5, 0.0, 126.5]
    assert found["a.conv1.conv.weight"].shape == (4, 3, 1, 2)
    assert float(found["a.conv1.conv.weight"][3, 2, 0, 1]) == float(FILTERS[0, 1, 2, 3])
    assert torch.equal(found["fc.weight"], torch.tensor([[-1.0, 0.5], [-0.5, 1.0], [0.0, 1.5]]))


@pytest.mark.parametrize(
    ("raw", "entries", "said"),
    [
        (RAW[:-1], ENTRIES, "cannot be read"),
        (RAW + b"x", ENTRIES, "describes 106 bytes and 107 are there"),
        (RAW, [{"name": "fc"}], "cannot be read .KeyError"),
        (RAW, [{**ENTRIES[2], "shape": 3}], "cannot be read .TypeError"),
        (RAW, [{**ENTRIES[2], "quantization": 3}], "cannot be read .TypeError"),
        (RAW, [{**ENTRIES[2], "name": "a/odd"}], "cannot be read .KeyError"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, raw: bytes, entries: object, said: str
) -> None:
    with pytest.raises(IntegrityError, match=said):
        weights.convert(source(tmp_path, raw, entries), tmp_path)
