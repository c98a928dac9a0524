"""Facts about readings: the value beside the oracle's, and the mean of their gaps."""

import math

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.signals import UNLEARNING_ACCURACY, Reading, average_gap, beside, beside_pairs


def test_a_reading_has_mean_and_deviation_of_the_oracles() -> None:
    found = beside(UNLEARNING_ACCURACY, 0.10, [0.04, 0.05, 0.06], original=0.0)
    assert (found.oracle, found.sd, found.oracles) == pytest.approx((0.05, 0.01, 3))
    assert (found.gap, found.difference, found.deviations) == pytest.approx((0.05, 0.05, 5))
    assert str(found) == (
        "unlearning accuracy (UA) 0.100 (oracle 0.050 ± 0.010 of 3, gap 0.050, original 0.000)"
    )


def test_forgetting_more_than_the_oracle_is_as_far_as_forgetting_less() -> None:
    less, more = (beside(UNLEARNING_ACCURACY, value, [0.5]) for value in (0.3, 0.7))
    assert less.gap == pytest.approx(more.gap)
    assert less.difference == pytest.approx(-more.difference)


def test_one_oracle_has_no_deviation_and_equal_ones_no_unit() -> None:
    alone = beside(UNLEARNING_ACCURACY, 0.3, torch.tensor([0.5]))
    assert alone.sd is None
    assert "oracle 0.500 one only" in str(alone)
    assert beside(UNLEARNING_ACCURACY, 0.3, [0.5, 0.5]).deviations is None


def test_the_reference_of_a_comparison_is_oracle_against_oracle() -> None:
    found = beside_pairs(UNLEARNING_ACCURACY, lambda a, b: abs(a - b), 10.0, [0.0, 1.0, 3.0], 20.0)
    assert found.value == pytest.approx((10 + 9 + 7) / 3)
    assert found.original == pytest.approx((20 + 19 + 17) / 3)
    assert (found.oracle, found.sd, found.oracles) == pytest.approx((2.0, 1.0, 3))


def test_the_average_gap_is_zero_for_the_oracle_and_a_mean_of_parts() -> None:
    def parts(*values: float) -> list[Reading]:
        oracle = (0.05, 1.0, 0.95, 0.13)
        return [beside(UNLEARNING_ACCURACY, v, [o]) for v, o in zip(values, oracle, strict=True)]

    assert average_gap(parts(0.05, 1.0, 0.95, 0.13)) == 0
    assert average_gap(parts(0.01, 0.98, 0.99, 0.03)) == pytest.approx(0.2 / 4)


def test_readings_without_oracles_or_numbers_are_refused() -> None:
    with pytest.raises(ExpungeError, match="at least one oracle"):
        beside(UNLEARNING_ACCURACY, 0.5, [])
    with pytest.raises(ExpungeError, match="finite numbers"):
        beside(UNLEARNING_ACCURACY, 0.5, [math.nan])
    with pytest.raises(ExpungeError, match="1 oracles; at least 2"):
        beside_pairs(UNLEARNING_ACCURACY, lambda a, b: a - b, 0.5, [0.1])
    with pytest.raises(ExpungeError, match="got no reading"):
        average_gap([])
