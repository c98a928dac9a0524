"""Shipped models that draw: what `expunge train` makes of them and says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from expunge.benchmarks import shipped_drawing
from expunge.benchmarks.msgm import work as scoring
from expunge.benchmarks.shipped_drawing import SHIPPED, Drawing
from expunge.cli import train
from expunge.learning.supervised.averaged import Averaged
from expunge.run import Run
from expunge.storage import read_tensors


def short(make: Callable[[], Drawing], steps: int) -> Callable[[], Drawing]:
    """The same with a training of a few steps."""

    def made() -> Drawing:
        whole = make()
        learner = whole.recipe.learner
        assert isinstance(learner, Averaged)
        return replace(whole, recipe=replace(whole.recipe, learner=replace(learner, steps=steps)))

    return made


@pytest.mark.slow
def test_an_untrained_model_draws_nothing_that_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_drawing, "EACH", 4)
    work = SHIPPED["digits-diffusion"]()
    [(name, found)] = work.score(work.recipe.builder(0), Run()).items()
    assert name == "drawn as told"
    assert found["low"] <= found["value"] <= 0.35 and found["value"] <= found["high"]


def test_training_writes_weights_and_says_how_likely_real_rows_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(train.MODELS, "digits-score", short(SHIPPED["digits-score"], 2))
    monkeypatch.setattr(scoring, "ASKED", 4)
    out = tmp_path / "score.safetensors"
    train.train("digits-score", out, None, tmp_path / "score.json")
    said = capsys.readouterr().out
    assert "bits a dimension" in said
    model = SHIPPED["digits-score"]().recipe.builder(0)
    assert set(read_tensors(out)) == {name for name, _ in model.named_parameters()}


@pytest.mark.slow
def test_the_canvas_is_judged_in_both_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_drawing, "EACH", 1)
    work = SHIPPED["emoji-canvas"]()
    found = work.score(work.recipe.builder(0), Run())
    assert set(found) == {"object drawn as told", "style drawn as told"}
    assert all(f["value"] < 0.5 for f in found.values())
    assert torch.is_tensor(work.rows.batch(torch.tensor([0]))["prompt"])
