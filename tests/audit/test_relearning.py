"""Facts about relearning speed, with levels that are never reached."""

import pytest

from expunge.audit.relearning import relearning_speed, steps_to_reach
from expunge.errors import ExpungeError


def test_the_first_step_at_the_level_counts_even_if_the_curve_falls_again() -> None:
    assert steps_to_reach([0.1, 0.5, 0.9, 0.2], 0.9).steps == 2
    assert steps_to_reach([0.9, 0.1], 0.9).steps == 0


def test_a_level_never_reached_is_said_so() -> None:
    found = steps_to_reach([0.1, 0.2, 0.3], 0.9)
    assert found.steps is None
    assert str(found) == ">2"


def test_a_model_that_relearns_like_the_oracle_has_speed_one() -> None:
    curve = [0.1, 0.4, 0.7, 0.9]
    assert relearning_speed(curve, curve, before=0.9).ratio == 1


def test_a_model_that_still_knows_relearns_faster() -> None:
    found = relearning_speed([0.1, 0.9, 0.9, 0.9, 0.9], [0.1, 0.2, 0.3, 0.5, 0.9], before=0.9)
    assert (found.model.steps, found.oracle.steps, found.ratio) == (1, 4, 0.25)
    assert str(found) == "0.25"


def test_bounds_where_one_of_the_two_does_not_arrive() -> None:
    slow, fast = [0.1, 0.1, 0.2, 0.3], [0.1, 0.9, 0.9, 0.9]
    above, below = relearning_speed(slow, fast, 0.9), relearning_speed(fast, slow, 0.9)
    assert (above.relation, above.ratio) == (">", 3)
    assert below.relation == "<"
    assert below.ratio == pytest.approx(1 / 3)
    assert str(below) == "<0.33"


def test_no_ratio_where_neither_arrives_or_the_oracle_stands_there() -> None:
    low, high = [0.1, 0.2], [0.9, 0.9]
    assert relearning_speed(low, low, 0.9).ratio is None
    assert relearning_speed(low, high, 0.9).relation == "unknown"
    assert relearning_speed(high, high, 0.9).ratio == 1
    assert relearning_speed(high, low, 0.9).ratio == 0


def test_empty_curves_other_lengths_and_nothing_to_relearn_are_refused() -> None:
    with pytest.raises(ExpungeError, match="relearning curve"):
        steps_to_reach([], 0.9)
    with pytest.raises(ExpungeError, match="equally long"):
        relearning_speed([0.1], [0.1, 0.2], 0.9)
    with pytest.raises(ExpungeError, match=r"before of 0\.0"):
        relearning_speed([0.1], [0.1], 0.0)
