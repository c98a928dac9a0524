"""Facts about the eight rules: what each states, and every line of the card that holds exactly."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from expunge.aggregation import (
    Aggregation,
    Cata,
    CataMax,
    CataSum,
    Columns,
    FirstWriter,
    MaxMin,
    Mean,
    Sum,
    Unanimous,
    fold,
    fold_without,
    folded,
    kernels,
    shapes_of,
)
from expunge.aggregation import columns as columns_module
from expunge.aggregation.kernels import COUNTED_VOTES
from expunge.benchmarks.speed_aggregation import peak_slices
from expunge.changes.delta import Delta, Sparse
from expunge.changes.slices import SLICE, pieces_of
from expunge.changes.trim import trimmed
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import Bundle

BASE = "a" * 64
RULES: list[Aggregation[Any]] = [
    Mean(), Sum(), Cata(), CataSum(), CataMax(), Unanimous(), FirstWriter(), MaxMin(),
]  # fmt: skip
STREAMING = RULES[:-1]
VOTING = [Cata(), CataSum(), CataMax()]
D = 24

few = settings(
    max_examples=20, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
every_streaming_rule = pytest.mark.parametrize("rule", STREAMING, ids=lambda rule: rule.name)


def histories(exact: bool = False) -> st.SearchStrategy[Tensor]:
    """(T, D) task vectors with zeros and ties; ``exact``: eighths, whose sums do not round."""
    eighths = st.integers(-8, 8).map(lambda n: n / 8)
    finite = st.one_of(
        st.just(0.0), st.floats(0.0625, 4, width=32), st.floats(-4, -0.0625, width=32)
    )
    shapes = st.tuples(st.integers(1, 6), st.just(D))
    return arrays(np.float32, shapes, elements=eighths if exact else finite).map(torch.from_numpy)


def delta_of(vector: Tensor, sparse: bool = False) -> Delta:
    """Three parameters, one of them a scalar, that hold a flat vector (D,)."""
    delta = Delta(
        BASE,
        {"w": vector[:15].view(3, 5).clone(), "b": vector[15:23].clone(), "s": vector[23].clone()},
    )
    return delta.sparse() if sparse else delta


def deltas_of(history: Tensor) -> list[Delta]:
    """Dense and sparse in turn."""
    return [delta_of(vector, bool(number % 2)) for number, vector in enumerate(history)]


def flat(delta: Delta) -> Tensor:
    return torch.cat([delta.dense(name).reshape(-1) for name in ("w", "b", "s")])


def combined(
    rule: Aggregation[Any], history: Tensor, strengths: Sequence[float] | None = None
) -> Tensor:
    pairs = zip(deltas_of(history), strengths or [1.0] * len(history), strict=True)
    return flat(fold(rule, pairs))


def in_order(history: Tensor) -> Tensor:
    """The float32 sum over requests in their order (``Tensor.sum`` may take another)."""
    total = torch.zeros(history.shape[1])
    for vector in history:
        total = total + vector
    return total


def batch(name: str, history: Tensor) -> Tensor:
    """Every streaming rule from all vectors at once, written from the card's table."""
    count = len(history)
    positive, negative = in_order(history.clamp(min=0)), in_order((-history).clamp(min=0))
    ups, downs = (history > 0).sum(0), (history < 0).sum(0)
    up, down = positive > negative, negative > positive
    zero = torch.zeros(history.shape[1])
    if name == "mean":
        return in_order(history) / count
    if name == "sum":
        return in_order(history)
    if name == "unanimous":
        only_up, only_down = (ups > 0) & (downs == 0), (downs > 0) & (ups == 0)
        return torch.where(only_up, positive / ups, torch.where(only_down, -negative / downs, zero))
    if name == "first-writer":
        first = (history != 0).int().argmax(0)
        return history.gather(0, first[None])[0]
    per_sign = {
        "cata": (positive / ups, -negative / downs),
        "cata-sum": (positive, -negative),
        "cata-max": (history.max(0).values, history.min(0).values),
    }[name]
    return torch.where(up, per_sign[0], torch.where(down, per_sign[1], zero))


@every_streaming_rule
@given(history=histories())
@few
def test_the_stream_equals_the_batch_formula_to_the_last_bit(
    rule: Aggregation[Columns], history: Tensor
) -> None:
    assert torch.equal(combined(rule, history), batch(rule.name, history))


@given(history=histories(exact=True))
@few
def test_cata_is_ties_on_negated_vectors(history: Tensor) -> None:
    """TIES as published: sign of the sum, then the mean over the vectors of that sign."""
    elected = history.sum(0).sign()
    agree = (history.sign() == elected) & (history != 0)
    ties = (history * agree).sum(0) / agree.sum(0).clamp(min=1)
    assert torch.equal(combined(Cata(), history), ties)


@every_rule
@given(history=histories())
@few
def test_one_request_is_its_trimmed_negation(rule: Aggregation[Any], history: Tensor) -> None:
    change = trimmed(delta_of(history[0]).negated(), 0.3)
    assert torch.equal(flat(fold(rule, [(change, 1.0)])), flat(change))


@every_rule
@given(history=histories(), seed=st.integers(0, 99))
@few
def test_the_order_matters_only_where_a_rule_says_so(
    rule: Aggregation[Any], history: Tensor, seed: int
) -> None:
    if not rule.properties.order_independent:
        pytest.skip("seniority is the idea of this rule")
    # eighths: no coordinate is a tie in one order and none in another
    history = (history * 8).round() / 8
    shuffled = history[torch.randperm(len(history), generator=torch.Generator().manual_seed(seed))]
    torch.testing.assert_close(
        combined(rule, history), combined(rule, shuffled), rtol=1e-5, atol=1e-4
    )


def test_the_first_writer_depends_on_the_order() -> None:
    history = torch.stack([torch.ones(D), torch.full((D,), 2.0)])
    assert torch.equal(combined(FirstWriter(), history), history[0])
    assert torch.equal(combined(FirstWriter(), history.flip(0)), history[1])


@every_rule
@given(history=histories(), revoked=st.integers(0, 5))
@few
def test_revoking_equals_the_run_without_the_request(
    rule: Aggregation[Any], history: Tensor, revoked: int
) -> None:
    revoked %= len(history)
    pairs = [(delta, 0.5 + j) for j, delta in enumerate(deltas_of(history))]
    others = pairs[:revoked] + pairs[revoked + 1 :]
    shapes = pairs[0][0].shapes()
    without = fold_without(rule, pairs, {revoked}, shapes=shapes, base=BASE)
    assert torch.equal(flat(without), flat(fold(rule, others, shapes=shapes, base=BASE)))


def test_subtracting_from_the_sums_is_not_revoking() -> None:
    history = torch.randn(5, 4000, generator=torch.Generator().manual_seed(0))
    subtracted = in_order(history) - history[1]
    exact = in_order(history[[0, 2, 3, 4]])
    assert (subtracted == exact).float().mean() < 0.9
    torch.testing.assert_close(subtracted, exact, rtol=0, atol=1e-5)


@every_rule
@given(history=histories())
@few
def test_every_rule_is_odd(rule: Aggregation[Any], history: Tensor) -> None:
    assert torch.equal(combined(rule, -history), -combined(rule, history))


@every_rule
@given(history=histories())
@few
def test_every_rule_is_homogeneous_in_a_common_scale(
    rule: Aggregation[Any], history: Tensor
) -> None:
    whole = combined(rule, history)
    halves = combined(rule, history, [0.5] * len(history))
    assert torch.equal(halves, combined(rule, 0.5 * history))
    torch.testing.assert_close(halves, 0.5 * whole, rtol=1e-6, atol=1e-6)
    if rule.properties.streaming:  # a power of two does not round
        assert torch.equal(halves, 0.5 * whole)


def test_cata_is_not_homogeneous_in_the_scale_of_one_request() -> None:
    history = torch.stack([torch.ones(D), -2 * torch.ones(D)])
    assert torch.equal(combined(Cata(), history), history[1])
    assert torch.equal(combined(Cata(), history, [3.0, 1.0]), 3 * history[0])


@given(history=histories(exact=True))
@few
def test_unanimous_hurts_no_request_at_any_coordinate(history: Tensor) -> None:
    assert bool((history * combined(Unanimous(), history) >= 0).all())


@pytest.mark.parametrize("rule", VOTING, ids=lambda rule: rule.name)
@given(history=histories(exact=True))
@few
def test_the_vote_has_a_summed_margin_of_at_least_zero(
    rule: Aggregation[Columns], history: Tensor
) -> None:
    assert bool((combined(rule, history) * history.sum(0) >= 0).all())


@given(history=histories())
@few
def test_the_first_writer_keeps_every_margin_exactly(history: Tensor) -> None:
    rule = FirstWriter()
    state = rule.empty(delta_of(history[0]).shapes(), BASE)
    margins: list[Tensor] = []
    for j, delta in enumerate(deltas_of(history)):
        state = rule.add(state, delta)
        now = flat(rule.combine(state))
        margins.append(history[j] * now)
        for earlier in range(j):
            assert torch.equal(history[earlier] * now, margins[earlier])


@given(history=histories())
@few
def test_mean_and_sum_have_one_direction(history: Tensor) -> None:
    assert torch.equal(combined(Mean(), history), combined(Sum(), history) / len(history))


@given(history=histories())
@few
def test_cata_max_never_shrinks_while_the_sign_holds(history: Tensor) -> None:
    before = torch.zeros(D)
    for t in range(1, len(history) + 1):
        now = combined(CataMax(), history[:t])
        held = now.sign() == before.sign()
        assert bool((now.abs() >= before.abs())[held].all())
        before = now


@every_rule
@given(history=histories(), strength=st.floats(-2, 2, width=32))
@few
def test_numba_and_torch_give_the_same_bits(
    rule: Aggregation[Any], history: Tensor, strength: float
) -> None:
    strengths = [strength, *[0.7] * (len(history) - 1)]
    fused = combined(rule, history, strengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "compiled", lambda loop, arguments: None)
        assert torch.equal(combined(rule, history, strengths), fused)


@every_streaming_rule
def test_large_tensors_on_several_threads_give_the_same_bits(rule: Aggregation[Columns]) -> None:
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(2 * SLICE // 1024 + 3, 1024, generator=generator)
    pairs = [
        (Delta(BASE, {"w": wide}), 0.3),
        (trimmed(Delta(BASE, {"w": wide.flip(0)}), 0.1), 1.7),
        (Delta(BASE, {"w": wide.double().T.contiguous().T}), -1.0),
    ]
    one = fold(rule, pairs).dense("w")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(fold(rule, pairs).dense("w"), one)
    finally:
        torch.set_num_threads(threads)
    stacked = torch.stack(
        [(delta.dense("w").float() * strength).reshape(-1) for delta, strength in pairs]
    )
    assert torch.equal(one.view(-1), batch(rule.name, stacked))


def test_without_numba_the_torch_form_is_used_and_a_warning_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"no {name}")

    kernels.compiled.cache_clear()
    monkeypatch.setattr("importlib.import_module", missing)
    history = torch.ones(2, D)
    with pytest.warns(RuntimeWarning, match="numba cannot compile"):
        assert torch.equal(combined(Cata(), history), torch.ones(D))
    kernels.compiled.cache_clear()


@every_rule
@given(history=histories())
@few
def test_a_stored_state_goes_on_as_if_it_had_not_been_stored(
    rule: Aggregation[Any], history: Tensor, tmp_path: Path
) -> None:
    deltas = deltas_of(history)
    state = folded(rule, [(delta, 0.5) for delta in deltas])
    state.bundle().save(tmp_path / "state.safetensors")
    opened = rule.restore(Bundle.load(tmp_path / "state.safetensors"))
    assert torch.equal(flat(rule.combine(opened)), flat(rule.combine(state)))
    more = delta_of(history[0] + 1)
    assert torch.equal(
        flat(rule.combine(rule.add(opened, more))), flat(rule.combine(rule.add(state, more)))
    )


def test_a_restored_state_owns_its_tensors() -> None:
    rule, delta = Cata(), delta_of(torch.ones(D))
    state = folded(rule, [(delta, 1.0)])
    bundle = state.bundle()
    rule.add(rule.restore(bundle), delta_of(-3 * torch.ones(D)))
    assert torch.equal(flat(rule.combine(state)), torch.ones(D))


def test_a_state_is_refused_by_another_rule_and_when_a_column_is_missing() -> None:
    bundle = folded(Cata(), [(delta_of(torch.ones(D)), 1.0)]).bundle()
    with pytest.raises(IntegrityError, match="a state of cata, and a state of unanimous"):
        Unanimous().restore(bundle)
    with pytest.raises(IntegrityError, match="no state"):
        Cata().restore(Bundle())
    tensors = {key: value for key, value in bundle.tensors.items() if key != "ups:w"}
    with pytest.raises(IntegrityError, match="no sound column 'ups' for 'w'"):
        Cata().restore(Bundle(tensors, bundle.facts))


@every_rule
def test_a_delta_that_does_not_fit_is_refused_and_the_state_stays(rule: Aggregation[Any]) -> None:
    good = delta_of(torch.arange(D) - 7.0)
    state = folded(rule, [(good, 1.0)])
    before = flat(rule.combine(state))
    sound = {name: good.entries[name] for name in good.entries}
    with pytest.raises(IntegrityError, match="made for the base bbb"):
        rule.add(state, replace(good, base="b" * 64))
    with pytest.raises(IntegrityError, match="'new', which the state"):
        rule.add(state, Delta(BASE, {**sound, "new": torch.ones(2)}))
    with pytest.raises(IntegrityError, match=r"shape \(5, 3\) in the change and \(3, 5\)"):
        rule.add(state, Delta(BASE, {"w": torch.ones(5, 3)}))
    for indices in ([0, 15], [1, 1], [3, 2], [-1, 2]):
        damaged = Sparse(torch.tensor(indices), torch.ones(2), torch.Size((3, 5)))
        with pytest.raises(IntegrityError, match="'w' is damaged"):
            rule.add(state, Delta(BASE, {**sound, "w": damaged}))
    for strength in (float("nan"), float("inf"), 1e300):
        with pytest.raises(ExpungeError, match="a finite number is expected"):
            rule.add(state, good, strength)
    with pytest.raises(IntegrityError, match="NaN or infinite"):
        Delta(BASE, {"w": torch.full((3, 5), float("nan"))})
    assert torch.equal(flat(rule.combine(state)), before)


def test_a_delta_may_name_some_of_the_parameters() -> None:
    whole, part = delta_of(torch.ones(D)), Delta(BASE, {"b": torch.full((8,), 3.0)})
    result = fold(Cata(), [(whole, 1.0), (part, 1.0)])
    assert torch.equal(result.dense("b"), torch.full((8,), 2.0))
    assert torch.equal(result.dense("w"), torch.ones(3, 5))
    assert shapes_of([part, whole]) == whole.shapes()
    with pytest.raises(IntegrityError, match="in one change"):
        shapes_of([part, Delta(BASE, {"b": torch.ones(9)})])


def test_counts_end_with_a_clear_error() -> None:
    delta = delta_of(torch.ones(D))
    state = folded(Cata(), [(delta, 1.0)])
    full = replace(state, requests=columns_module.LARGEST_COUNT - 1)
    for held in full.values.values():
        held["ups"].fill_(columns_module.LARGEST_COUNT - 1)
    full = Cata().add(full, delta)
    assert int(full.values["b"]["ups"].max()) == 32_767
    with pytest.raises(ExpungeError, match="16-bit counts end at 32767"):
        Cata().add(full, delta)
    Sum().add(replace(folded(Sum(), [(delta, 1.0)]), requests=40_000), delta)


def test_a_sum_beyond_float32_is_refused_on_combining() -> None:
    huge = delta_of(torch.full((D,), 3e38))
    with pytest.raises(IntegrityError, match="NaN or infinite"):
        fold(Sum(), [(huge, 1.0), (huge, 1.0)])


def test_folding_nothing_needs_a_base_and_gives_no_change() -> None:
    with pytest.raises(ExpungeError, match="no request to fold"):
        fold(Cata(), [])
    for rule in RULES:
        nothing = fold(rule, [], shapes=delta_of(torch.ones(D)).shapes(), base=BASE)
        assert nothing.count() == 0
    with pytest.raises(ExpungeError, match="Request 3 is to be revoked"):
        fold_without(Cata(), [(delta_of(torch.ones(D)), 1.0)], {3})


def test_pieces_of_strided_tensors_cover_them_in_canonical_order() -> None:
    tensor = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5).permute(3, 1, 0, 2)
    for size in (1, 3, 7, 24, 1000):
        pieces = list(pieces_of(tensor, size))
        assert torch.equal(torch.cat([p.values() for p in pieces]), tensor.reshape(-1))
        assert all(p.view.numel() <= size for p in pieces)
        starts = np.cumsum([0, *[p.view.numel() for p in pieces]])[:-1]
        assert [p.start for p in pieces] == starts.tolist()


def test_the_stated_properties_are_those_of_the_architecture() -> None:
    stated = {
        rule.name: (
            rule.properties.streaming,
            rule.properties.flat_cost,
            rule.properties.order_independent,
        )
        for rule in RULES
    }
    streaming = (True, True, True)
    assert stated == {
        **dict.fromkeys(["mean", "sum", "cata", "cata-sum", "cata-max", "unanimous"], streaming),
        "first-writer": (True, True, False),
        "max-min": (False, False, True),
    }
    assert all(rule.properties.persistence for rule in RULES)


@every_streaming_rule
def test_the_state_does_not_grow(rule: Aggregation[Columns]) -> None:
    def size(requests: int) -> int:
        state = folded(rule, [(delta_of(torch.ones(D)), 1.0)] * requests)
        return sum(t.numel() * t.element_size() for t in state.bundle().tensors.values())

    assert size(1) == size(50)
    if rule.name == "cata":
        assert size(1) == 12 * D


def test_the_torch_form_of_an_added_request_needs_two_slices_at_most() -> None:
    rule, plain = Cata(), replace(COUNTED_VOTES, loop="")
    generator = torch.Generator().manual_seed(0)
    dense = Delta(BASE, {"w": torch.randn(3, SLICE, generator=generator)})
    strided = Delta(BASE, {"w": torch.randn(SLICE, 3, generator=generator).T})
    for delta in (dense, trimmed(dense, 0.3), strided):
        state = rule.empty(delta.shapes(), BASE)
        for absorb in (plain, COUNTED_VOTES):
            assert peak_slices(partial(state.added, delta, 0.5, absorb)) <= 2
