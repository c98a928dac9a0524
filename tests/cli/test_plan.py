"""``expunge plan`` as a user types it: a dry run that changes nothing and hides nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from expunge.cli.main import app
from expunge.cli.plan import _bytes, _two
from expunge.errors import ExpungeError

MINE = Path(__file__).parents[2] / "examples" / "mine.py"


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


def figures(path: Path, *arguments: object) -> dict[str, Any]:
    result = invoked(*arguments, "--json", path)
    assert result.exit_code == 0, result.exception
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_shipped_example_is_planned_where_its_result_exists_and_nothing_is_written(
    example: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file = example()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "history.json").write_text("an earlier result")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    result = invoked(run_file)
    assert result.exit_code == 0, result.exception
    assert contents(tmp_path) == before
    said = result.output
    for part in ("the threes", "Methods that fit", "in all", "The oracle", "Memory of a step"):
        assert part in said
    assert "nothing was changed and nothing was written" in said


def test_the_figures_hold_what_is_printed_and_what_the_run_will_read(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    run_file = example()
    found = figures(tmp_path / "plan.json", run_file, "--method", "negation", "--method", MINE)
    assert [r["forget"] for r in found["requests"]] == [104, 110]
    assert [r["excluded"] for r in found["requests"]] == [0, 104]
    by_name = {cost["name"]: cost for cost in found["costs"]}
    assert list(by_name) == ["gradient-difference", "negation", "random-labels", "retrain"]
    assert {m["name"]: m["fits"] for m in found["methods"]}["random-labels"]
    total = by_name["gradient-difference"]["total"]
    assert total["low"] < total["seconds"] < total["high"]
    ran = CliRunner().invoke(app, ["forget", str(run_file), "--json", str(tmp_path / "ran.json")])
    assert ran.exit_code == 0, ran.exception
    steps = json.loads((tmp_path / "ran.json").read_text())["after"]
    for step, estimate in zip(
        steps, by_name["gradient-difference"]["cost"]["estimates"], strict=True
    ):
        assert step["touched"] == estimate["touched"]
    assert found["oracle"]["touched"] == {"train": 30 * 864}


def test_without_a_probe_the_rows_fits_and_risks_are_there(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    found = figures(tmp_path / "plan.json", example(recipe=None), "--no-probe")
    assert (found["costs"], found["oracle"]) == ([], None)
    fits = {m["name"]: m["lacks"] for m in found["methods"]}
    assert fits["retrain"] == ["needs the recipe; there is none"]
    assert fits["negation"] == []
    assert "no oracle" in {risk["name"] for risk in found["risks"]}
    said = invoked(example(recipe=None), "--no-probe").output
    assert "retrain does not fit: needs the recipe; there is none" in said
    assert "Times and memory are not estimated" in said


def test_a_run_files_method_that_does_not_fit_is_said_and_not_probed(
    example: Callable[..., Path], tmp_path: Path
) -> None:
    run_file = example(recipe=None, method={"name": "retrain"})
    found = figures(tmp_path / "plan.json", run_file)
    assert found["costs"] == []
    first = found["risks"][0]
    assert (first["name"], first["weight"]) == ("method", "stops")
    fitting = first["advice"].partition("Methods that fit: ")[2]
    assert "fine-tune" in fitting and "retrain" not in fitting


def test_a_broken_entry_point_hides_nothing_else(
    example: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_plan.py").write_text("raise RuntimeError\n")
    info = tmp_path / "broken_plan-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plan\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[expunge.methods]\nbroken = broken_plan:Method\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = figures(tmp_path / "plan.json", example(), "--no-probe")
    assert "'broken'" in found["broken"][0]
    assert {"negation", "retrain"} <= {m["name"] for m in found["methods"]}


def test_an_unknown_method_is_refused_before_any_work(example: Callable[..., Path]) -> None:
    result = invoked(example(), "--method", "negaton")
    assert isinstance(result.exception, ExpungeError)
    assert "Did you mean 'negation'" in str(result.exception)


def test_numbers_are_printed_in_units_that_can_be_read() -> None:
    assert [_bytes(n) for n in (0, 12, 66_088, 132_200, 5.29e8, 3.2e9, 7e12)] == [
        "0 B",
        "12 B",
        "66.1 kB",
        "132 kB",
        "529 MB",
        "3.2 GB",
        "7000 GB",
    ]
    assert [_two(s) for s in (0, 0.0123, 0.999, 9.94, 71.4, 4000)] == [
        "0",
        "0.012",
        "1",
        "9.9",
        "71",
        "4000",
    ]
