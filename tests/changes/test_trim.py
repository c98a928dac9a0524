"""Facts about the trim: the exact count over the whole vector, ties, and nothing else changed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from expunge.changes.delta import Delta, Sparse
from expunge.changes.slices import QUARTER
from expunge.changes.trim import trimmed
from expunge.errors import ExpungeError

few = settings(max_examples=60, derandomize=True)
VALUES = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-1, 1, width=32, allow_nan=False),
    st.sampled_from([1e-45, -1e-45, 1e-38, 3e38, -0.0]),
)


def delta_of(vector: Tensor, sparse: bool) -> Delta:
    """Two parameters whose sorted names give the canonical order; stored in the other order."""
    delta = Delta("a", {"b": vector[12:].clone(), "a": vector[:12].view(3, 4).clone()})
    return delta.sparse() if sparse else delta


def flat(delta: Delta) -> Tensor:
    return torch.cat([delta.dense(name).reshape(-1) for name in sorted(delta.entries)])


@given(
    vector=arrays(np.float32, 30, elements=VALUES).map(torch.from_numpy),
    fraction=st.floats(0.01, 1),
    sparse=st.booleans(),
)
@few
def test_exactly_the_largest_are_kept_and_ties_go_to_the_first(
    vector: Tensor, fraction: float, sparse: bool
) -> None:
    keep = max(1, round(fraction * 30))
    order = np.argsort(-vector.abs().numpy(), kind="stable")[:keep]
    expected = torch.zeros(30)
    expected[order] = vector[order]
    result = trimmed(delta_of(vector, sparse), fraction)
    assert torch.equal(flat(result), expected)
    assert result.count() == min(keep, int(vector.count_nonzero()))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
def test_equal_magnitudes_are_counted_exactly(fraction: float) -> None:
    signs = torch.where(torch.arange(30) % 2 == 0, 1.0, -1.0)
    result = flat(trimmed(delta_of(signs, False), fraction))
    keep = round(fraction * 30)
    assert torch.equal(result[:keep], signs[:keep])
    assert result.count_nonzero() == keep


def test_keeping_all_reproduces_the_dense_vector() -> None:
    vector = torch.randn(30, generator=torch.Generator().manual_seed(0))
    result = trimmed(delta_of(vector, False), 1)
    assert torch.equal(flat(result), vector)
    assert all(isinstance(entry, Tensor) for entry in result.entries.values())


def test_few_values_are_stored_sparse_and_say_how_many_were_kept() -> None:
    vector = torch.arange(30.0) + 1
    result = trimmed(delta_of(vector, False), 0.1)
    assert isinstance(result.entries["a"], Sparse)
    assert result.facts["kept_fraction"] == 0.1
    assert torch.equal(flat(result), vector * (vector > 27))


def test_large_and_strided_tensors_are_trimmed_as_a_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(3, QUARTER + 5, generator=generator)
    tall = torch.randn(70_000, 3, generator=generator).T
    result = trimmed(Delta("a", {"tall": tall, "wide": wide.half().float()}), 0.2)
    whole = torch.cat([tall.reshape(-1), wide.half().float().reshape(-1)])
    order = np.argsort(-whole.abs().numpy(), kind="stable")[: round(0.2 * len(whole))]
    expected = torch.zeros(len(whole))
    expected[order] = whole[order]
    assert torch.equal(flat(result), expected)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ExpungeError, match="above 0 and at most 1"):
        trimmed(delta_of(torch.ones(30), False), fraction)
