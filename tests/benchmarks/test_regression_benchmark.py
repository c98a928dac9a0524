"""The benchmark of regression: its windows, what decides on a rate, claims, and one small world."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from expunge.benchmarks.regression import tables, work, worlds
from expunge.benchmarks.regression.protocol import Protocol
from expunge.benchmarks.regression.verdict import CLAIMS, verdict
from expunge.benchmarks.regression.work import CHOSEN_BY, SUBJECTS, Asking, Place, distance
from expunge.benchmarks.regression.worlds import PARTS, Part, Table, World, world_of
from expunge.data import catalogue
from expunge.errors import ExpungeError
from expunge.families.number_losses import SquaredLoss
from expunge.learning.supervised.plain import Plain
from expunge.recipe import Role


def diabetes(name: str) -> World:
    """Patients; those of low progression are forgotten."""
    features, targets = load_diabetes(return_X_y=True)
    bounds: Mapping[Part, tuple[int, int]] = {
        "train": (0, 240), "validation": (240, 320), "test": (320, 442)
    }  # fmt: skip
    found = {
        part: Table(
            [f"patient {i}" for i in range(*bounds[part])],
            [f"patient {i}" for i in range(*bounds[part])],
            features[slice(*bounds[part])],
            targets[slice(*bounds[part]), None],
        )
        for part in PARTS
    }
    low = {"progression below 90": lambda table: table.targets[:, 0] < 90}
    return world_of(name, "patients", "points", found, low, SquaredLoss(), 6)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patients as the one world of the benchmark."""
    monkeypatch.setattr(worlds, "WORLDS", {"diabetes": diabetes})
    for module in ("protocol", "work"):
        target = f"expunge.benchmarks.regression.{module}"
        monkeypatch.setattr(f"{target}.world", worlds.world)
    monkeypatch.setattr("expunge.benchmarks.regression.protocol.WORLDS", worlds.WORLDS)
    monkeypatch.setattr("expunge.benchmarks.regression.protocol.NEEDS", {"diabetes": ()})
    worlds.world.cache_clear()


def test_a_world_is_standardised_by_its_training_rows_and_knows_what_is_meant() -> None:
    its = diabetes("diabetes")
    train = its.rows["train"].columns
    assert float(train["target"].mean()) == pytest.approx(0, abs=1e-5)
    assert its.scale == pytest.approx(float(load_diabetes().target[:240].std()))
    gone, kept = (its.part("progression below 90", "train", meant=m) for m in (True, False))
    assert len(gone) + len(kept) == 240 and set(gone.ids).isdisjoint(kept.ids)
    assert float(gone.columns["target"].max()) < float(kept.columns["target"].min())


def test_another_training_is_another_world() -> None:
    its = diabetes("diabetes")
    learner = its.recipe.learner
    assert isinstance(learner, Plain)
    longer = replace(its, recipe=replace(its.recipe, learner=replace(learner, epochs=7)))
    assert longer.digest != its.digest == diabetes("other name").digest


def test_a_window_of_demand_lies_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    class Series:
        """Nine days of half hours, three in each part."""

        def load(self) -> dict[str, Any]:
            count = 48 * 9
            return {
                "Demand": list(np.arange(count, dtype=float)),
                "Temperature": [20.0] * count,
                "WorkDay": [1] * count,
                "split": [PARTS[i // 144] for i in range(count)],
                "subject": [f"2014-01-0{1 + i // 48}" for i in range(count)],
                "id": [str(i) for i in range(count)],
            }

    monkeypatch.setattr(catalogue, "at_hand", lambda name: Series())
    for number, part in enumerate(PARTS):
        table = worlds._windows(part)
        assert table.inputs.shape[1] == worlds.PAST + 4
        now = table.inputs[:, worlds.PAST - 1 : worlds.PAST]
        assert np.array_equal(table.targets - now, np.tile(worlds.AHEAD, (len(now), 1)))
        assert table.targets.min() >= 144 * number
        assert table.targets.max() < 144 * (number + 1)


def test_the_distance_to_the_oracle_is_a_share_of_its_errors() -> None:
    oracle = dict(zip(CHOSEN_BY, (1.0, 2.0, 4.0), strict=True))
    assert distance(oracle, oracle) == 0
    found = dict(zip(CHOSEN_BY, (1.5, 1.0, 4.0), strict=True))
    assert distance(found, oracle) == pytest.approx((0.5 + 0.5 + 0) / 3)


def rows_of(forget: Mapping[str, float], apart: Mapping[str, float]) -> dict[str, Any]:
    """Rows of one seed with these errors and distances, everything else alike."""
    same = {"retain test": [1.0], "forget train": [1.0]}
    return {
        name: {**same, "forget test": [value], "W1": [apart.get(name, 1.0)], "AIN": [0.1]}
        for name, value in forget.items()
    }


def test_claims_hold_where_they_are_true_and_are_open_where_a_row_is_missing() -> None:
    forget = {"original": 1.0, "oracle": 2.0, "fine-tune": 1.2, "gaussian": 2.5, "blindspot": 1.9}
    rows = rows_of(forget, {"original": 1.0, "fine-tune": 0.8, "blindspot": 0.3})
    said = verdict({"w": {"requests": {"r": {"rows": rows}}}})
    first, kept, nearer, later, past, attention = CLAIMS
    found = {claim: where["w, r"] for claim, where in said["claims"].items()}
    assert found[first] and found[kept] and found[nearer] and found[past]
    assert found[later] is False and found[attention] is None
    assert said["distance"]["w, r"]["oracle"] == 0
    beyond = rows_of({**forget, "blindspot": 2.3}, {})
    claims = verdict({"w": {"requests": {"r": {"rows": beyond}}}})["claims"]
    assert claims[first]["w, r"] is False and claims[nearer]["w, r"] is False


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"worlds": ("mars",)}, "no world 'mars'"),
        ({"subjects": ("blindspot", "blindspot")}, "given 2 times"),
        ({"subjects": ("ssd",)}, "no method 'ssd'"),
        ({"seeds": 1}, "at least 2 are expected"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ExpungeError, match=said):
        Protocol(tmp_path, **given)


def test_what_was_not_fetched_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path))
    with pytest.raises(ExpungeError, match="expunge data fetch ames"):
        Protocol(tmp_path, ("ames",)).conduct(lambda title, stored: None)


def test_jobs_of_a_small_world_find_what_the_tables_show(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(jobs: Any, folder: Path, processes: int, told: Any) -> dict[Any, Any]:
        return {
            job: job.done() for job in dict.fromkeys(jobs)
        }  # a process of its own knows no patch

    monkeypatch.setattr("expunge.benchmarks.regression.protocol.by_job", here)
    asked = ("fine-tune", "gaussian, published", "blindspot", "teacher alone")
    monkeypatch.setattr(work, "MOST_VECTORS", 60)
    result = Protocol(tmp_path, ("diabetes",), asked, seeds=2).conduct(lambda title, stored: None)
    its = result["worlds"]["diabetes"]["requests"]["progression below 90"]
    assert set(its["rows"]) == {"original", "oracle", *asked}
    for name, row in its["rows"].items():
        assert not row.get("failed"), name
        for figure in ("retain test", "forget test", "forget train", "W1", "SVC-MIA"):
            assert all(value is not None and value >= 0 for value in row[figure])
    rows = its["rows"]
    assert rows["blindspot"]["rate"] in SUBJECTS["blindspot"].rates
    assert len(rows["blindspot"]["tried"]) == 3 and rows["teacher alone"]["rate"] is None
    assert all(value > 0 for value in rows["oracle"]["W1"])  # to the other oracle
    asking = Asking(
        Place("diabetes", worlds.world("diabetes").digest, tmp_path), "progression below 90", (0, 1)
    )
    problem = asking.problem(0)
    assert its["forget rows"] == len(problem.data[Role.FORGET])
    with torch.no_grad():
        assert problem.model(torch.zeros(1, 10)).shape == (1, 1)
    [(title, columns, lines)] = tables.tables(result)
    assert "diabetes" in title and len(columns) == len(lines[0])
    assert [line[0] for line in lines] == ["original", "oracle", *asked]
    assert any("Blindspot" in line for line in tables.sentences(result))
