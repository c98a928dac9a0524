"""`expunge compare` as a user types it: files, tuned parameters, an own method, a second call."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from typer.testing import CliRunner, Result

from expunge.cli.main import app
from expunge.errors import ExpungeError

ROOT = Path(__file__).parents[2]
MINE = ROOT / "examples" / "mine.py"
FEW = {"recipe__epochs": 6}


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_tuned_comparison_with_an_own_method_writes_every_file(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    run_file, storage, out = example(**FEW), tmp_path / "t.db", tmp_path / "compared"
    methods = ["gradient-ascent", MINE]
    tuned = invoked("tune", run_file, *methods, "--trials", 2, "--storage", storage)
    assert tuned.exit_code == 0, tuned.exception
    command = ["compare", run_file, *methods, "--seeds", 2, "--tuned", storage, "--out", out]
    result = invoked(*command, "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.exception
    assert "random-labels (tuned, trial" in result.output
    assert "2 of at least 3 seeds" in result.output
    assert "Guessing scores 0.1." in result.output
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["tables"]["as it comes"]["oracle"]["columns"]["gap"]["mean"] == 0
    assert found["tests"]["matched"]["gap"][0]["smallest"] == 0.5
    records = pandas.read_parquet(out / "results.parquet")
    assert set(records["method"]) == {"original", "oracle", "gradient-ascent", "random-labels"}
    assert len(records) == len(found["records"])
    assert set(records["seed"]) == {0, 1}
    assert "\\toprule" in (out / "table.tex").read_text()
    assert "random-labels" in (out / "table.html").read_text()
    again = invoked(*command, "--json", tmp_path / "again.json")
    assert again.exit_code == 0, again.exception
    assert again.output.count("stored before") == 2 * 4
    assert json.loads((tmp_path / "again.json").read_text()) == found


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({"data__validation": None}, [], "add `data.validation`"),
        ({}, ["--tuned", "nowhere.db"], "There is no file nowhere.db"),
        ({}, ["--oracle", "weights.safetensors"], "leave one of them out"),
        ({}, ["--tolerance", "1.5"], "a number from 0 to below 1"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_work(
    changes: dict[str, object],
    more: list[str],
    said: str,
    example: Callable[..., Path],
    tmp_path: Path,
) -> None:
    out = tmp_path / "compared"
    result = invoked("compare", example(**changes), "fine-tune", "--out", out, *more)
    assert isinstance(result.exception, ExpungeError), result.output
    assert said in str(result.exception)
    assert not out.exists()


def test_a_method_that_does_not_fit_is_a_row_and_needs_no_trials(
    example: Callable[..., Path], tmp_path: Path, weights: Path
) -> None:
    run_file, storage = example(recipe=None), tmp_path / "t.db"
    given = ["--oracle", weights]
    tuned = invoked("tune", run_file, "negation", "--trials", 1, "--storage", storage, *given)
    assert tuned.exit_code == 0, tuned.exception
    command = ["compare", run_file, "negation", "retrain", "--tuned", storage, "--seeds", 1]
    result = invoked(*command, "--out", tmp_path / "compared", *given)
    assert result.exit_code == 0, result.exception
    assert "retrain: Does not fit: needs the recipe; there is none." in result.output


def test_trials_of_other_rows_are_not_taken(example: Callable[..., Path], tmp_path: Path) -> None:
    storage, out = tmp_path / "t.db", tmp_path / "compared"
    tuned = invoked("tune", example(**FEW), "fine-tune", "--trials", 1, "--storage", storage)
    assert tuned.exit_code == 0, tuned.exception
    other = example(**FEW, requests__0__values=[7])
    result = invoked("compare", other, "fine-tune", "--out", out, "--tuned", storage)
    assert isinstance(result.exception, ExpungeError)
    assert "holds no trial of 'fine-tune' for this run file" in str(result.exception)


def test_unequal_budgets_are_said(example: Callable[..., Path], tmp_path: Path) -> None:
    run_file, storage = example(**FEW), tmp_path / "t.db"
    for name, trials in (("negation", 1), ("fine-tune", 2)):
        tuned = invoked("tune", run_file, name, "--trials", trials, "--storage", storage)
        assert tuned.exit_code == 0, tuned.exception
    command = ["compare", run_file, "fine-tune", "negation", "retrain", "--tuned", storage]
    result = invoked(*command, "--seeds", 1, "--out", tmp_path / "compared")
    assert result.exit_code == 0, result.exception
    assert "not tuned alike; their trials are fine-tune 2, negation 1" in result.output


def test_an_out_that_is_a_file_is_refused(example: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = invoked("compare", example(), "fine-tune", "--out", tmp_path / "file")
    assert isinstance(result.exception, ExpungeError)
    assert "is a file" in str(result.exception)


def commands_of(page: Path) -> list[list[str]]:
    """The commands of a page as a shell would split them."""
    text = page.read_text().replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("    expunge ")]


@pytest.mark.slow
def test_the_page_can_be_followed_word_by_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = shutil.ignore_patterns("*.safetensors")  # those that a reader made before
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=weights)
    monkeypatch.chdir(tmp_path)
    train, tune, compare, *_ = commands_of(ROOT / "docs" / "compare.md")
    assert [train[0], tune[0], compare[0]] == ["train", "tune", "compare"]
    for command in (train, tune, compare):
        result = invoked(*command)
        assert result.exit_code == 0, result.exception
    found = json.loads((tmp_path / "runs" / "compare.json").read_text())["tables"]["matched"]
    gaps = {name: row["columns"]["gap"]["mean"] for name, row in found.items()}
    assert gaps["retrain"] == gaps["oracle"] == 0
    with_retain_data = ("fine-tune", "gradient-difference", "random-labels")
    assert max(gaps[n] for n in with_retain_data) < min(gaps["negation"], gaps["gradient-ascent"])
    assert gaps["original"] > 0.5
