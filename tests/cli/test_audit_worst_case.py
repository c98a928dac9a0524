"""``expunge audit worst-case`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from expunge.cli.audit import budget_of
from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.run_file.reading import read


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", "worst-case", *map(str, arguments)])


def test_what_is_found_is_a_request_that_a_run_file_takes(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    out, figures = tmp_path / "worst.yaml", tmp_path / "worst.json"
    result = invoked(example(), "--budget", 20, "--out", out, "--json", figures)
    assert result.exit_code == 0, result.exception
    found = json.loads(figures.read_text())
    requests = yaml.safe_load(out.read_text())["requests"]
    assert len(found["found"]) == 20
    assert requests == [{"name": "hardest to forget", "column": "id", "values": found["found"]}]
    assert found["loss after unlearning"]["found"] < found["loss after unlearning"]["random"]
    loaded = read(example(requests=requests))
    assert len(loaded.requests[0].target.rows(loaded.deployment.table)) == 20


def test_the_seed_is_that_of_the_file_unless_another_is_given(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    def found(*arguments: object) -> object:
        path = tmp_path / "found.json"
        assert invoked(example(), "--by", "label", *arguments, "--json", path).exit_code == 0
        return json.loads(path.read_text())

    assert found() == found("--seed", 0)
    assert found("--seed", 1) != found()


@pytest.mark.parametrize(
    ("given", "count", "expected"), [("0.1", 1078, 108), ("1", 10, 1), ("12", 100, 12)]
)
def test_a_budget_is_rows_or_a_share(given: str, count: int, expected: int) -> None:
    assert budget_of(given, count, None) == expected


@pytest.mark.parametrize("given", ["0", "-1", "100", "2.5", "x", "nan", "inf", "0.001", "0.999"])
def test_a_budget_that_is_neither_is_refused(given: str) -> None:
    with pytest.raises(ExpungeError, match="a whole number from 1 to 99"):
        budget_of(given, 100, None)


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ({}, ["--by", "nobody"], "--by names the column 'nobody'"),
        ({}, ["--budget", "5000"], "A --budget of 5000 was given for 1078 rows"),
        ({"recipe": None}, ["--retrain"], "no recipe to retrain from"),
        ({"model__weights": "none.safetensors"}, [], "none.safetensors"),
    ],
)
def test_errors_are_said_in_one_sentence_and_nothing_is_written(
    example: Callable[..., Path],
    tmp_path: Path,
    changes: dict[str, object],
    arguments: list[str],
    said: str,
) -> None:
    out = tmp_path / "worst.yaml"
    result = invoked(example(**changes), *arguments, "--out", out)
    assert isinstance(result.exception, ExpungeError)
    assert said in str(result.exception)
    assert not out.exists()


@pytest.mark.slow
def test_retraining_shows_that_the_hardest_rows_are_answered_all_the_same(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "found.json"
    result = invoked(example(), "--retrain", "--json", path)
    assert result.exit_code == 0, result.exception
    sets = json.loads(path.read_text())["retrained"]
    assert sets["hardest (search)"]["retrained_wrong"] == 0
    assert sets["lowest cross-fitted loss"]["retrained_wrong"] == 0
    assert sets["random"]["retrained_wrong"] > 0
    assert "removes too much" in result.output
