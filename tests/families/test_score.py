"""Score models: exact facts of the diffusions, and of samplers on scores that are known exactly."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from expunge.data import digits
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLoss, HasNoise, HasOutputs
from expunge.families.from_noise import NOISE, TIME, centred
from expunge.families.score import TIMESTEPS, Score
from expunge.families.score_sampling import PredictorCorrector, ProbabilityFlow
from expunge.families.sde import SDE, VE, VP, SubVP
from expunge.models.denoisers import ScoreUNet
from expunge.models.score_mlp import ScoreMlp
from expunge.run import Run

SDES: list[SDE] = [VP(), SubVP(), VE(0.01, 10.0)]
SHAPE = (1, 4, 4)


class OfNormal(nn.Module):
    """The exact noise for data N(mean, deviation^2) in every pixel, from -1 to 1."""

    def __init__(self, sde: SDE, mean: float, deviation: float) -> None:
        super().__init__()
        self.sde, self.mean, self.deviation = sde, mean, deviation
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        factor, sigma = (v.view(-1, 1, 1, 1) for v in self.sde.marginal(timesteps / TIMESTEPS))
        if self.sde.prior > 1:
            x = x * (1 + sigma.square()).sqrt()
        return sigma * (x - factor * self.mean) / ((factor * self.deviation) ** 2 + sigma**2)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return digits.tensors(digits.load("test"))["image"]


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.name)
def test_marginals_solve_the_equations_of_the_diffusion(sde: SDE) -> None:
    time, step = torch.linspace(0.02, 0.98, 25, dtype=torch.float64), 1e-5
    factor, deviation = sde.marginal(time)
    variance = deviation.square()
    (before, less), (after, more) = sde.marginal(time - step), sde.marginal(time + step)
    moved = (after - before) / (2 * step)
    spread = (more.square() - less.square()) / (2 * step)
    drift, noise = sde.drift(time), sde.diffusion(time)
    assert torch.allclose(moved, drift * factor, rtol=1e-6, atol=1e-9)
    assert torch.allclose(spread, 2 * drift * variance + noise.square(), rtol=1e-6)


def test_vp_keeps_the_variance_and_sub_vp_has_its_square() -> None:
    time = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor, deviation = VP().marginal(time)
    assert torch.allclose(factor.square() + deviation.square(), torch.ones_like(time))
    assert torch.allclose(SubVP().marginal(time)[1], deviation.square())


@pytest.mark.parametrize("kind", [VP, SubVP, VE])
def test_noise_that_does_not_grow_is_refused(kind: Any) -> None:
    with pytest.raises(ExpungeError, match="the second one larger"):
        kind(2.0, 1.0)


def test_drawing_fixes_everything_that_is_random(images: Tensor) -> None:
    family, model = Score(), ScoreMlp(torch.Generator().manual_seed(0))
    for ability in (Family, HasLoss, HasOutputs, HasNoise):
        assert isinstance(family, ability)
    one, other = (
        family.draw({"image": images[:8]}, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(one[NOISE], other[NOISE]) and torch.equal(one[TIME], other[TIME])
    losses = family.losses(model, one)
    assert losses.values.shape == (8, 64)
    assert torch.equal(losses.values, family.losses(model, other).values)
    factor, deviation = VP().marginal(one[TIME])
    found = family.noised(one)
    assert torch.allclose(
        found[5], factor[5] * centred(images[5]) + deviation[5] * one[NOISE][5], atol=1e-6
    )


@pytest.mark.parametrize("network", [ScoreUNet()(0), ScoreMlp(torch.Generator().manual_seed(0))])
def test_pictures_of_a_size_that_the_network_does_not_take_are_said(network: nn.Module) -> None:
    nine = torch.nn.functional.pad(digits.tensors(digits.load("test"))["image"][:3], (0, 1, 0, 1))
    batch = Score().draw({"image": nine}, torch.Generator())
    with pytest.raises(ExpungeError, match=r"shape \(3, 1, 9, 9\) and failed .* size"):
        Score().outputs(network, batch)


def test_pictures_that_are_none_and_answers_of_another_shape_are_said(images: Tensor) -> None:
    with pytest.raises(ExpungeError, match="reads the field `image`"):
        Score().draw({"label": torch.zeros(3)}, torch.Generator())
    with pytest.raises(ExpungeError, match=r"one of shape \(3, 64\)"):
        Score().draw({"image": images[:3].flatten(1)}, torch.Generator())
    batch = Score().draw({"image": images[:3]}, torch.Generator())

    class Flat(nn.Module):
        def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
            return x.flatten(1)

    with pytest.raises(ExpungeError, match="of the same shape"):
        Score().outputs(Flat(), batch)
    with pytest.raises(ExpungeError, match="between 0 and 1"):
        Score(earliest=0.0)


@pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.name)
def test_both_samplers_draw_the_distribution_whose_score_they_follow(sde: SDE) -> None:
    family, model = Score(sde), OfNormal(sde, 0.3, 0.2)
    for sampler in (PredictorCorrector(400, last=1e-3), ProbabilityFlow(200)):
        drawn = centred(sampler.drawn(family, model, (300, *SHAPE), Run(), "test"))
        assert float(drawn.mean()) == pytest.approx(0.3, abs=0.03)
        assert float(drawn.std()) == pytest.approx(0.2, rel=0.15)


def test_corrections_leave_the_distribution() -> None:
    family, model = Score(), OfNormal(VP(), 0.0, 0.4)
    drawn = PredictorCorrector(200, corrections=1).drawn(family, model, (300, *SHAPE), Run(), "a")
    assert float(centred(drawn).std()) == pytest.approx(0.4, rel=0.15)


def test_inpainting_keeps_the_known_part_and_draws_the_rest(images: Tensor) -> None:
    family, model = Score(), OfNormal(VP(), -0.5, 0.1)
    known = torch.ones_like(images[:40])
    known[:, :, 4:] = 0
    sampler = PredictorCorrector(200)
    filled = sampler.inpainted(family, model, images[:40], known, Run(), "test")
    assert torch.allclose(filled[:, :, :4], images[:40, :, :4], atol=1e-6)
    assert float(centred(filled[:, :, 4:]).mean()) == pytest.approx(-0.5, abs=0.03)


def test_steps_of_the_flow_grow_with_the_time() -> None:
    times = ProbabilityFlow(9, first=1e-3).times()
    assert torch.allclose(times, torch.linspace(0.1, 1.0, 10) ** 3)


def test_what_is_encoded_is_decoded_again() -> None:
    family, model = Score(), OfNormal(VP(), 0.0, 0.5)
    given = (torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(1)) * 0.5 + 1) / 2
    back = ProbabilityFlow(200).reconstructed(family, model, given, Run(), "test", 1e-5)
    assert float((back - given).abs().max()) < 0.03
    noisy = ProbabilityFlow(200).reconstructed(family, model, given, Run(), "test", 0.5)
    assert float((noisy - given).abs().max()) > 0.1


def test_the_same_name_gives_the_same_pictures_and_steps_are_checked() -> None:
    family, model = Score(), ScoreMlp(torch.Generator().manual_seed(0))
    draws = [
        PredictorCorrector(5).drawn(family, model, (2, 1, 8, 8), Run(), name)
        for name in ("a", "a", "b")
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    with pytest.raises(ExpungeError, match="at least 1 step"):
        PredictorCorrector(0)
    with pytest.raises(ExpungeError, match="at least 1 step"):
        ProbabilityFlow(0)
    assert math.isfinite(float(draws[0].sum()))
