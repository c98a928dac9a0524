"""Shipped models that draw: what `expunge train` makes of them and says."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.benchmarks import clothes, digits_judge, picture_judge, shipped_drawing
from expunge.benchmarks.classification import worlds
from expunge.benchmarks.msgm import work as scoring
from expunge.benchmarks.shipped_drawing import SHIPPED, Drawing, Told
from expunge.cli import train
from expunge.data import catalogue
from expunge.data.samples import TensorSamples
from expunge.data.sets.fashion_mnist import CLASSES
from expunge.descent import loop
from expunge.descent.state import State
from expunge.errors import ExpungeError
from expunge.families.diffusion import LabelDiffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.learning.supervised.averaged import Averaged
from expunge.learning.supervised.plain import Plain
from expunge.recipe import Role
from expunge.run import Run, watched
from expunge.storage import read_tensors

APART = {"Frechet distance, drawn", "Frechet distance, real rows"}


def short(make: Callable[[], Drawing], steps: int) -> Callable[[], Drawing]:
    """The same with a training of a few steps."""

    def made() -> Drawing:
        whole = make()
        learner = whole.recipe.learner
        assert isinstance(learner, Averaged)
        learner = replace(learner, steps=steps, batch_size=8)
        return replace(whole, recipe=replace(whole.recipe, learner=learner))

    return made


@functools.cache
def enlarged() -> Mapping[str, TensorSamples]:
    """The digits at 16 x 16 pixels, since Fashion-MNIST has to be fetched."""
    return {
        split: rows.with_column("image", F.interpolate(rows.columns["image"], scale_factor=2))
        for split, rows in digits_judge.rows().items()
    }


@functools.cache
def few(large: bool) -> picture_judge.Gallery:
    """Digits with a judge that learns little, and few pictures of each."""
    rows = {
        split: samples.select(torch.arange(300))
        for split, samples in (enlarged() if large else digits_judge.rows()).items()
    }
    recipe = clothes.JUDGE if large else digits_judge.JUDGE
    return picture_judge.Gallery(rows, replace(recipe, learner=Plain(8)), copies=1, each=6)


@functools.cache
def taught(gallery: picture_judge.Gallery) -> nn.Module:
    """Its judge, once for all tests."""
    return gallery.judge.make({Role.TRAIN: gallery.rows["train"]}, Run()).model


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges that learn little, few pictures, few steps of drawing."""
    monkeypatch.setattr(clothes, "SAMPLER", DDIM(2, 1.5))
    monkeypatch.setattr(clothes, "FLOW", replace(clothes.FLOW, steps=2))
    monkeypatch.setattr(clothes, "ASKED", 4)
    monkeypatch.setattr(shipped_drawing, "SEVERAL", DDIM(2, 1.5))
    monkeypatch.setattr(scoring, "ASKED", 4)
    monkeypatch.setattr(scoring, "FLOW", replace(scoring.FLOW, steps=2))
    monkeypatch.setattr(scoring, "SAMPLER", replace(scoring.SAMPLER, steps=2))
    monkeypatch.setattr(clothes, "gallery", lambda: few(True))
    monkeypatch.setattr(digits_judge, "gallery", lambda: few(False))
    monkeypatch.setattr(picture_judge.Gallery, "judging", lambda self, run: taught(self))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["digits-diffusion", "clothes-diffusion"])
def test_an_untrained_model_draws_nothing_that_it_is_told(name: str) -> None:
    work = SHIPPED[name]()
    model = work.recipe.builder(0)
    found = work.score(model, Run())
    assert set(found) == {"drawn as told", "judge, real test rows"} | APART
    share, judge = found["drawn as told"], found["judge, real test rows"]
    assert share["low"] <= share["value"] <= share["high"] and share["value"] <= 0.35
    assert judge["value"] > 0.8
    far, floor = (found[f"Frechet distance, {of}"]["value"] for of in ("drawn", "real rows"))
    assert far > 5 * floor
    sheet = work.shown(model, Run())
    assert {len(pictures) for pictures in sheet.rows.values()} == {len(sheet.columns)} == {10}
    assert len(sheet.rows) == 1 + shipped_drawing.SHOWN


class Drawer(nn.Module):
    """Sees the noise that leads to a real row of what it is told, another at each place."""

    def __init__(self, family: LabelDiffusion, rows: TensorSamples) -> None:
        super().__init__()
        self.family, self.rows = family, rows

    def forward(self, noised: Tensor, time: Tensor, label: Tensor) -> Tensor:
        images, labels = self.rows.columns["image"], self.rows.columns["label"]
        of_class = [images[labels == c] for c in range(10)]
        real = [of_class[int(c) % 10][i % len(of_class[int(c) % 10])] for i, c in enumerate(label)]
        factor, deviation = self.family.schedule.marginal(time)
        drawn = factor.view(-1, 1, 1, 1) * (2 * torch.stack(real) - 1)
        return (noised - drawn) / deviation.view(-1, 1, 1, 1)


@pytest.mark.usefixtures("quick")
def test_one_that_draws_real_rows_is_as_good_as_they_are() -> None:
    """And one that draws the class after what it is told is not."""
    work = SHIPPED["clothes-diffusion"]()
    family = work.recipe.family
    assert isinstance(family, LabelDiffusion)
    look = Told(clothes.gallery(), family, DDIM(1, 1.0))
    rows = enlarged()["validation"]
    found = look.measured(Drawer(family, rows), Run())
    judge = found["judge, real test rows"]["value"]
    assert found["drawn as told"]["value"] == pytest.approx(judge, abs=0.1)
    distance, floor = (found[f"Frechet distance, {of}"]["value"] for of in ("drawn", "real rows"))
    assert distance < 2 * floor
    turned = rows.with_column("label", (rows.columns["label"] + 1) % 10)
    assert look.measured(Drawer(family, turned), Run())["drawn as told"]["value"] < 0.1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["digits-score", "clothes-score"])
def test_training_writes_weights_and_says_how_likely_real_rows_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(train.MODELS, name, short(SHIPPED[name], 2))
    out = tmp_path / "score.safetensors"
    train.train(name, out, None, tmp_path / "sheet.png", tmp_path / "score.json")
    said = capsys.readouterr().out
    assert "bits a dimension" in said and "going on" not in said
    found: dict[str, Any] = json.loads((tmp_path / "score.json").read_text())["scores"]
    assert set(found) == {"bits a dimension, test rows", "judge, real test rows"} | APART
    assert "low" not in found["Frechet distance, drawn"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    model = SHIPPED[name]().recipe.builder(0)
    assert set(read_tensors(out)) == {name for name, _ in model.named_parameters()}
    assert {path.name for path in tmp_path.iterdir()} == {out.name, "sheet.png", "score.json"}


@pytest.mark.usefixtures("quick")
def test_a_training_that_was_stopped_goes_on_and_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(train.MODELS, "digits-score", short(SHIPPED["digits-score"], 4))
    monkeypatch.setattr(train, "Run", functools.partial(Run, checkpoint_every=1))
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    train.train("digits-score", whole, None)
    met: list[int] = []
    one_step = loop._one_step

    def counted(state: State) -> None:
        one_step(state)
        met.append(state.step)

    monkeypatch.setattr(loop, "_one_step", counted)

    def stop(share: float) -> None:
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched(stop):
        train.train("digits-score", stopped, None)
    assert not stopped.exists()
    capsys.readouterr()
    train.train("digits-score", stopped, None)
    assert "going on" in capsys.readouterr().out
    assert met == [1, 2, 3, 3, 4]
    first, second = read_tensors(whole), read_tensors(stopped)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == [stopped.name, whole.name]


def test_a_sheet_of_what_draws_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="digits-classifier, which draws nothing"):
        train.train("digits-classifier", tmp_path / "c.safetensors", None, tmp_path / "s.png")
    with pytest.raises(ExpungeError, match=r"The file of --sheet, .* is a folder"):
        train.train("digits-score", tmp_path / "c.safetensors", None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_clothes_are_halved_with_a_margin_and_keep_their_grey_values() -> None:
    real = digits_judge.rows()["test"]
    large = F.interpolate(real.columns["image"], size=28, mode="bilinear")
    made = clothes.halved(real.with_column("image", large)).columns["image"]
    assert made.shape[1:] == clothes.SHAPE
    levels = made * (clothes.LEVELS - 1)
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    margin = torch.ones(16, 16, dtype=torch.bool)
    margin[1:-1, 1:-1] = False
    assert not made[..., margin].any()
    inner = F.avg_pool2d(large, 2)
    assert torch.allclose(made[..., 1:-1, 1:-1], inner, atol=0.5 / 255 + 1e-6)


def test_clothes_that_were_not_fetched_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path))
    clothes.rows.cache_clear()
    worlds.world.cache_clear()
    with pytest.raises(ExpungeError, match="expunge data fetch fashion-mnist"):
        SHIPPED["clothes-diffusion"]()


@pytest.mark.slow
def test_the_clothes_and_their_judge() -> None:
    catalogue.fetched("fashion-mnist")
    gallery = clothes.gallery()
    assert {split: len(rows) for split, rows in gallery.rows.items()} == {
        "train": 50_000,
        "validation": 10_000,
        "test": 10_000,
    }
    assert gallery.rows["test"].columns["label"].bincount().tolist() == [1000] * len(CLASSES)
    assert 0.86 < gallery.right(gallery.judging(Run())).double().mean() < 0.94


@pytest.mark.slow
def test_the_canvas_is_judged_in_both_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_drawing, "EACH", 1)
    work = SHIPPED["emoji-canvas"]()
    found = work.score(work.recipe.builder(0), Run())
    assert set(found) == {"object drawn as told", "style drawn as told"}
    assert all(f["value"] < 0.5 for f in found.values())
    assert torch.is_tensor(work.rows.batch(torch.tensor([0]))["prompt"])
