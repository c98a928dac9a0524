"""LowRank: what it adds, where it is refused, and that it folds as `peft` merges."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.compose import compose
from expunge.aggregation.sum import Sum
from expunge.changes.adapter import Factors, LowRank
from expunge.changes.delta import Delta
from expunge.changes.history import History, Served
from expunge.changes.kinds import Adapter
from expunge.changes.weights import digest_of, parameters_of
from expunge.errors import IntegrityError
from expunge.requests import Request, Rows
from expunge.storage import read_facts, read_tensors, write_tensors

REQUEST = Request("r", Rows("label", ("1",)))
OTHER = Request("other", Rows("label", ("2",)))


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def factors(out: int, inputs: int, r: int = 2, scaling: float = 0.3) -> Factors:
    return Factors(torch.randn(r, inputs), torch.randn(out, r), scaling)


def adapter(base: nn.Module) -> LowRank:
    return LowRank.of(base, {"0.weight": factors(5, 6), "2.weight": factors(3, 5)}, method="m")


def test_what_it_adds_is_the_scaled_product() -> None:
    base, given = model(), factors(5, 6)
    made = LowRank.of(base, {"0.weight": given})
    assert isinstance(made, Adapter)
    [(name, shift)] = made.tensors()
    assert name == "0.weight"
    assert torch.equal(shift, (given.B @ given.A) * 0.3)
    moved = made.applied_to(base, 0.5)
    weight = parameters_of(base)["0.weight"]
    assert torch.equal(parameters_of(moved)["0.weight"], weight + 0.5 * shift)
    assert torch.equal(parameters_of(moved)["2.weight"], parameters_of(base)["2.weight"])
    assert torch.linalg.matrix_rank(shift) == 2


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    base = model()
    made, path = adapter(base), tmp_path / "a.safetensors"
    made.save(path)
    back = LowRank.load(path)
    assert (back.base, back.facts, list(back.factors)) == (
        digest_of(base),
        {"method": "m"},
        ["0.weight", "2.weight"],
    )
    for name, given in made.factors.items():
        read = back.factors[name]
        assert torch.equal(read.A, given.A)
        assert torch.equal(read.B, given.B)
        assert read.scaling == given.scaling
    assert digest_of(back.applied_to(base)) == digest_of(made.applied_to(base))
    back.save(tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == path.read_bytes()


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    adapter(model()).save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="not those that were written"):
        LowRank.load(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, header: tensors.pop("B:0.weight"),
        lambda tensors, header: tensors.update({"B:0.weight": torch.zeros(5, 9)}),
        lambda tensors, header: tensors.update({"scaling:0.weight": torch.tensor(torch.inf)}),
        lambda tensors, header: header.update(shapes={"0.weight": [5, 7]}),
        lambda tensors, header: header.update(base=None),
        lambda tensors, header: header.pop("facts"),
    ],
)
def test_a_damaged_file_is_said_in_one_sentence(
    damage: Callable[[dict[str, Tensor], dict[str, Any]], object], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    adapter(model()).save(path)
    tensors, header = read_tensors(path), dict(read_facts(path))
    damage(tensors, header)
    write_tensors(path, tensors, header)
    with pytest.raises(IntegrityError, match="is no whole adapter"):
        LowRank.load(path)


def test_an_adapter_for_another_base_is_refused() -> None:
    base = model()
    made = adapter(base)
    with pytest.raises(IntegrityError, match="an adapter for another base"):
        made.applied_to(model(1))
    with pytest.raises(IntegrityError, match="made for the base"):
        History.of(digest_of(model(1))).with_served(Served(REQUEST, (made,)))
    with pytest.raises(IntegrityError, match=r"another base: it changes 'nowhere\.weight'"):
        LowRank.of(base, {"nowhere.weight": factors(5, 6)})
    with pytest.raises(IntegrityError, match=r"has the shape \(3, 6\), and the weight \(5, 6\)"):
        LowRank.of(base, {"0.weight": factors(3, 6)})
    row = LowRank(digest_of(base), {"0.weight": factors(1, 6)})  # would be spread over all rows
    with pytest.raises(IntegrityError, match=r"adds \(1, 6\) to '0.weight'"):
        row.applied_to(base)


def test_factors_that_cannot_be_are_refused() -> None:
    with pytest.raises(IntegrityError, match=r"A \(2, 6\) and B \(5, 3\)"):
        Factors(torch.zeros(2, 6), torch.zeros(5, 3))
    with pytest.raises(IntegrityError, match="NaN or infinite"):
        Factors(torch.full((2, 6), torch.nan), torch.zeros(5, 2))
    with pytest.raises(IntegrityError, match="changes no weight"):
        LowRank("digest", {})


def test_of_tied_weights_any_name_will_do_and_one_alone() -> None:
    tied, again = model(), nn.Linear(6, 5, bias=False)
    again.weight = tied.get_parameter("0.weight")
    tied.append(again)
    made = LowRank.of(tied, {"3.weight": factors(5, 6)})
    assert list(made.factors) == ["0.weight"]
    with pytest.raises(IntegrityError, match="under two names"):
        LowRank.of(tied, {"0.weight": factors(5, 6), "3.weight": factors(5, 6)})


def test_deltas_and_adapters_fold_into_one_epoch_each_at_its_strength() -> None:
    base, moved = model(), model()
    with torch.no_grad():
        moved.get_parameter("0.weight").add_(0.1)
    delta, made = Delta.between(moved, base), adapter(base)
    history = History.of(digest_of(base)).with_served(Served(REQUEST, (delta,), 2.0))
    both = history.with_served(Served(OTHER, (made,), 0.5))
    found = parameters_of(compose(base, both.current, Sum()))
    shifts = dict(made.tensors())
    expected = parameters_of(base)["0.weight"] + 2 * delta.dense("0.weight")
    assert torch.allclose(found["0.weight"], expected + 0.5 * shifts["0.weight"], atol=1e-6)
    without = compose(base, both.without(OTHER).current, Sum())
    alone = compose(base, history.current, Sum())
    assert digest_of(without) == digest_of(alone)


class Mixed(nn.Module):
    """An embedding, a convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.look = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(2, 6, 3)
        self.line = nn.Linear(5, 3)


def test_a_base_a_delta_and_an_adapter_are_what_peft_merges() -> None:
    peft = pytest.importorskip("peft")
    base, moved = Mixed(), Mixed()
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["look", "conv", "line"])
    wrapped = peft.get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter))
    made = LowRank.of_peft(wrapped, base, request="r")
    assert sorted(made.factors) == ["conv.weight", "line.weight", "look.weight"]
    merged = parameters_of(copy.deepcopy(wrapped).merge_and_unload())
    delta = Delta.between(moved, base)
    history = History.of(digest_of(base)).with_served(Served(REQUEST, (delta,)))
    both = history.with_served(Served(OTHER, (made,)))
    found = parameters_of(compose(base, both.current, Sum()))
    for name, weight in merged.items():
        expected = weight + delta.dense(name)
        assert torch.allclose(found[name], expected, rtol=1e-6, atol=1e-6)
        assert made.factors.get(name) is None or not torch.equal(found[name], weight)
    alone = parameters_of(made.applied_to(base))
    assert all(torch.allclose(alone[n], w, rtol=1e-6, atol=1e-6) for n, w in merged.items())

    with pytest.raises(IntegrityError, match="an adapter for another base"):
        LowRank.of_peft(wrapped, moved)
    with pytest.raises(IntegrityError, match="no LoRA layer with the adapter 'second'"):
        LowRank.of_peft(wrapped, base, "second")
    wrapped.merge_adapter()
    with pytest.raises(IntegrityError, match="not merged into it"):
        LowRank.of_peft(wrapped, base)
    more = peft.LoraConfig(r=3, target_modules=["line"], use_dora=True)
    with pytest.raises(IntegrityError, match="beside its factors"):
        LowRank.of_peft(peft.get_peft_model(copy.deepcopy(base), more), base)
