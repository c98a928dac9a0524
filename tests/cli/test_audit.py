"""``expunge audit`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.weights import stored_tensors
from expunge.cli.main import app
from expunge.data.samples import Samples
from expunge.recipe import Role
from expunge.run import Run
from expunge.storage import write_tensors


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a model that never saw an eight or a three."""
    work = digits_classifier_work(5)
    kept = [i for i, label in enumerate(work.table["label"]) if label not in (8, 3)]
    rows: Samples = work.data[Role.TRAIN]
    model = work.recipe.make({Role.TRAIN: rows.select(torch.tensor(kept))}, Run()).model
    path = tmp_path_factory.mktemp("oracle") / "oracle.safetensors"
    write_tensors(path, stored_tensors(model))
    return path


@pytest.fixture
def lenient(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("questions: [forgotten, kept, private, duplicates left]\n")
    return path


def test_the_exit_code_says_pass_fail_and_not_enough_evidence(
    example: Callable[..., Path], oracle: Path, weights: Path, lenient: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "audit.json"
    quick = ("--level", "quick", "--json", figures)
    result = invoked(example(), "--model", oracle, "--policy", lenient, *quick)
    assert result.exit_code == 0, result.output
    assert json.loads(figures.read_text())["result"] == "pass"
    assert invoked(example(), "--model", weights, *quick).exit_code == 1
    found = json.loads(figures.read_text())
    assert found["verdicts"][0]["result"] == "fail"
    assert found["exit code"] == 1
    assert found["deletion state"] == "unknown"
    assert set(found["rows"]) == {"forget", "retain", "held-out"}
    assert invoked(example(), "--model", oracle, *quick).exit_code == 3


def test_a_given_oracle_stands_beside_the_model_without_training(
    example: Callable[..., Path], oracle: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "audit.json"
    invoked(example(), "--model", oracle, "--oracle", oracle, "--level", "quick", "--json", figures)
    found = json.loads(figures.read_text())
    forgotten = found["verdicts"][0]
    assert forgotten["evidence"][0]["against"] == "1 oracle"
    assert forgotten["evidence"][0]["value"] == forgotten["evidence"][0]["reference"]


def test_what_forget_stored_is_audited_with_its_history(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    path = example()
    stored = CliRunner().invoke(app, ["forget", str(path), "--keep-at-least", "0"])
    assert stored.exit_code == 0, stored.output
    out = tmp_path / "audit"
    invoked(path, "--level", "quick", "--out", out)
    found = json.loads((out / "audit.json").read_text())
    assert found["deletion state"] == "edited, base kept"
    stays = next(v for v in found["verdicts"] if v["question"] == "stays forgotten")
    (history,) = [e for e in stays["evidence"] if e["name"].startswith("re-emergence")]
    assert history["details"]["requests"] == ["the eights", "the threes"]
    assert [len(row) for row in history["details"]["after"]] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "run `expunge forget` on this run file"),
        (("--model", "none.safetensors"), "There is no file"),
        (("--policy", "none.yaml"), "cannot be read"),
        (("--self-test",), "--self-test alone"),
    ],
)
def test_what_cannot_be_audited_is_said_in_one_sentence_and_nothing_is_written(
    example: Callable[..., Path], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "audit"
    result = invoked(example(), *arguments, "--level", "quick", "--out", out)
    assert result.exit_code != 0
    assert said in str(result.exception)
    assert not out.exists()


def test_other_commands_of_the_group_keep_their_names() -> None:
    assert "--budget" in invoked("worst-case", "--help").output
    assert "worst-case" in invoked("--help").output
    assert "--self-test" in invoked("model", "--help").output
