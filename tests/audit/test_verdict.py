"""Verdicts: what decides, and what a report gets of it."""

import json

import pytest
import torch

from expunge.audit.verdict import Evidence, Result, Verdict, plain, worst
from expunge.signals.accuracy import Interval

PASS, FAIL, UNKNOWN = Result.PASS, Result.FAIL, Result.UNKNOWN


def item(result: Result) -> Evidence:
    return Evidence("figure", result, f"It came to {result.value}.")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([PASS, PASS], PASS),
        ([PASS, UNKNOWN], UNKNOWN),
        ([UNKNOWN, FAIL, PASS], FAIL),
        ([], UNKNOWN),
    ],
)
def test_a_failure_counts_before_what_is_missing_and_nothing_never_passes(
    results: list[Result], expected: Result
) -> None:
    assert worst(results) is expected
    assert Verdict("kept", "Kept?", tuple(map(item, results))).result is expected


def test_what_is_missing_keeps_a_question_from_passing_and_is_its_reason() -> None:
    verdict = Verdict("kept", "Kept?", (item(PASS),), ("Give more rows.",))
    assert (verdict.result, verdict.reason) == (UNKNOWN, "Give more rows.")
    assert Verdict("kept", "Kept?", (item(PASS), item(FAIL))).reason == "It came to fail."


@pytest.mark.parametrize(
    ("value", "expected"), [(0.2, PASS), (0.7, PASS), (0.8, FAIL), (-5.0, PASS)]
)
def test_a_one_sided_figure_fails_only_above_what_is_allowed(
    value: float, expected: Result
) -> None:
    found = Evidence.no_more("figure", "So.", value, 0.5, "3 oracles", 0.25, 0.9, {"oracles": [1]})
    assert found.result is expected
    assert (found.reference, found.threshold, found.original) == (0.5, 0.25, 0.9)
    assert (found.interval, found.details) == (None, {"oracles": [1]})


def test_everything_becomes_json_and_what_is_not_finite_becomes_null() -> None:
    evidence = Evidence(
        "figure",
        PASS,
        "Fine.",
        float("nan"),
        0.5,
        "3 oracles",
        0.1,
        Interval(0.0, 1.0, 0.95),
        details={"roc": {"fpr": torch.tensor([0.0, 1.0])}, "worst": float("-inf")},
    )
    found = json.loads(json.dumps(Verdict("kept", "Kept?", (evidence,)).to_json()))
    (one,) = found["evidence"]
    assert one["value"] is None
    assert one["interval"] == {"low": 0.0, "high": 1.0, "level": 0.95}
    assert one["details"] == {"roc": {"fpr": [0.0, 1.0]}, "worst": None}
    assert plain((1, "a", True, None)) == [1, "a", True, None]
