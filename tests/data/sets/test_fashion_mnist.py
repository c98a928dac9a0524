"""Fashion-MNIST: how its files are read and cut, and the whole set."""

import collections
import gzip
from pathlib import Path

import numpy as np
import pytest

from expunge.data import catalogue
from expunge.data.sets import fashion_mnist as fashion
from expunge.errors import IntegrityError

COUNTS = {"train": 12, "t10k": 3}


def idx(values: np.ndarray) -> bytes:
    sizes = np.array(values.shape, ">i4").tobytes()
    return gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    root = tmp_path / "usr/share/datasets/fashion-mnist"
    root.mkdir(parents=True)
    for name, count in COUNTS.items():
        pictures = np.arange(count * 28 * 28).astype(np.uint8).reshape(count, 28, 28)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (root / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(pictures))
        (root / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    return {fashion.PACKAGE.name: tmp_path}


def test_one_training_row_in_six_is_for_validation_and_the_source_s_test_stays(
    sources: dict[str, Path],
) -> None:
    table = fashion.table(sources)
    assert collections.Counter(table["split"]) == {"train": 10, "validation": 2, "test": 3}
    held = [row for row in table if row["split"] == "validation"]
    assert [row["id"] for row in held] == ["fashion-mnist:train/00005", "fashion-mnist:train/00011"]


def test_pixels_labels_and_subjects_are_those_of_the_files(sources: dict[str, Path]) -> None:
    row = fashion.table(sources)[1]
    assert row["label"] == 1
    assert row["subject"] == "trouser"
    expected = np.arange(784, 2 * 784).astype(np.uint8).reshape(28, 28)
    assert np.array_equal(np.asarray(row["image"]), expected)


def test_a_file_that_is_no_idx_file_of_bytes_is_refused(sources: dict[str, Path]) -> None:
    root = sources[fashion.PACKAGE.name] / "usr/share/datasets/fashion-mnist"
    (root / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x0d\x01"))
    with pytest.raises(IntegrityError, match="no IDX file of bytes"):
        fashion.table(sources)


@pytest.mark.slow
def test_the_whole_set_has_ten_balanced_classes_in_every_part() -> None:
    found = catalogue.fetched("fashion-mnist")
    assert found.digest == found.entry.digest
    table = found.load()
    assert collections.Counter(table["split"]) == {
        "train": 50_000,
        "validation": 10_000,
        "test": 10_000,
    }
    assert set(collections.Counter(table["label"]).values()) == {7_000}
    assert set(collections.Counter(found.load("test")["label"]).values()) == {1_000}
