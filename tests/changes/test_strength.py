"""Strengths found by bisection: where a condition turns, and what happens where it does not."""

import pytest

from expunge.changes.strength import Search, largest, smallest
from expunge.errors import ExpungeError

SEARCH = Search(upper=4.0, points=8, halvings=6)
WIDTH = 4.0 / 8 / 2**6


@pytest.mark.parametrize("turn", [0.01, 0.5, 1.234, 3.99])
def test_the_turn_is_found_up_to_the_width_of_the_bisection(turn: float) -> None:
    found = smallest(lambda s: s >= turn, SEARCH)
    assert found is not None
    assert turn <= found <= turn + WIDTH
    kept = largest(lambda s: s < turn, SEARCH)
    assert turn - WIDTH <= kept < turn


def test_a_condition_that_never_or_always_holds() -> None:
    assert smallest(lambda s: False, SEARCH) is None
    assert smallest(lambda s: True, SEARCH) == 0.0
    assert largest(lambda s: True, SEARCH) == SEARCH.upper
    assert largest(lambda s: False, SEARCH) == 0.0


def test_the_first_turn_counts_where_there_are_several() -> None:
    found = smallest(lambda s: 1.0 <= s <= 1.6 or s >= 3.0, SEARCH)
    assert found is not None
    assert 1.0 <= found <= 1.0 + WIDTH


@pytest.mark.parametrize("wrong", [{"upper": 0.0}, {"points": 0}, {"halvings": -1}])
def test_an_empty_search_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExpungeError, match="positive"):
        Search(**wrong)  # type: ignore[arg-type]
