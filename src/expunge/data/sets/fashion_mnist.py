"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 pixels, ten classes.

Xiao, Rasul, Vollgraf (2017). Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms. From the Debian package ``dataset-fashion-mnist``.
"""

import gzip
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from expunge.data import splits
from expunge.data.packages import Package, Registry
from expunge.data.pictures import png
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

LICENCE = "MIT"
CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

PACKAGE = Package(
    Registry.DEBIAN,
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    30_900_652,
    LICENCE,
)


def _idx(path: Path) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes: magic number, sizes of the axes, values."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise IntegrityError(f"{path.name} is no IDX file of bytes; fetch the package again.")
    axes = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(axes)


def table(sources: Sources) -> datasets.Dataset:
    """All 70,000 rows: 50,000 train, 10,000 validation, 10,000 test, in the order of the files."""
    root = sources[PACKAGE.name] / "usr/share/datasets/fashion-mnist"
    rows: dict[str, list[object]] = {k: [] for k in ("id", "subject", "label", "split", "image")}
    for part, name in (("train", "train"), ("test", "t10k")):
        images = _idx(root / f"{name}-images-idx3-ubyte.gz")
        labels = _idx(root / f"{name}-labels-idx1-ubyte.gz")
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            rows["id"].append(f"fashion-mnist:{part}/{i:05d}")
            rows["subject"].append(CLASSES[label])
            rows["label"].append(int(label))
            rows["split"].append(splits.of_source(part, i))
            rows["image"].append(png(image))
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "subject": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(CLASSES)),
            "split": datasets.Value("string"),
            "image": datasets.Image(),
            "licence": datasets.Value("string"),
        }
    )
    count = len(rows["id"])
    return datasets.Dataset.from_dict({**rows, "licence": [LICENCE] * count}, features=features)


ENTRIES = (
    DataSet(
        "fashion-mnist",
        "70,000 grey pictures of clothes, 28 x 28, ten balanced classes",
        (PACKAGE,),
        LICENCE,
        True,
        70_000,
        "c0674fb24b5fdafc3f380e4a33b55f3d73bcbecd79d4fc14f86af0d32e7d48e6",
        table,
        "class",
    ),
)
