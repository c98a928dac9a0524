"""Likelihoods by the probability flow, where they are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from expunge.data import digits, own
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.score import TIMESTEPS, Score
from expunge.families.score_sampling import ProbabilityFlow
from expunge.families.sde import VP
from expunge.models.score_mlp import ScoreMlp
from expunge.run import Run
from expunge.signals.likelihood import MOST, Likelihood

MEAN, DEVIATION = 0.2, 0.5


class OfNormal(nn.Module):
    """The exact noise for data N(MEAN, deviation^2) in every pixel."""

    def __init__(self, deviation: float = DEVIATION) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        factor, sigma = (v.view(-1, 1, 1, 1) for v in VP().marginal(timesteps / TIMESTEPS))
        return sigma * (x - factor * MEAN) / ((factor * self.deviation) ** 2 + sigma**2)


@pytest.fixture(scope="module")
def rows() -> TensorSamples:
    table = digits.load("test")
    return own.samples(table, digits.tensors(table))


@pytest.mark.parametrize(("deviation", "steps"), [(DEVIATION, 20), (0.05, 100)])
def test_the_density_of_a_normal_distribution_is_its_own(deviation: float, steps: int) -> None:
    """Also of one that is as narrow as the grey levels of a picture, with few steps."""
    generator = torch.Generator().manual_seed(0)
    x = MEAN + deviation * torch.randn(50, 1, 3, 3, generator=generator)
    signs = torch.ones_like(x)  # the divergence of this flow is its diagonal: any signs are exact
    measure = Likelihood(ProbabilityFlow(steps, first=1e-5))
    found = measure.log_density(Score(), OfNormal(deviation), x, signs)
    away = ((x - MEAN) / deviation).double().square().flatten(1).sum(1)
    exact = -away / 2 - 9 * math.log(deviation * math.sqrt(2 * math.pi))
    assert torch.allclose(found, exact, atol=0.05)


def test_the_density_in_two_dimensions_adds_up_to_one() -> None:
    side = torch.linspace(-2.5, 2.9, 61)
    grid = torch.cartesian_prod(side, side).view(-1, 1, 1, 2)
    measure = Likelihood(ProbabilityFlow(60, first=1e-4))
    found = measure.log_density(Score(), OfNormal(), grid, torch.ones_like(grid))
    total = float(found.exp().sum()) * float(side[1] - side[0]) ** 2
    assert total == pytest.approx(1.0, abs=0.02)


def test_bits_of_an_untrained_network_are_above_those_of_guessing(rows: TensorSamples) -> None:
    few = rows.select(torch.arange(40))
    model = ScoreMlp(torch.Generator().manual_seed(0))
    bits = Likelihood(ProbabilityFlow(20), levels=17).bits(Score(), model, few, Run())
    assert bits.shape == (40,)
    assert float(bits.median()) > math.log2(17)


def test_more_grey_levels_cost_their_logarithm(rows: TensorSamples) -> None:
    few = rows.select(torch.arange(40))
    found = [
        float(Likelihood(ProbabilityFlow(20), levels).bits(Score(), OfNormal(), few, Run()).mean())
        for levels in (64, 256)
    ]
    assert found[1] - found[0] == pytest.approx(2.0, abs=0.1)


def test_a_score_that_overshoots_is_cut_and_one_that_is_nan_is_said(rows: TensorSamples) -> None:
    few = rows.select(torch.arange(4))

    class Wrong(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
            return self.factor * x

    bits = Likelihood(ProbabilityFlow(20)).bits(Score(), Wrong(-30.0), few, Run())
    assert bool((bits == MOST).all())
    with pytest.raises(ExpungeError, match="4 of 4 pictures came out as NaN"):
        Likelihood(ProbabilityFlow(20)).bits(Score(), Wrong(math.nan), few, Run())
    with pytest.raises(ExpungeError, match="at least one row"):
        Likelihood().bits(Score(), OfNormal(), rows.select(torch.arange(0)), Run())
    with pytest.raises(ExpungeError, match="at least 2 levels"):
        Likelihood(levels=1)
