"""`expunge tune` as a user types it: budgets, the database, and that no test row is looked at."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from typer.testing import CliRunner, Result

from expunge.cli import tune
from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.run_file.reading import Loaded, read

FEW = {"recipe__epochs": 8}


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


class Untouchable:
    """Stands for test rows: whatever is asked of it is an error."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise AssertionError(f"A test row was touched: {name}")

    def __getitem__(self, key: object) -> NoReturn:
        raise AssertionError("A test row was touched.")

    def __len__(self) -> NoReturn:
        raise AssertionError("The test rows were counted.")


def test_no_test_row_is_looked_at_and_a_second_call_only_reads(
    example: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_test_rows(path: Path) -> Loaded:
        rows: Any = Untouchable()
        return dataclasses.replace(read(path), test=rows, test_table=rows)

    monkeypatch.setattr(tune, "read", without_test_rows)
    command = ["tune", example(**FEW), "gradient-ascent", "fine-tune", "retrain", "--trials", 3]
    command += ["--storage", tmp_path / "t.db", "--json", tmp_path / "t.json"]
    result = invoked(*command, "--write", tmp_path / "best.yaml")
    assert result.exit_code == 0, result.exception
    found = json.loads((tmp_path / "t.json").read_text())
    counts = {name: len(each["trials"]) for name, each in found["methods"].items()}
    assert counts == {"gradient-ascent": 3, "fine-tune": 3, "retrain": 1}
    for each in found["methods"].values():
        gaps = [trial["gap"] for trial in each["trials"]]
        assert min(gaps) == gaps[each["best"]] <= gaps[0]
    assert found["methods"]["gradient-ascent"]["trials"][0]["parameters"] == {
        "learning_rate": 1e-6,
        "epochs": 2,
    }
    again = invoked(*command)
    assert again.exit_code == 0, again.exception
    assert "trial" in result.output
    assert "gap 0." not in again.output  # every trial was there already
    assert "retrained before" in again.output
    assert json.loads((tmp_path / "t.json").read_text()) == found


def test_what_is_written_stands_in_a_run_file(example: Callable[..., Path], tmp_path: Path) -> None:
    path, best = example(**FEW), tmp_path / "best.yaml"
    result = invoked("tune", path, "--trials", 1, "--storage", tmp_path / "t.db", "--write", best)
    assert result.exit_code == 0, result.exception
    content = {**yaml.safe_load(path.read_text()), **yaml.safe_load(best.read_text())}
    path.write_text(yaml.safe_dump(content))
    method = read(path).method
    assert dataclasses.asdict(method) == dataclasses.asdict(type(method)())  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__validation": None}, "add `data.validation`"),
        ({"recipe": None}, "give the oracle's weights with --oracle"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_written(
    changes: dict[str, object], said: str, example: Callable[..., Path], tmp_path: Path
) -> None:
    result = invoked("tune", example(**changes), "--storage", tmp_path / "t.db")
    assert isinstance(result.exception, ExpungeError), result.output
    assert said in str(result.exception)
    assert not list(tmp_path.glob("t.db*"))


def test_a_given_oracle_takes_the_place_of_the_recipes(
    example: Callable[..., Path], tmp_path: Path, weights: Path
) -> None:
    path = example(recipe=None)
    command = ["tune", path, "gradient-ascent", "--trials", 1, "--storage", tmp_path / "t.db"]
    result = invoked(*command, "--oracle", weights, "--json", tmp_path / "t.json")
    assert result.exit_code == 0, result.exception
    assert json.loads((tmp_path / "t.json").read_text())["original"] == 0
    assert not (tmp_path / "t.db.oracles").exists()


def test_a_method_that_does_not_fit_is_refused_before_any_trial(
    example: Callable[..., Path], tmp_path: Path, weights: Path
) -> None:
    command = ["tune", example(recipe=None), "negation", "retrain", "--oracle", weights]
    result = invoked(*command, "--storage", tmp_path / "t.db")
    assert isinstance(result.exception, ExpungeError), result.output
    assert "The method 'retrain' does not fit: needs the recipe" in str(result.exception)
    assert "trial" not in result.output
    assert not (tmp_path / "t.db").exists()
