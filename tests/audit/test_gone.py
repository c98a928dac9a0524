"""A change after which the forget rows are answered as before is named."""

import math

import pytest

from expunge.audit.gone import Gone


@pytest.mark.parametrize(
    ("before", "after", "oracle", "little"),
    [
        (0.98, 0.97, 0.01, True),  # nearly the original
        (0.98, 0.60, 0.01, False),  # a part of the way
        (0.98, 0.99, 0.01, True),  # away from the oracle
        (0.98, 0.00, 0.50, False),  # past it
        (0.98, 0.98, 0.95, False),  # there was next to nothing to forget
        (0.98, 0.98, 0.98, False),
        (0.0, 0.0, 0.0, False),
        (2.0, 2.1, 9.0, True),  # an error, which rises
        (2.0, 5.0, 9.0, False),
        (0.98, 0.98, None, True),  # no oracle: unchanged to the last digit
        (0.98, 0.9799, None, False),
        (math.nan, 0.5, 0.1, False),
        (0.98, math.nan, None, False),
        (0.98, 0.98, math.nan, False),
    ],
)
def test_next_to_nothing_is_told_by_the_way_to_the_oracle(
    before: float, after: float, oracle: float | None, little: bool
) -> None:
    assert Gone("threes", "accuracy", before, after, oracle).little is little


def test_it_is_said_with_all_three_figures() -> None:
    assert Gone("threes", "accuracy", 0.98, 0.97, 0.01).told() == (
        "Next to nothing of 'threes' is gone: the accuracy on its training rows went from 0.98 to "
        "0.97, and the oracle's is 0.01."
    )
    assert "to 0.98, and there is no oracle" in Gone("t", "accuracy", 0.98, 0.98, None).told()
