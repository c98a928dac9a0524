"""Figures over seeds, some of which are missing."""

import math
from typing import Any

import pytest

from expunge.benchmarks.seed_rows import differences, mean, spread

CELLS: list[dict[str, Any]] = [{"diverged": "NaN"}, {"ratio": 0.25}, {"ratio": 0.35}]


def test_what_is_missing_does_not_count_and_is_said() -> None:
    assert mean(CELLS, "ratio") == pytest.approx(0.3)
    assert spread(CELLS, "ratio", 3) == "0.300 ± 0.071 (2 of 3)"
    assert spread(CELLS[1:2], "ratio", 1) == "0.2"
    assert math.isnan(mean(CELLS, "garbage")) and spread(CELLS, "garbage", 1) is None


def test_differences_are_of_seeds_that_both_have() -> None:
    other = [{"ratio": 0.1}, {"ratio": math.nan}, {"ratio": 0.3}]
    assert differences(CELLS, other, "ratio") == pytest.approx([0.05])
    with pytest.raises(ValueError, match="shorter"):
        differences(CELLS, other[:2], "ratio")
