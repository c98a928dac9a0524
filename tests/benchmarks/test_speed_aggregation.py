"""The speed benchmark reports what it says it measures; times are not tested."""

import json

import pytest
import torch

from expunge.aggregation import Cata
from expunge.benchmarks import speed_aggregation
from expunge.changes.delta import Delta
from expunge.changes.slices import SLICE


def test_the_result_is_json_and_its_ratios_follow_from_its_times() -> None:
    result = speed_aggregation.run(16_000, quick=True)
    assert json.loads(json.dumps(result)) == result
    assert result["parameters"] == 2_000
    fused = result["fused"]
    assert fused["ratio"] == pytest.approx(fused["plain_seconds"] / fused["seconds"])
    moved = 44 * 2_000 / fused["seconds"]
    assert fused["share"] == pytest.approx(moved / fused["copy_bytes_a_second"])
    assert [row["requests"] for row in result["stacking"]] == [5, 20, 50]
    assert all(row["slices"] <= 2 for row in result["memory"])
    lines = speed_aggregation.rows(result)
    assert len(lines) == 5 + 3 + 4 + 1
    assert "request 100 against request 2" in lines[1]


def test_all_compared_forms_compute_cata() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(500, generator=generator).mul(8).round() / 8 for _ in range(4)]
    rule = Cata()
    shapes = {"weight": torch.Size((500,))}
    state, plain = rule.empty(shapes, "a"), rule.empty(shapes, "a")
    for vector in vectors:
        state = rule.add(state, Delta("a", {"weight": vector}))
        speed_aggregation.plain_add(plain, vector)
    expected = rule.combine(state).dense("weight")
    assert torch.equal(speed_aggregation.plain_combine(plain), expected)
    assert torch.equal(speed_aggregation.stacked(vectors), expected)


def test_the_peak_counts_what_is_allocated_at_once() -> None:
    def two_then_one() -> None:
        held = [torch.zeros(SLICE), torch.zeros(SLICE)]
        held.clear()
        torch.zeros(SLICE)

    assert speed_aggregation.peak_slices(two_then_one) == pytest.approx(2, abs=0.01)
