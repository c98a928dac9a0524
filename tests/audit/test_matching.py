"""Matching: the factor that keeps the retained score, in both directions of a metric."""

import pytest
import torch
from torch import nn

from expunge.audit.matching import Level, Line, common_factor, matched
from expunge.changes.strength import Search
from expunge.errors import ExpungeError
from expunge.signals.accuracy import RETAINED_ACCURACY
from expunge.signals.errors import MEAN_ABSOLUTE_ERROR

SEARCH = Search(upper=4.0, points=16, halvings=6)


class One(nn.Module):
    """One weight, so that a model is a number."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.register_buffer("count", torch.tensor([weight]))


LINE = Line.through(One(0.0), One(1.0))


def weight(model: nn.Module) -> float:
    return float(model.get_parameter("weight").detach())


def test_the_line_goes_through_both_models_and_on() -> None:
    assert [weight(LINE.at(f)) for f in (0.0, 0.5, 1.0, 2.5)] == [0.0, 0.5, 1.0, 2.5]
    assert float(LINE.at(1.0).get_buffer("count")) == 1.0
    assert float(LINE.at(0.5).get_buffer("count")) == 0.0


def test_an_accuracy_may_lose_points_and_an_error_may_grow_by_a_share() -> None:
    accuracy = Level(RETAINED_ACCURACY, 0.9, 0.02)
    assert accuracy.kept(0.8801)
    assert not accuracy.kept(0.8799)
    error = Level(MEAN_ABSOLUTE_ERROR, 50.0, 0.02)
    assert error.kept(50.99)
    assert not error.kept(51.01)
    assert error.kept(10.0)


@pytest.mark.parametrize("turn", [0.3, 1.7])
def test_the_largest_factor_that_keeps_the_level_is_found(turn: float) -> None:
    level = Level(MEAN_ABSOLUTE_ERROR, 1.0, 0.5)
    factor = common_factor(
        LINE, lambda m: 1.0 if weight(m) <= turn else 2.0, level, SEARCH, beyond=True
    )
    assert factor == pytest.approx(turn, abs=4 / 16 / 2**6)
    assert factor <= turn


def test_new_weights_count_as_they_are_whatever_lies_between() -> None:
    level, upper = Level(RETAINED_ACCURACY, 0.9, 0.02), Search(upper=1.0)

    def barrier(model: nn.Module) -> float:
        return 0.1 if 0.2 < weight(model) < 0.8 else 0.9

    assert common_factor(LINE, barrier, level, upper, beyond=False) == 1.0
    assert common_factor(LINE, barrier, level, upper, beyond=True) < 0.25


def test_deltas_are_matched_up_to_four_times_and_new_weights_as_they_are_at_most() -> None:
    level, base, after = Level(RETAINED_ACCURACY, 0.9, 0.0), One(0.0), One(1.0)
    for replaced, most in ((False, 4.0), (True, 1.0)):
        factor, model = matched(base, after, lambda m: 0.9, level, replaced=replaced)
        assert factor == weight(model) == most
    factor, model = matched(
        base, after, lambda m: 0.9 if weight(m) < 0.5 else 0.1, level, replaced=True
    )
    assert 0.4 < factor < 0.5
    assert weight(model) == pytest.approx(factor)


def test_a_model_that_cannot_be_scored_does_not_keep_the_level() -> None:
    def scored(model: nn.Module) -> float:
        if weight(model) > 2:
            raise ExpungeError("The model answers with NaN.")
        return 0.9

    level = Level(RETAINED_ACCURACY, 0.9, 0.0)
    assert common_factor(LINE, scored, level, SEARCH, beyond=True) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0])
def test_a_tolerance_outside_its_range_is_refused(tolerance: float) -> None:
    with pytest.raises(ExpungeError, match="tolerance"):
        Level(RETAINED_ACCURACY, 0.9, tolerance)
