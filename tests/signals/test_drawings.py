"""What a judge sees in drawings, and the denoising loss: shares by hand, noise by row."""

import pytest
import torch
from torch import Tensor, nn

from expunge.data import digits, own
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.families.diffusion import LabelDiffusion
from expunge.families.score import Score
from expunge.run import Run
from expunge.signals.ask import ask, metric_of
from expunge.signals.denoising import DENOISING_LOSS, denoising_losses, untold_losses
from expunge.signals.drawings import TOLD_NOTHING, Drawings, Judge, Real

TOLD = LabelDiffusion(classes=tuple("0123456789"))
REAL = Real(1.0, 10, sure=0.9)


class Guess(nn.Module):
    """Sees noise of the same strength everywhere, which hangs on what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.by_label = nn.Parameter(torch.linspace(0, 1, 11))

    def forward(self, noised: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        told = torch.zeros_like(time, dtype=torch.int64) if label is None else label
        return self.by_label[told].view(-1, 1, 1, 1).expand_as(noised)


def rows(count: int = 24) -> TensorSamples:
    table = digits.load("train").select(range(count))
    return own.samples(table, digits.tensors(table))


def test_shares_of_a_model_that_is_told() -> None:
    told = torch.tensor([0, 0, 1, 1, 2, 2])
    found = Drawings(told, torch.tensor([0, 1, 1, 1, 2, 0]), torch.tensor([1, 1, 1, 0.5, 1, 0.2]))
    assert found.shows({0}) == 0.5
    assert found.shows({1}) == 1.0
    assert found.shows({0, 1}) == 0.75
    assert found.as_told({0}) == 0.75
    assert found.recognisable(REAL, {0}) == 0.5
    assert found.shows(set()) != found.shows(set())  # a request for rows names no class


def test_shares_of_a_model_that_is_told_nothing() -> None:
    seen = torch.tensor([0, 1, 1, 2])
    found = Drawings(torch.full((4,), TOLD_NOTHING), seen, torch.tensor([0.1, 1.0, 0.8, 0.95]))
    assert found.shows({1}) == 0.5
    assert found.as_told({1}) != found.as_told({1})
    assert found.recognisable(REAL, {1}) == 0.5


@pytest.mark.parametrize("family", [TOLD, Score()])
def test_the_loss_of_a_row_hangs_on_its_id_and_the_seed_alone(family: Family) -> None:
    whole, model, run = rows(), Guess(), Run()
    part = whole.select(torch.tensor([20, 3, 11]))
    assert metric_of(family) is DENOISING_LOSS
    every = denoising_losses(family, model, whole, run)
    assert torch.equal(denoising_losses(family, model, part, run, 8), every[[20, 3, 11]])
    assert not torch.equal(denoising_losses(family, model, part, Run(1)), every[[20, 3, 11]])
    signals = ask(family, model, whole, run)
    assert torch.equal(signals.query("denoising loss")[0], every)
    assert signals.samples == tuple(whole.ids)


def test_no_condition_is_left_out_and_all_are_where_nothing_is_told() -> None:
    """Noise z is seen as b: the mean of (z - b)^2 is 1 + b^2 up to chance, b by the label told."""
    samples, model, run = rows(240), Guess(), Run()
    b = model.by_label.detach()[samples.columns["label"]]
    found = denoising_losses(TOLD, model, samples, run)
    assert float((found - 1 - b.square()).mean()) == pytest.approx(0, abs=0.02)
    untold = untold_losses(TOLD, model, samples, run)
    assert float(untold.mean()) == pytest.approx(2, abs=0.05)  # the label after the last: b = 1


def test_a_diverged_model_is_told_from_a_bad_one() -> None:
    model = Guess()
    with torch.no_grad():
        model.by_label.fill_(float("inf"))
    with pytest.raises(ExpungeError, match="denoising losses; finite numbers"):
        ask(TOLD, model, rows(), Run())


def test_families_that_do_not_draw_have_nothing_to_judge() -> None:
    judge = Judge(Guess(), Classifier(), (1, 8, 8), torch.arange(10), steps=2)
    with pytest.raises(ExpungeError, match="'classifier', which does not draw"):
        judge.drawings(Classifier(), Guess(), Run())
