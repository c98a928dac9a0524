"""Distances of sets of features: on equal sets, on known distributions, on bad input."""

import pytest
import torch

from expunge.data import digits
from expunge.errors import ExpungeError
from expunge.signals.frechet import frechet_distance, kernel_distance


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    return digits.tensors(digits.load("train"))["image"].flatten(1)[:, 16:48]


def test_a_set_is_at_no_distance_from_itself(features: torch.Tensor) -> None:
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-6)


def test_two_normal_distributions_are_as_far_apart_as_the_formula_says() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    other = torch.randn(200_000, 3, generator=generator, dtype=torch.float64) * 2 + 1
    assert frechet_distance(one, other) == pytest.approx(3 * 1 + 3 * (2 - 1) ** 2, rel=0.02)


def test_rotating_both_sets_changes_nothing(features: torch.Tensor) -> None:
    turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(1)))[0]
    one, other = features[:500], features[500:1000]
    plain = frechet_distance(one, other)
    assert frechet_distance(one @ turn, other @ turn) == pytest.approx(plain, rel=1e-3)


def test_two_halves_are_nearer_the_more_rows_there_are(features: torch.Tensor) -> None:
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(2))
    few, many = order[:200], order[:1000]
    far, near = (
        frechet_distance(features[part[: len(part) // 2]], features[part[len(part) // 2 :]])
        for part in (few, many)
    )
    assert near < far / 2


def test_the_kernel_distance_of_two_halves_is_about_zero(features: torch.Tensor) -> None:
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(3))
    halves = kernel_distance(features[order[:500]], features[order[500:1000]])
    labels = digits.tensors(digits.load("train"))["label"]
    classes = kernel_distance(features[labels < 5], features[labels >= 5])
    assert abs(halves) < 0.05 * classes


def test_sets_that_cannot_be_compared_are_said(features: torch.Tensor) -> None:
    with pytest.raises(ExpungeError, match="at least two rows"):
        frechet_distance(features[:1], features)
    with pytest.raises(ExpungeError, match="as many numbers"):
        kernel_distance(features, features[:, :3])
    broken = features.clone()
    broken[0, 0] = float("nan")
    with pytest.raises(ExpungeError, match="NaN or infinite"):
        frechet_distance(features, broken)
