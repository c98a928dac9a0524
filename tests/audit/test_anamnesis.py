"""Facts about the anamnesis index: its level, its unit, and curves that do not arrive."""

import pytest

from expunge.audit.anamnesis import anamnesis_index, counted_to_the_end
from expunge.errors import ExpungeError
from expunge.signals import ACCURACY, MEAN_ABSOLUTE_ERROR

ORACLE = [0.0, 0.2, 0.6, 0.94, 0.96, 0.99]
"""Accuracy on the forget rows; the level of 0.95 is reached after four steps."""


def test_the_oracles_index_is_one_and_the_originals_one_over_its_time() -> None:
    assert anamnesis_index(ORACLE, ORACLE, 1.0, ACCURACY).ratio == 1
    original = [1.0, 0.99, 1.0, 1.0, 1.0, 1.0]
    assert anamnesis_index(original, ORACLE, 1.0, ACCURACY).ratio == 1 / 4


def test_the_level_is_a_share_of_the_originals_performance() -> None:
    found = anamnesis_index([0.1, 0.75, 0.8], [0.1, 0.2, 0.77], 0.8, ACCURACY)
    assert found.level == pytest.approx(0.76)
    assert (found.model.steps, found.oracle.steps, found.ratio) == (2, 2, 1)


def test_errors_are_relearned_downwards() -> None:
    found = anamnesis_index([3.0, 1.05, 1.0], [3.0, 2.0, 1.04], 1.0, MEAN_ABSOLUTE_ERROR)
    assert found.level == pytest.approx(1.05)
    assert (found.model.steps, found.oracle.steps, found.ratio) == (1, 2, 0.5)


def test_bounds_where_one_does_not_arrive_within_the_cap() -> None:
    slow = [0.0, 0.1, 0.1, 0.2, 0.2, 0.3]
    assert str(anamnesis_index(slow, ORACLE, 1.0, ACCURACY)) == ">1.25"
    assert str(anamnesis_index(ORACLE, slow, 1.0, ACCURACY)) == "<0.80"
    for pair in ((slow, ORACLE), (ORACLE, slow), (ORACLE, ORACLE)):
        found = anamnesis_index(*pair, 1.0, ACCURACY)
        assert counted_to_the_end(found) == found.ratio
    assert counted_to_the_end(anamnesis_index(slow, slow, 1.0, ACCURACY)) == 1
    assert anamnesis_index(slow, slow, 1.0, ACCURACY).ratio is None
    assert anamnesis_index([1.0], [0.0], 1.0, ACCURACY).relation == "unknown"  # before any step


def test_wrong_curves_are_refused() -> None:
    with pytest.raises(ExpungeError, match="performance 0"):
        anamnesis_index(ORACLE, ORACLE, 0.0, ACCURACY)
    with pytest.raises(ExpungeError, match="margin of 5"):
        anamnesis_index(ORACLE, ORACLE, 1.0, ACCURACY, margin=5)
    with pytest.raises(ExpungeError, match="6 values of the model and 5"):
        anamnesis_index(ORACLE, ORACLE[:5], 1.0, ACCURACY)
    with pytest.raises(ExpungeError, match="finite"):
        anamnesis_index([], [], 1.0, ACCURACY)
