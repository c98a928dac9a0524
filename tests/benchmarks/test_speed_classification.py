"""The speed benchmark compares equal results and says what it measured; times are not tested."""

import json

import pytest

from expunge.benchmarks import speed_classification
from expunge.benchmarks.speed_classification import METHODS
from expunge.cli.output import console, table
from expunge.errors import ExpungeError
from expunge.methods.influence import Influence
from expunge.methods.salun import SalUn


def test_the_result_is_json_and_its_ratios_follow_from_its_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(METHODS, "fisher-forgetting")  # the longest
    monkeypatch.setitem(METHODS, "influence", Influence(curvature_rows=20))
    for name, small in (("EPOCHS", 1), ("TURNS", 1), ("BATCH", 8), ("HELD_OUT", 20)):
        monkeypatch.setattr(speed_classification, name, small)
    result = speed_classification.run(rows=16, repeats=1)
    assert json.loads(json.dumps(result)) == result
    for row in result["fisher"]:
        assert row["ratio"] == row["loop"] / row["vectorised"]
        assert row["difference"] <= speed_classification.EQUAL
    for row in result["masked"]:
        assert row["ratio"] == row["masked"] / row["unmasked"]
    for row in result["precision"]:
        assert row["rows"] == 64
        assert {*row} == {"model", "rows", *speed_classification.LAYOUTS}
        assert all(0 <= row[form]["accuracy"] <= 1 for form in speed_classification.LAYOUTS)
    found = {row["method"]: row for row in result["methods"]}
    assert set(found) == {"original", "retrain", *METHODS}
    assert found["retrain"]["forget"] == 0
    assert found["original"]["forget"] > 0.9
    assert found["ssd 9"]["prepare"] > 0
    assert found["influence"]["prepare"] is None
    for title, columns, rows in speed_classification.tables(result):
        with console.capture() as shown:
            console.print(table(title, columns, rows), width=80)
        assert columns[-1] in shown.get()


def test_times_of_different_results_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_classification, "EQUAL", -1.0)
    with pytest.raises(ExpungeError, match="their times would say nothing"):
        speed_classification.run(rows=8, repeats=1)


def test_times_under_a_mask_that_changes_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the weights in the place of all of them."""
    monkeypatch.setattr(
        speed_classification, "SalUn", lambda kept, *rest, **named: SalUn(0.5, *rest, **named)
    )
    with pytest.raises(ExpungeError, match="under a mask of ones ends in other bits"):
        speed_classification.run(rows=8, repeats=1)
