"""The average gap: zero for the oracle, a mean of parts, in the unit of the metric."""

import math

import pytest

from expunge.audit.gap import Scores, average_gap, gaps, unit_of
from expunge.signals.accuracy import RETAINED_ACCURACY
from expunge.signals.errors import MEAN_ABSOLUTE_ERROR

ORACLE = Scores((0.1, 0.3), (0.0, 0.2), 0.9)
FOUND = Scores((0.3, 0.2), (0.5, 0.1), 0.8)


def test_the_gap_is_the_mean_of_three_parts() -> None:
    assert gaps(FOUND, ORACLE) == pytest.approx(
        {"forget rows": 0.3, "held-out": 0.15, "retained": 0.1}
    )
    assert average_gap(FOUND, ORACLE) == pytest.approx(0.55 / 3)
    assert average_gap(ORACLE, ORACLE) == 0


def test_forgetting_more_than_the_oracle_is_as_far_as_forgetting_less() -> None:
    less, more = (Scores((0.1, 0.3), (0.0, 0.2 + d), 0.9) for d in (0.1, -0.1))
    assert average_gap(less, ORACLE) == pytest.approx(average_gap(more, ORACLE))


def test_a_request_without_held_out_rows_is_left_out() -> None:
    one = gaps(Scores((math.nan, 0.2), (0.5, 0.1), 0.8), Scores((math.nan, 0.3), (0.0, 0.2), 0.9))
    assert one["held-out"] == pytest.approx(0.1)
    none = gaps(Scores((math.nan,), (0.5,), 0.8), Scores((math.nan,), (0.0,), 0.9))
    assert set(none) == {"forget rows", "retained"}


def test_errors_are_counted_in_shares_of_the_originals() -> None:
    original = Scores((math.nan,), (4.0,), 5.0)
    assert unit_of(RETAINED_ACCURACY, original) == 1.0
    unit = unit_of(MEAN_ABSOLUTE_ERROR, original)
    parts = gaps(Scores((math.nan,), (6.0,), 5.0), Scores((math.nan,), (7.0,), 5.5), unit)
    assert parts == pytest.approx({"forget rows": 0.2, "retained": 0.1})
