"""The scikit-learn digits: 1,797 handwritten 8 x 8 digits as a table with stable ids.

Source: the UCI "Optical Recognition of Handwritten Digits" test set (E. Alpaydin, C. Kaynak,
1998), as it ships with scikit-learn.
"""

from __future__ import annotations

import functools

import datasets
import numpy as np
import torch

from expunge.data import splits, tables

SIDE = 8  # pixels
INK = 16.0  # the largest grey value
LICENCE = "BSD-3-Clause"

FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "subject": datasets.Value("string"),
        "label": datasets.Value("int64"),
        "split": datasets.Value("string"),
        "licence": datasets.Value("string"),
        "image": datasets.List(datasets.Value("float32"), length=SIDE * SIDE),
    }
)


@functools.cache
def _everything() -> datasets.Dataset:
    from sklearn.datasets import load_digits

    source = load_digits()
    labels = [int(label) for label in source.target]
    ids = [f"digits:{row:04d}" for row in range(len(labels))]
    return datasets.Dataset.from_dict(
        {
            "id": ids,
            "subject": [f"digit {label}" for label in labels],
            "label": labels,
            "split": splits.stratified(ids, labels),
            "licence": [LICENCE] * len(labels),
            "image": source.data.astype(np.float32),
        },
        features=FEATURES,
    )


def load(split: str | None = None) -> datasets.Dataset:
    """Returns the table of digits, or one split of it.

    Args:
        split: "train" (1,078 rows), "validation" (360) or "test" (359); None for all 1,797 rows.

    Returns:
        A table with the columns id ("digits:0007"), subject ("digit 7"), label (0 to 9), split,
        licence and image (64 grey values from 0 to 16, row by row).

    Raises:
        ExpungeError: there is no split of that name.
    """
    return tables.of_split(_everything(), split, "the digits")


def tensors(table: datasets.Dataset) -> dict[str, torch.Tensor]:
    """Returns the pictures and classes of a table made by `load`, in its row order.

    Args:
        table: n rows of the digits.

    Returns:
        "image": float32 (n, 1, 8, 8) from 0 to 1; "label": int64 (n,).
    """
    grey = tables.numbers(table, "image")
    image = torch.from_numpy(grey.astype(np.float32)).reshape(-1, 1, SIDE, SIDE) / INK
    return {"image": image, "label": tables.labels(table)}
