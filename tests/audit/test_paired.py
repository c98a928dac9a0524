"""Tests over seeds: exact p-values, Holm's correction, and what few seeds cannot show."""

import numpy as np
import pytest
from scipy import stats

from expunge.audit.paired import (
    compared_in_pairs,
    holm,
    seeds_needed,
    sign_flip,
    smallest_p,
    student_interval,
)
from expunge.errors import ExpungeError


@pytest.mark.parametrize("count", [1, 3, 6, 10])
def test_differences_of_one_sign_reach_the_smallest_p(count: int) -> None:
    differences = [0.1 + 0.01 * k for k in range(count)]
    assert sign_flip(differences) == smallest_p(count) == 2 / 2**count
    assert sign_flip([-d for d in differences]) == sign_flip(differences)


def test_three_seeds_cannot_go_below_a_quarter() -> None:
    assert sign_flip([5.0, 6.0, 7.0]) == 0.25


def test_equal_methods_have_p_one() -> None:
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip([0.3, -0.3]) == 1.0


def test_the_exact_test_is_that_of_scipy() -> None:
    generator = np.random.default_rng(3)
    for count in (4, 7, 9):
        values = generator.normal(0.4, 1.0, count)
        theirs = stats.permutation_test(
            (values,), lambda x: x.mean(), permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip(values.tolist()) == pytest.approx(float(theirs.pvalue))


def test_rounding_does_not_take_the_observed_pattern_out() -> None:
    assert sign_flip([0.1, 0.2, 0.30000000000000004, 0.7, 1e-17]) == 2 / 2**5 * 2
    assert sign_flip([0.1, -0.7, 0.7, -0.1]) == 1.0  # whose sum is 0 only up to rounding


def test_many_seeds_are_drawn_and_the_p_is_near_the_exact_one() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(0.45, 1.0, 20)
    exact = stats.ttest_1samp(values, 0.0).pvalue
    assert sign_flip(values.tolist()) == pytest.approx(float(exact), abs=0.01)
    assert sign_flip(values.tolist()) == sign_flip(values.tolist())


def test_holm_on_a_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("pairs", [1, 3, 10, 28])
def test_the_seeds_needed_are_the_fewest_that_can_reach_the_level(pairs: int) -> None:
    count = seeds_needed(pairs)
    assert pairs * 2 / 2**count <= 0.05 < pairs * 2 / 2 ** (count - 1)


def test_the_interval_is_students() -> None:
    values = [0.1, 0.4, 0.2, 0.35]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert student_interval(values) == pytest.approx((expected.low, expected.high))
    assert student_interval([0.1]) is None


def test_pairs_are_tested_on_the_seeds_that_both_have() -> None:
    found = compared_in_pairs(
        {"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {1: 1.0, 2: 1.0, 3: 9.0}, "c": {}}
    )
    [pair] = found
    assert (pair.first, pair.second, pair.seeds) == ("a", "b", 2)
    assert pair.difference == 1.5
    assert pair.p == pair.holm == pair.smallest == 0.5


@pytest.mark.parametrize("wrong", [[], [float("nan"), 1.0]])
def test_nothing_to_test_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ExpungeError, match="finite"):
        sign_flip(wrong)
