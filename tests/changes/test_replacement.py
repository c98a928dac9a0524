"""Replacements: the whole model anew, of the same family or another."""

from pathlib import Path

import pytest
import torch
from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of, with_weights
from expunge.errors import IntegrityError
from expunge.storage import Bundle


def model(seed: int, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


def test_it_puts_the_new_weights_in_the_place_of_the_old() -> None:
    before, after = model(0), model(1)
    change = Replacement.of(after, before, method="retrain")
    assert change.before == digest_of(before)
    assert change.digest() == digest_of(after)
    assert digest_of(change.applied_to(before)) == digest_of(after)
    assert digest_of(before) == change.before
    assert change.facts == {"method": "retrain"}


def test_it_keeps_its_own_copy_of_the_weights() -> None:
    after = model(1)
    change = Replacement.of(after, model(0))
    known = change.digest()
    with torch.no_grad():
        after.get_parameter("0.weight").zero_()
    assert change.digest() == known


@pytest.mark.parametrize("family", [None, "one_step_generator"])
def test_a_stored_replacement_comes_back_equal(family: str | None, tmp_path: Path) -> None:
    builder = None if family is None else "package.module:build"
    change = Replacement.of(model(1), model(0), family=family, builder=builder, method="sfd")
    path = tmp_path / "new.safetensors"
    change.save(path)
    loaded = Replacement.load(path)
    assert (loaded.before, loaded.family, loaded.builder) == (change.before, family, builder)
    assert loaded.facts == {"method": "sfd"}
    assert loaded.digest() == change.digest()
    assert {n: t.dtype for n, t in loaded.tensors.items()} == {
        n: t.dtype for n, t in change.tensors.items()
    }


def test_missing_names_and_other_shapes_are_refused() -> None:
    small, wide = model(0), model(1, width=5)
    tensors = dict(Replacement.of(small, small).tensors)
    del tensors["1.running_var"]
    with pytest.raises(
        IntegrityError, match=r"The Replacement lacks '1.running_var' of this model"
    ):
        Replacement("before", tensors).applied_to(small)
    with pytest.raises(IntegrityError, match=r"shape \(5.*\(4"):
        Replacement.of(wide, small).applied_to(small)
    stranger = {**Replacement.of(small, small).tensors, "gain": torch.ones(1)}
    with pytest.raises(IntegrityError, match="'gain'"):
        Replacement("before", stranger).applied_to(small)


def test_counters_tables_and_masks_are_replaced_in_their_own_type() -> None:
    before, after = model(0), model(1)
    for one, place in ((before, 2**40), (after, 2**40 + 1)):
        one.register_buffer("places", torch.tensor([place]))
        one.register_buffer("shown", torch.tensor([place % 2 == 0]))
    after.get_buffer("1.num_batches_tracked").fill_(3)
    change = Replacement.of(after, before)
    new = change.applied_to(before)
    assert digest_of(new) == digest_of(after) == change.digest()
    for name in ("places", "shown", "1.num_batches_tracked"):
        assert change.tensors[name].dtype == after.get_buffer(name).dtype
        assert torch.equal(new.get_buffer(name), after.get_buffer(name))


def test_a_header_without_its_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    Bundle({"weight": torch.ones(2)}, {"kind": "replacement"}).save(path)
    with pytest.raises(IntegrityError, match="does not say which model"):
        Replacement.load(path)


def test_weights_that_are_not_finite_are_refused() -> None:
    broken = with_weights(model(0), {"0.bias": torch.full((4,), float("inf"))})
    with pytest.raises(IntegrityError, match=r"NaN or infinite values in '0.bias'"):
        Replacement.of(broken, model(0))


def test_damaged_files_and_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    Replacement.of(model(1), model(0)).save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="not a readable safetensors file"):
        Replacement.load(path)
    Delta.between(model(1), model(0)).save(path)
    with pytest.raises(IntegrityError, match="holds no Replacement"):
        Replacement.load(path)
