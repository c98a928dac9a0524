"""MNIST-10k: grey values from rounded shares, the split, and the whole set."""

import collections
import json
from pathlib import Path

import numpy as np
import pytest

from expunge.data import catalogue, tables
from expunge.data import mnist as shipped
from expunge.data.sets import mnist
from expunge.errors import IntegrityError

EACH = 5  # pictures of each digit


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "package/src/digits"
    folder.mkdir(parents=True)
    for digit in range(10):
        grey = (np.arange(EACH * 784) * 7 + digit) % 256
        shares = [round(value / 255, 3) for value in grey.tolist()]
        (folder / f"{digit}.json").write_text(json.dumps({"data": shares}))
    return {mnist.PACKAGE.name: tmp_path}


def test_every_grey_value_survives_the_rounding_to_three_places(sources: dict[str, Path]) -> None:
    row = mnist.table(sources)[EACH * 3]
    assert row["id"] == "mnist-10k:3/0000"
    assert row["label"] == 3
    expected = (np.arange(784) * 7 + 3) % 256
    assert np.array_equal(np.asarray(row["image"]).reshape(-1), expected)


def test_every_digit_is_split_60_20_20(sources: dict[str, Path]) -> None:
    table = mnist.table(sources)
    places = collections.Counter(zip(table["subject"], table["split"], strict=True))
    assert {places[str(d), "train"] for d in range(10)} == {3}
    assert {places[str(d), "validation"] for d in range(10)} == {1}
    assert {places[str(d), "test"] for d in range(10)} == {1}


@pytest.mark.parametrize("content", ["{", "{}", '{"data": [0, 0.5]}', '{"data": []}'])
def test_a_file_without_whole_pictures_is_refused(sources: dict[str, Path], content: str) -> None:
    (sources[mnist.PACKAGE.name] / "package/src/digits/4.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"4\.json"):
        mnist.table(sources)


def test_values_outside_0_to_1_are_refused(sources: dict[str, Path]) -> None:
    path = sources[mnist.PACKAGE.name] / "package/src/digits/4.json"
    path.write_text(json.dumps({"data": [255] * 784}))
    with pytest.raises(IntegrityError, match="outside 0 to 1"):
        mnist.table(sources)


@pytest.mark.slow
def test_the_whole_set_holds_10000_different_digits_and_among_them_all_of_mnist_5k() -> None:
    found = catalogue.fetched("mnist-10k")
    assert found.digest == found.entry.digest
    table = found.load()
    counts = collections.Counter(table["label"])
    assert len(table) == 10_000
    assert (min(counts.values()), max(counts.values())) == (863, 1_127)
    pictures = {np.asarray(row["image"]).tobytes() for row in table}
    assert len(pictures) == 10_000
    small = tables.numbers(shipped.load(), "image").astype(np.uint8)
    assert all(picture.tobytes() in pictures for picture in small)
