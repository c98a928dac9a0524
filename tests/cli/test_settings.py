"""Which settings are used, and that a collapsed model is refused, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from expunge.cli.main import app
from expunge.errors import ExpungeError
from expunge.methods.presets import AtPreset
from expunge.methods.salun import SalUn
from expunge.run_file.reading import read

QUICK = {"recipe__epochs": 1, "requests": [{"name": "threes", "column": "label", "values": [3]}]}


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("part", "settings", "preset"),
    [
        ({}, "preset", True),
        ({"preset": True}, "preset", True),
        ({"preset": False}, "paper's defaults", False),
        ({"parameters": {"epochs": 2}}, "run file", False),
        ({"parameters": {"epochs": 2}, "preset": False}, "run file", False),
        ({"parameters": {"momentum": 0.5}, "preset": True}, "run file and preset", True),
    ],
)
def test_which_settings_a_run_file_asks_for(
    part: dict[str, object], settings: str, preset: bool, example: Callable[..., Path]
) -> None:
    loaded = read(example(method={"name": "salun", **part}))
    given = SalUn(**part.get("parameters", {}))  # type: ignore[arg-type]
    assert loaded.settings == settings
    wanted = AtPreset(given, tuple(part.get("parameters", ()))) if preset else given  # type: ignore[arg-type]
    assert loaded.method == wanted


def test_a_preset_that_is_not_there_is_refused(example: Callable[..., Path]) -> None:
    with pytest.raises(ExpungeError, match="The preset of 'retrain' was asked for"):
        read(example(method={"name": "retrain", "preset": True}))
    assert read(example(method={"name": "retrain"})).settings == "paper's defaults"


def test_forget_says_and_stores_what_its_preset_was(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    path = example(method={"name": "salun"}, **QUICK)
    result = invoked("forget", path, "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    found = json.loads((tmp_path / "f.json").read_text())
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert "Settings of salun: preset" in result.output
    assert "Next to nothing" not in result.output
    assert found["next to nothing gone"] == []
    assert found["settings"] == history["method"]["settings"] == "preset"
    used = found["presets"]["threes"]
    assert used == history["epochs"][0]["requests"][0]["preset"]
    assert f"learning_rate {used['learning_rate']:.3g}" in result.output
    assert history["method"]["parameters"]["learning_rate"] == SalUn().learning_rate
    assert found["kept"] >= 0.9


def test_a_collapsed_model_is_refused_and_stored_only_if_asked_for(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    method = {"name": "gradient-ascent", "parameters": {"learning_rate": 0.01}}
    path = example(method=method, **QUICK)
    result = invoked("forget", path, "--json", tmp_path / "refused.json")
    said = str(result.exception)
    refused = json.loads((tmp_path / "refused.json").read_text())
    assert refused["stored"] is False
    assert refused["kept"] < 0.9
    assert isinstance(result.exception, ExpungeError)
    assert "retained accuracy fell from 0.98" in said
    assert "validation rows; settings of gradient-ascent: run file" in said
    assert "leave `method.parameters` out for the preset" in said
    assert not (tmp_path / "out").exists()
    assert "after threes" in result.output  # the tables stand before the refusal
    taken = invoked("forget", path, "--keep-at-least", "0", "--json", tmp_path / "taken.json")
    assert taken.exit_code == 0, taken.exception
    assert (tmp_path / "out" / "history.json").exists()
    assert "Warning: the retained accuracy fell from" in taken.output
    stored = json.loads((tmp_path / "taken.json").read_text())
    assert stored["stored"] is True
    assert stored["model"] == refused["model"]


def test_a_model_that_forgot_nothing_is_named(example: Callable[..., Path], tmp_path: Path) -> None:
    method = {"name": "salun", "parameters": {"learning_rate": 1e-9, "epochs": 1}}
    result = invoked("forget", example(method=method, **QUICK), "--json", tmp_path / "f.json")
    assert result.exit_code == 0, result.exception
    assert "Warning: Next to nothing of 'threes' is gone: the mean probability" in result.output
    assert "Find stronger settings with `expunge tune`" in result.output
    [stays] = json.loads((tmp_path / "f.json").read_text())["next to nothing gone"]
    assert stays["request"] == "threes"
    assert stays["oracle"] < 0.1
    assert stays["after"] > 0.9


def test_tuning_tries_the_paper_then_the_preset_and_never_ends_worse(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    command = ["tune", example(**QUICK), "salun", "--trials", 3, "--storage", tmp_path / "t.db"]
    result = invoked(*command, "--json", tmp_path / "t.json", "--write", tmp_path / "best.yaml")
    assert result.exit_code == 0, result.exception
    [found] = json.loads((tmp_path / "t.json").read_text())["methods"].values()
    trials = found["trials"]
    assert [t["preset"] for t in trials] == [False, True, False]
    assert trials[0]["parameters"]["learning_rate"] == SalUn().learning_rate
    assert trials[1]["parameters"] == {}
    assert trials[found["best"]]["gap"] <= min(t["gap"] for t in trials)
    best = yaml.safe_load((tmp_path / "best.yaml").read_text())["method"]
    assert ("parameters" not in best) == (found["best"] == 1)
    only = ["compare", tmp_path / "run.yaml", "salun", "--seeds", 1, "--out", tmp_path / "compared"]
    again = invoked(*only, "--tuned", tmp_path / "t.db")
    assert again.exit_code == 0, again.exception
    assert f"tuned, trial {found['best']} of 3" in again.output


def test_compare_takes_presets_unless_told(example: Callable[..., Path], tmp_path: Path) -> None:
    command = ["compare", example(**QUICK), "salun", "retrain", "--seeds", 1]
    command += ["--out", tmp_path / "compared", "--json", tmp_path / "c.json"]
    result = invoked(*command)
    assert result.exit_code == 0, result.exception
    assert "salun (preset): epochs 4, learning_rate" in result.output
    assert "retrain (paper's defaults): -" in result.output
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["presets"]["salun"]["0"][0]["epochs"] == 4
    paper = invoked(*command, "--settings", "paper")
    assert "salun (paper's defaults): kept 0.5, epochs 10" in paper.output
    assert json.loads((tmp_path / "c.json").read_text())["presets"] == {}


def test_methods_says_the_rule_of_a_preset() -> None:
    assert "0.4 of their norm" in " ".join(invoked("methods", "salun").output.split())
    assert "preset: none" in invoked("methods", "retrain").output
