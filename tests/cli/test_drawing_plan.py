"""What is said of models that draw before and after: methods that fit, a plan, an audit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.known_denoisers import UNTOLD
from typer.testing import CliRunner, Result

from expunge.cli.main import app

Drawing = Callable[..., Path]


def invoked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def figures(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_they_are_listed_with_the_methods_that_fit(tmp_path: Path) -> None:
    assert invoked("methods", "--json", tmp_path / "m.json").exit_code == 0
    found = figures(tmp_path / "m.json")
    assert {"diffusion", "score"} <= set(found["families"])
    fitting = {one["name"]: one["families"].split(", ") for one in found["methods"]}
    assert "diffusion" in fitting["salun-diffusion"] and "score" not in fitting["salun-diffusion"]
    assert {"diffusion", "score"} <= set(fitting["msgm-bounded"])


def test_a_plan_says_which_methods_fit_and_why_others_do_not(
    drawing: Drawing, tmp_path: Path
) -> None:
    def fits(file: Path) -> dict[str, list[str]]:
        found = invoked("plan", file, "--no-probe", "--json", tmp_path / "p.json")
        assert found.exit_code == 0, found.exception
        return {one["name"]: one["lacks"] for one in figures(tmp_path / "p.json")["methods"]}

    found = fits(drawing())
    for name in ("relabel-diffusion", "salun-diffusion", "erase-diff", "sfd", "msgm-bounded"):
        assert found[name] == []
    assert found["random-label"] == ["the family 'diffusion' lacks HasNeutral"]
    assert found["uce"][0] == "the family 'diffusion' lacks TextDiffusion"
    rows = {"name": "two rows", "column": "id", "values": ["digits:0003", "digits:0007"]}
    found = fits(drawing(requests=[rows]))
    assert found["relabel-diffusion"] == []  # the next label, whatever the row's own
    for name in ("erase-diff", "sfd", "amnesia-diffusion"):
        assert found[name] == ["needs one condition to forget, and the request names none"]
    found = fits(drawing(UNTOLD))
    assert found["msgm-bounded"] == found["fine-tune"] == []
    assert found["relabel-diffusion"] == ["the family 'score' lacks Diffusion"]


def test_a_plan_estimates_time_and_memory(drawing: Drawing) -> None:
    found = invoked("plan", drawing(method__parameters__steps=10))
    assert found.exit_code == 0, found.exception
    assert "relabel-diffusion" in found.output


def test_an_audit_asks_what_losses_can_answer(drawing: Drawing, tmp_path: Path) -> None:
    file = drawing(judge=None)
    assert invoked("forget", file).exit_code == 0
    found = invoked("audit", file, "--level", "quick", "--json", tmp_path / "a.json")
    assert found.exit_code == 3, found.exception  # without an oracle not all can be told
    verdicts = {one["question"]: one["result"] for one in figures(tmp_path / "a.json")["verdicts"]}
    assert verdicts["kept"] == verdicts["duplicates left"] == "pass"
    assert verdicts["forgotten"] == "not enough evidence"
    assert "37 held-out rows with forgotten labels" in found.output
