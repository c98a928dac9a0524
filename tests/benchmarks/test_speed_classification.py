"""The speed benchmark compares equal results and says what it measured; times are not tested."""

import json

import pytest

from expunge.benchmarks import speed_classification
from expunge.benchmarks.speed_classification import METHODS
from expunge.cli.output import console, table
from expunge.errors import ExpungeError
from expunge.methods.influence import Influence


def test_the_result_is_json_and_its_ratios_follow_from_its_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(METHODS, "fisher-forgetting")  # the longest
    monkeypatch.setitem(METHODS, "influence", Influence(curvature_rows=20))
    result = speed_classification.run(rows=16, repeats=1)
    assert json.loads(json.dumps(result)) == result
    for row in result["fisher"]:
        assert row["ratio"] == row["loop"] / row["vectorised"]
        assert row["difference"] <= speed_classification.EQUAL
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
