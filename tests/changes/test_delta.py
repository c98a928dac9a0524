"""Deltas: what they hold, what they refuse, and what comes back from disk."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from expunge.changes.delta import Delta, Sparse
from expunge.changes.weights import buffers_of, digest_of, parameters_of, with_weights
from expunge.errors import IntegrityError
from expunge.storage import Bundle, digest


class Tied(nn.Module):
    """An embedding whose weights are the head's too, and a batch norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight


def model(seed: int = 0) -> Tied:
    torch.manual_seed(seed)
    made = Tied()
    with torch.no_grad():
        made.norm.running_mean += torch.randn(4)  # type: ignore[operator]
    return made


def moved(base: nn.Module, size: float = 0.1, share: float = 1.0) -> nn.Module:
    """``base`` with a share of its parameters' entries moved at random."""
    torch.manual_seed(9)
    return with_weights(
        base,
        {
            n: p.detach() + size * torch.randn(p.shape) * (torch.rand(p.shape) < share)
            for n, p in parameters_of(base).items()
        },
    )


def equal(left: Delta, right: Delta) -> bool:
    """Same base, facts, and the same bits in every entry and buffer."""
    return (
        (left.base, left.facts, left.shapes()) == (right.base, right.facts, right.shapes())
        and all(torch.equal(left.dense(n), right.dense(n)) for n in left.entries)
        and left.buffers.keys() == right.buffers.keys()
        and all(torch.equal(left.buffers[n], right.buffers[n]) for n in left.buffers)
    )


@given(st.floats(1e-6, 1e3), st.integers(0, 5))
def test_between_then_applied_restores_to_float32_rounding(size: float, seed: int) -> None:
    base = model(seed)
    after = moved(base, size)
    restored = Delta.between(after, base).applied_to(base)
    old = parameters_of(base)
    for name, want in parameters_of(after).items():
        # one rounding of the difference, one of the sum
        bound = torch.finfo(torch.float32).eps * (old[name].abs() + 2 * want.abs())
        assert bool(((parameters_of(restored)[name] - want).abs() <= bound).all())


def test_only_what_moved_is_held() -> None:
    base = model()
    after = with_weights(base, {"head.bias": torch.ones(7)})
    change = Delta.between(after, base)
    assert set(change.entries) == {"head.bias"}
    assert change.buffers == {}
    assert Delta.between(base, base).entries == {}
    assert digest_of(Delta.between(base, base).applied_to(base)) == digest_of(base)


def test_tied_weights_are_held_once_and_stay_tied() -> None:
    base = model()
    assert "head.weight" not in parameters_of(base)
    after = moved(base)
    change = Delta.between(after, base)
    assert set(change.entries) == {"embedding.weight", "norm.weight", "norm.bias", "head.bias"}
    restored = change.applied_to(base)
    assert isinstance(restored, Tied)
    assert restored.head.weight is restored.embedding.weight
    assert not torch.equal(restored.head.weight, base.head.weight)


def test_the_model_that_a_change_is_applied_to_stays_as_it_is() -> None:
    base = model()
    before = digest_of(base)
    change = Delta.between(moved(base), base)
    change.applied_to(base, 3.0)
    assert digest_of(base) == before
    assert change.base == before


def test_strength_scales_the_displacement() -> None:
    base = model()
    change = Delta.between(moved(base), base)
    half = Delta.between(change.applied_to(base, 0.5), base)
    for name in change.entries:
        assert torch.allclose(half.dense(name), 0.5 * change.dense(name), atol=1e-6)
    assert half.norm() == pytest.approx(0.5 * change.norm(), rel=1e-5)
    assert digest_of(change.scaled(0.0).applied_to(base)) == digest_of(base)


def test_another_base_is_refused() -> None:
    base, other = model(0), model(1)
    change = Delta.between(moved(base), base)
    with pytest.raises(
        IntegrityError, match=f"base {digest_of(base)[:12]}.*{digest_of(other)[:12]}"
    ):
        change.applied_to(other)


def test_a_base_that_differs_in_one_buffer_is_another_base() -> None:
    base = model()
    change = Delta.between(moved(base), base)
    other = with_weights(base, {"norm.running_var": torch.full((4,), 1.0 + 1e-6)})
    with pytest.raises(IntegrityError, match="own base"):
        change.applied_to(other)


def test_moved_buffers_act_at_strength_one_alone_and_negation_drops_them() -> None:
    base = model()
    after = with_weights(base, {"norm.running_mean": torch.full((4,), 5.0)})
    change = Delta.between(after, base)
    assert set(change.buffers) == {"norm.running_mean"}
    stood = buffers_of(change.applied_to(base))["norm.running_mean"]
    assert torch.equal(stood, torch.full((4,), 5.0))
    for strength in (0.0, 0.5, 2.0):  # a mean is no displacement: it cannot be scaled
        stood = buffers_of(change.applied_to(base, strength))["norm.running_mean"]
        assert torch.equal(stood, buffers_of(base)["norm.running_mean"])
    assert change.negated().buffers == {}


def tables(model: nn.Module) -> nn.Module:
    """``model`` with an index table, a mask, and a buffer that is not stored."""
    model.register_buffer("places", torch.tensor([2**40, 1]))
    model.register_buffer("shown", torch.tensor([True, False]))
    model.register_buffer("scratch", torch.zeros(2), persistent=False)
    return model


def test_buffers_of_every_type_are_part_of_a_change_and_of_what_is_stored(tmp_path: Path) -> None:
    base = tables(model())
    new = {
        "norm.num_batches_tracked": torch.tensor(7),
        "places": torch.tensor([2**40 + 1, 1]),
        "shown": torch.tensor([False, False]),
    }
    after = with_weights(base, new)
    assert digest_of(after) != digest_of(base)
    change = Delta.between(after, base)
    change.save(tmp_path / "change.safetensors")
    for one in (change, Delta.load(tmp_path / "change.safetensors")):
        assert {n: (b.dtype, b.tolist()) for n, b in one.buffers.items()} == {
            n: (b.dtype, b.tolist()) for n, b in new.items()
        }
        assert digest_of(one.applied_to(base)) == digest_of(after)


@pytest.mark.parametrize("name", ["places", "shown", "norm.num_batches_tracked"])
def test_a_base_that_differs_in_an_index_or_a_mask_is_another_base(name: str) -> None:
    base = tables(model())
    flipped = buffers_of(base)[name].clone()
    flipped.view(-1)[-1] = 0 if flipped.view(-1)[-1] else 1
    other = with_weights(base, {name: flipped})
    assert digest_of(other) != digest_of(base)
    with pytest.raises(IntegrityError, match="own base"):
        Delta.between(moved(base), base).applied_to(other)


@pytest.mark.parametrize("indices", [[0, 15], [1, 1], [3, 2], [-1, 2]])
def test_sparse_indices_out_of_range_or_order_are_refused_by_name(indices: list[int]) -> None:
    damaged = Sparse(torch.tensor(indices), torch.ones(2), torch.Size((3, 5)))
    with pytest.raises(IntegrityError, match="'weight' is damaged"):
        Delta("base", {"weight": damaged})


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_shards_make_the_whole_change_and_one_that_is_missing_is_said(
    form: str, tmp_path: Path
) -> None:
    base = model()
    after = with_weights(moved(base, share=0.1), {"norm.num_batches_tracked": torch.tensor(9)})
    change = Delta.between(after, base, method="retrain")
    change = change.sparse() if form == "sparse" else change
    paths = [tmp_path / f"shard-{i}.safetensors" for i in range(3)]
    change.save_shards(paths)
    assert equal(Delta.load(*paths), change)
    assert equal(Delta.load(*reversed(paths)), change)
    for some in (paths[:1], paths[1:], [paths[0], paths[1], paths[1]]):
        with pytest.raises(IntegrityError, match=r"a Delta in 3 files.*every\s+shard once"):
            Delta.load(*some)
    change.save(tmp_path / "whole.safetensors")
    with pytest.raises(IntegrityError, match="not shards of one Delta"):
        Delta.load(paths[0], tmp_path / "whole.safetensors")
    with pytest.raises(IntegrityError, match="stands twice"):
        Delta.load(tmp_path / "whole.safetensors", tmp_path / "whole.safetensors")


def test_shards_in_half_precision_are_read_back_as_float32(tmp_path: Path) -> None:
    base = model()
    change = Delta.between(moved(base), base)
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    change.save_shards(paths, torch.float16)
    loaded = Delta.load(*paths)
    for name in change.entries:
        assert loaded.dense(name).dtype == torch.float32
        assert torch.equal(loaded.dense(name), change.dense(name).half().float())


def test_files_without_shard_numbers_are_still_joined(tmp_path: Path) -> None:
    base = model()
    change = Delta.between(moved(base), base)
    names = list(change.entries)
    for i in (0, 1):
        part = {n: change.entries[n] for n in names[i::2]}
        Delta(change.base, part).save(tmp_path / f"{i}.safetensors")
    joined = Delta.load(tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    assert set(joined.entries) == set(names)


def test_a_header_without_its_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "change.safetensors"
    for lacking in ("base", "shapes", "facts"):
        whole: dict[str, object] = {"kind": "delta", "base": "b", "shapes": {}, "facts": {}}
        del whole[lacking]
        Bundle({"dense:weight": torch.ones(2)}, whole).save(path)
        with pytest.raises(IntegrityError, match=f"has no {lacking}"):
            Delta.load(path)


def test_negation_twice_is_the_identity() -> None:
    base = model()
    change = Delta.between(moved(base, share=0.2), base, method="negation")
    for one in (change, change.sparse()):
        assert equal(one.negated().negated(), one)
        assert one.negated().norm() == one.norm()
    opposite = change.negated()
    assert all(torch.equal(opposite.dense(n), -change.dense(n)) for n in change.entries)


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_the_sparse_form_holds_the_same_numbers(share: float) -> None:
    base = model()
    change = Delta.between(moved(base, share=share), base)
    sparse = change.sparse()
    assert equal(change, sparse)
    assert sparse.count() == change.count()
    assert sparse.norm() == pytest.approx(change.norm())
    for name, entry in sparse.entries.items():
        dense, left = change.dense(name), int(change.dense(name).count_nonzero())
        room = 12 * left if isinstance(entry, Sparse) else 4 * dense.numel()
        assert room == min(12 * left, 4 * dense.numel())  # an index of eight bytes, a value of four
    assert digest_of(sparse.applied_to(base)) == digest_of(change.applied_to(base))


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_a_stored_change_comes_back_equal(form: str, tmp_path: Path) -> None:
    base = model()
    after = with_weights(moved(base, share=0.1), {"norm.running_mean": torch.ones(4)})
    change = Delta.between(after, base, method="negation", excluded=["a", "b"], share=0.1)
    change = change.sparse() if form == "sparse" else change
    path = tmp_path / "deep" / "change.safetensors"
    change.save(path)
    loaded = Delta.load(path)
    assert equal(loaded, change)
    kinds = {n: type(entry) for n, entry in change.entries.items()}
    assert {n: type(entry) for n, entry in loaded.entries.items()} == kinds
    assert digest_of(loaded.applied_to(base)) == digest_of(change.applied_to(base))
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no partial file is left


def test_scalars_and_empty_tensors_come_back_in_their_shapes(tmp_path: Path) -> None:
    entries = {"scale": torch.tensor(2.0), "none": torch.empty(0, 3)}
    change = Delta("base", entries)
    for form in (change, change.sparse()):
        form.save(tmp_path / "change.safetensors")
        loaded = Delta.load(tmp_path / "change.safetensors")
        assert loaded.shapes() == {"scale": torch.Size([]), "none": torch.Size([0, 3])}
        assert float(loaded.dense("scale")) == 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["dense", "sparse", "buffer"])
def test_numbers_that_are_not_finite_are_refused_by_name(where: str, value: float) -> None:
    bad = torch.tensor([0.0, value])
    sparse = Sparse(torch.tensor([1]), bad[1:], torch.Size([2]))
    entries: dict[str, Tensor | Sparse] = {} if where == "buffer" else {"weight": bad}
    if where == "sparse":
        entries = {"weight": sparse}
    buffers = {"weight": bad} if where == "buffer" else {}
    with pytest.raises(IntegrityError, match=r"NaN or infinite values in 'weight'"):
        Delta("base", entries, buffers)


def test_a_model_that_broke_while_unlearning_makes_no_change() -> None:
    base = model()
    broken = with_weights(base, {"head.bias": torch.full((7,), float("nan"))})
    with pytest.raises(IntegrityError, match=r"'head.bias'"):
        Delta.between(broken, base)


def test_models_of_other_shapes_or_names_make_no_change() -> None:
    with pytest.raises(IntegrityError, match="differ in parameters or shapes at bias, weight"):
        Delta.between(nn.Linear(2, 3), nn.Linear(3, 2))
    with pytest.raises(IntegrityError, match="differ in parameters or shapes at bias"):
        Delta.between(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))


def test_entries_of_other_names_or_shapes_are_refused() -> None:
    base = nn.Linear(2, 2)
    with pytest.raises(IntegrityError, match="'gain', which this model does not have"):
        Delta(digest_of(base), {"gain": torch.ones(2)}).applied_to(base)
    for shape in ((2, 2), (1,), ()):  # the last two could be broadcast, and must not be
        with pytest.raises(IntegrityError, match=f"'bias' has shape {re.escape(str(shape))}"):
            Delta(digest_of(base), {"bias": torch.ones(shape)}).applied_to(base)


def test_a_truncated_or_corrupt_file_is_refused(tmp_path: Path) -> None:
    base, path = model(), tmp_path / "change.safetensors"
    Delta.between(moved(base), base).save(path)
    whole = path.read_bytes()
    damaged = {
        "cut in the data": whole[:-5],
        "cut in the header": whole[:20],
        "empty": b"",
        "overwritten": b"\xff" * len(whole),
        "another format": b"PK\x03\x04" + whole,
    }
    for how, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match="not a readable safetensors file"):
            Delta.load(path)
        assert path.read_bytes() == content, how
    with pytest.raises(IntegrityError, match="There is no file"):
        Delta.load(tmp_path / "absent.safetensors")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    Bundle({"weight": torch.ones(2)}, {"kind": "record"}).save(tmp_path / "record.safetensors")
    with pytest.raises(IntegrityError, match="holds no Delta"):
        Delta.load(tmp_path / "record.safetensors")


def test_the_digest_is_of_float32_numbers_names_and_shapes() -> None:
    weight = torch.randn(3, 4).half()
    known = digest({"weight": weight})
    assert digest({"weight": weight.float()}) == known
    assert digest({"weight": weight.reshape(4, 3)}) != known
    assert digest({"gain": weight}) != known
    nudged = weight.float()
    nudged[0, 0] = torch.nextafter(nudged[0, 0], torch.tensor(9.0))
    assert digest({"weight": nudged}) != known
    pair = {"a": torch.ones(1), "b": torch.zeros(1)}
    assert digest(pair) == digest(dict(reversed(pair.items())))
    assert digest({"weight": weight.float().t().contiguous().t()}) == known  # whatever the strides
