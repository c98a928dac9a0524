"""Facts about max-min and the nearest point of a convex hull."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from expunge.aggregation import MaxMin, fold
from expunge.aggregation.min_norm import Array, min_norm_weights
from expunge.changes.delta import Delta


def units(count: int, size: int, seed: int) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def combined(vectors: Array) -> Array:
    pairs = [(Delta("a", {"w": torch.tensor(v, dtype=torch.float32)}), 1.0) for v in vectors]
    return fold(MaxMin(), pairs).dense("w").double().numpy()


@given(count=st.integers(1, 12), size=st.integers(1, 8), seed=st.integers(0, 10_000))
@settings(max_examples=100, derandomize=True)
def test_the_weights_meet_the_optimality_conditions(count: int, size: int, seed: int) -> None:
    """<x, u_j> >= |x|^2 for all j, which proves the nearest point; duplicates and opposites too."""
    vectors = units(count, size, seed)
    vectors = np.concatenate([vectors, vectors[: seed % 3], -vectors[: seed % 5 == 0]])
    gram = vectors @ vectors.T
    weights = min_norm_weights(gram)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    assert (gram @ weights).min() >= weights @ gram @ weights - 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_no_direction_of_scipy_has_a_larger_worst_request(seed: int) -> None:
    scales = np.random.default_rng(seed).uniform(0.5, 2, size=(4, 1))
    vectors = units(4, 8, seed)
    ours = combined(vectors * scales)
    ours /= np.linalg.norm(ours)
    best = minimize(
        lambda z: -z[-1],
        np.append(ours * 0.5, -1.0),
        constraints=[
            {"type": "ineq", "fun": lambda z: vectors @ z[:-1] - z[-1]},
            {"type": "ineq", "fun": lambda z: 1 - z[:-1] @ z[:-1]},
        ],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert (vectors @ ours).min() == pytest.approx(-best.fun, abs=1e-4)
    drawn = units(5000, 8, seed + 100)
    assert (drawn @ vectors.T).min(axis=1).max() <= (vectors @ ours).min() + 1e-6


def test_orthogonal_requests_of_one_norm_give_the_plain_sum() -> None:
    vectors = 3 * np.eye(4)
    assert combined(vectors) == pytest.approx(vectors.sum(0), abs=1e-6)


def test_duplicates_collinear_and_zero_requests() -> None:
    one = np.array([1.0, 2.0, 0.0])
    assert combined(np.stack([one, one])) == pytest.approx(2 * one, rel=1e-6)
    assert combined(np.stack([one, 3 * one])) == pytest.approx(4 * one, rel=1e-6)
    assert combined(np.stack([one, 0 * one])) == pytest.approx(one, rel=1e-6)
    assert not combined(np.stack([one, -2 * one])).any()
    assert not combined(np.zeros((2, 3))).any()


def test_nearly_equal_requests_do_not_blow_up() -> None:
    vectors = np.stack([np.array([1.0, 1e-6 * j, 0.0]) for j in range(8)])
    assert np.linalg.norm(combined(vectors)) == pytest.approx(8, rel=1e-5)


def test_sparse_and_dense_requests_have_the_same_inner_products() -> None:
    generator = torch.Generator().manual_seed(3)
    dense = [
        torch.randn(300, generator=generator) * (torch.rand(300, generator=generator) < share)
        for share in (0.2, 0.1, 1.0, 0.0)
    ]
    rule = MaxMin()
    state = rule.empty({"w": torch.Size((300,))}, "a")
    for number, vector in enumerate(dense):
        delta = Delta("a", {"w": vector})
        state = rule.add(state, delta if number else delta.sparse())
    expected = torch.stack(dense).double() @ torch.stack(dense).double().T
    torch.testing.assert_close(state.gram, expected, rtol=1e-12, atol=1e-12)
