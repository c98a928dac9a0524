"""A fall of the retained score is stated for accuracies and, mirrored, for errors."""

import math

import pytest

from expunge.audit.kept import Kept
from expunge.errors import ExpungeError
from expunge.signals.metric import Direction


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [(0.8, 0.4, 0.5), (0.8, 0.9, 1.0), (0.8, math.nan, 0.0), (0.0, 0.0, 1.0)],
)
def test_what_is_kept_of_an_accuracy(before: float, after: float, share: float) -> None:
    assert Kept("accuracy", "higher", before, after).share == pytest.approx(share)


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [(10.0, 20.0, 0.5), (10.0, 9.0, 1.0), (10.0, math.inf, 0.0), (0.0, 0.0, 1.0)],
)
def test_an_error_that_doubles_keeps_half(before: float, after: float, share: float) -> None:
    assert Kept("mean absolute error", "lower", before, after).share == pytest.approx(share)


def test_a_collapse_is_refused_in_words() -> None:
    with pytest.raises(ExpungeError, match=r"retained accuracy fell from 0.9 to 0.3: 33% is kept"):
        Kept("accuracy", "higher", 0.9, 0.3).check()
    Kept("accuracy", "higher", 0.9, 0.3).check(0.3)
    with pytest.raises(ExpungeError, match="retained error rose from 1 to 2"):
        Kept("error", "lower", 1.0, 2.0).check()
    Kept("accuracy", "higher", 0.9, 0.9 * 0.9).check()


@pytest.mark.parametrize("direction", ["higher", "lower"])
@pytest.mark.parametrize(
    ("before", "after"), [(math.nan, 0.9), (math.inf, 0.9), (math.nan, math.nan), (0.9, math.inf)]
)
def test_what_could_not_be_measured_is_not_kept(
    direction: Direction, before: float, after: float
) -> None:
    kept = Kept("score", direction, before, after)
    assert kept.share == 0
    with pytest.raises(ExpungeError, match="could not be measured"):
        kept.check()
