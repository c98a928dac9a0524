"""Putting stored tensors into a module: aliases of tied weights, and what is refused."""

import pytest
import torch
from torch import nn

from expunge.changes.weights import (
    buffers_of,
    digest_of,
    load_stored,
    stored_tensors,
    with_weights,
)
from expunge.errors import IntegrityError


class Tied(nn.Module):
    """An embedding whose weights are the head's too, a counter, and a table under two names."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight
        table = torch.tensor([1, 2])
        self.register_buffer("table", table)
        self.register_buffer("same", table)
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


def test_each_stored_tensor_stands_once_under_its_first_name() -> None:
    assert list(stored_tensors(Tied())) == ["embedding.weight", "head.bias", "table"]
    assert list(buffers_of(Tied())) == ["table"]


@pytest.mark.parametrize("left_out", ["embedding.weight", "head.weight", "table", "same", None])
def test_any_name_of_a_tied_tensor_will_do(left_out: str | None) -> None:
    old, new = Tied(0), Tied(1)
    tensors = {n: t for n, t in new.state_dict().items() if n != left_out}
    loaded = load_stored(old, tensors)
    assert isinstance(loaded, Tied)
    assert digest_of(loaded) == digest_of(new)
    assert loaded.head.weight is loaded.embedding.weight
    assert digest_of(old) == digest_of(Tied(0)) != digest_of(new)


def test_one_alias_moves_all() -> None:
    moved = with_weights(Tied(), {"head.weight": torch.ones(7, 4)})
    assert isinstance(moved, Tied)
    assert torch.equal(moved.embedding.weight, torch.ones(7, 4))


def test_what_does_not_fit_is_said_of_its_source() -> None:
    whole = dict(Tied().state_dict())
    without = {n: t for n, t in whole.items() if n not in ("head.bias", "table", "same")}
    with pytest.raises(IntegrityError, match=r"^model.safetensors lacks 'head.bias' and 1 more"):
        load_stored(Tied(), without, "model.safetensors")
    with pytest.raises(IntegrityError, match=r"^The file has 'gain', which this model"):
        load_stored(Tied(), {**whole, "gain": torch.ones(1)})
    with pytest.raises(IntegrityError, match="'scratch', which this model does not have"):
        load_stored(Tied(), {**whole, "scratch": torch.ones(1)})
    with pytest.raises(IntegrityError, match=r"'head.bias' has shape \(1,\) in model.safetensors"):
        load_stored(Tied(), {**whole, "head.bias": torch.ones(1)}, "model.safetensors")
    with pytest.raises(IntegrityError, match="two different values for"):
        load_stored(Tied(), {**whole, "head.weight": torch.ones(7, 4)}, "model.safetensors")
    half = {**whole, "table": torch.tensor([0.5, 1.0])}
    half.pop("same")
    with pytest.raises(IntegrityError, match=r"'table' is torch.int64 in the model"):
        load_stored(Tied(), half)
