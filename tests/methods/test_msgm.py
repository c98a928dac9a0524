"""Facts about moderated score models: their losses, and what a weight of zero leaves."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of
from expunge.data import digits, own
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.averages import MovingAverage
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.moderation_terms import (
    BoundedScore,
    ErasedScore,
    ObtuseScore,
    OrthogonalScore,
    PerpendicularScore,
)
from expunge.descent.optimisers import AdamW, Cosine
from expunge.descent.player import Player, Setting, Term
from expunge.descent.retain_terms import Loss
from expunge.descent.schedules import WarmUp
from expunge.descent.transforms import ClipNorm
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.from_noise import NOISE
from expunge.families.score import Score
from expunge.families.score_sampling import ProbabilityFlow
from expunge.families.sde import VP
from expunge.learning.supervised.averaged import Averaged
from expunge.methods.msgm import (
    Moderated,
    MSGMBounded,
    MSGMErase,
    MSGMFromScratch,
    MSGMObtuse,
    MSGMOrthogonal,
    MSGMPerpendicular,
)
from expunge.methods.protocol import Method, missing, unlearn
from expunge.models.score_mlp import ScoreMlp
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import NO_REQUEST
from expunge.run import Run
from expunge.signals.likelihood import Likelihood

LEAVES: tuple[Moderated, ...] = (
    MSGMOrthogonal(),
    MSGMPerpendicular(),
    MSGMObtuse(),
    MSGMErase(),
    MSGMBounded(),
)
SHORT: dict[str, Any] = {
    "steps": 6,
    "warm_up": 2,
    "batch_size": 32,
    "forget_batch_size": 16,
    "decay": 0.5,
}


def network(seed: int) -> nn.Module:
    return ScoreMlp(torch.Generator().manual_seed(seed), width=64, blocks=1)


def split_of(name: str) -> tuple[TensorSamples, TensorSamples, TensorSamples]:
    """All digits of a split, the ones and fives of them, and the others."""
    table = digits.load(name)
    rows = own.samples(table, digits.tensors(table))
    goes = torch.isin(rows.columns["label"], torch.tensor([1, 5]))
    going, staying = (rows.select(torch.nonzero(part).flatten()) for part in (goes, ~goes))
    return rows, going, staying


@pytest.fixture(scope="module")
def problem() -> Problem:
    """A score model of the digits, of which the ones and fives must go."""
    rows, going, staying = split_of("train")
    recipe = Recipe(network, Score(), Averaged(300, 64, AdamW(2e-3), MovingAverage(0.9)))
    data: dict[Role, Samples] = {Role.FORGET: going, Role.RETAIN: staying}
    model = recipe.make({Role.TRAIN: rows}, Run()).model
    return Problem(model, recipe.family, NO_REQUEST, data, History(), recipe=recipe)


class Answering(nn.Module):
    """Answers with the same noise whatever it is asked."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = nn.Parameter(noise)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return self.noise.expand_as(x)


def value_of(term: Term, answer: Tensor, problem: Problem) -> float:
    rows = problem.data[Role.FORGET]
    batch = Score().draw(rows.batch(torch.arange(len(answer))), torch.Generator().manual_seed(0))
    model = Answering(answer)
    setting = Setting(problem, {"model": model}, lambda: model, Run())
    return float(term.value(setting, batch, None).detach())


def drawn_noise(problem: Problem, rows: int) -> Tensor:
    batch = problem.data[Role.FORGET].batch(torch.arange(rows))
    return Score().draw(batch, torch.Generator().manual_seed(0))[NOISE]


def test_the_losses_are_those_of_the_paper(problem: Problem) -> None:
    z = drawn_noise(problem, 20)
    n = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    inner = (n * z).flatten(1).sum(1)
    assert value_of(OrthogonalScore(), n, problem) == pytest.approx(float((n * z).square().mean()))
    assert value_of(PerpendicularScore(), n, problem) == pytest.approx(
        float((inner.square() / 64).mean())
    )
    mean = float((n * z).mean())
    assert value_of(ObtuseScore(), n, problem) == pytest.approx(mean, abs=1e-6)
    assert value_of(ObtuseScore(as_published=True), n, problem) == pytest.approx(-mean, abs=1e-6)
    cosines = inner / (n.flatten(1).norm(dim=1) * z.flatten(1).norm(dim=1))
    assert value_of(BoundedScore(), n, problem) == pytest.approx(64 * float(cosines.mean()))


def test_the_bounded_form_is_bounded_and_has_no_scale_and_the_others_have(problem: Problem) -> None:
    z = drawn_noise(problem, 20)
    assert value_of(BoundedScore(), -z, problem) == pytest.approx(-64.0, rel=1e-4)
    assert value_of(BoundedScore(), -7 * z, problem) == pytest.approx(-64.0, rel=1e-4)
    assert value_of(ObtuseScore(), -7 * z, problem) == pytest.approx(
        7 * value_of(ObtuseScore(), -z, problem)
    )
    assert value_of(OrthogonalScore(), 0 * z, problem) == 0  # its trivial minimum: no score at all


def test_independent_noise_as_the_target_is_uniform_and_another_at_every_step(
    problem: Problem,
) -> None:
    z = drawn_noise(problem, 200)
    found = value_of(ErasedScore(), torch.full_like(z, 0.5), problem)
    assert found == pytest.approx(1 / 12, rel=0.05)  # the variance of a uniform number


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)
def test_a_weight_of_zero_is_fine_tuning_on_the_retain_set_in_every_bit(
    leaf: Moderated, problem: Problem
) -> None:
    method = replace(leaf, weight=0.0, every=1, sequential=True, **SHORT)
    plain = Descent(
        Player(retain=Loss(), optimiser=AdamW(2e-4, schedule=WarmUp(2))),
        length=Steps(6),
        batch_size=32,
        transform=ClipNorm(1.0),
        average=MovingAverage(0.5),
    )
    after = plain.minimise(problem, Run()).model
    (found,) = unlearn(method, problem, Run()).changes
    assert isinstance(found, Replacement)
    assert found.digest() == digest_of(after)
    (moved,) = unlearn(replace(method, weight=0.5), problem, Run()).changes
    assert isinstance(moved, Replacement)
    assert moved.digest() != digest_of(after)


def test_a_moderation_acts_at_every_fourth_step_alone(problem: Problem) -> None:
    """With a period longer than the descent only its first step is moderated."""
    first = replace(MSGMObtuse(weight=0.4, every=100), **{**SHORT, "steps": 3})
    often = replace(first, every=1)
    one, other = (unlearn(m, problem, Run()).applied_to(problem.model) for m in (first, often))
    assert digest_of(one) != digest_of(other)
    short = [
        unlearn(replace(m, steps=1), problem, Run()).applied_to(problem.model)
        for m in (first, often)
    ]
    assert digest_of(short[0]) == digest_of(short[1])


def test_the_published_sign_leads_the_other_way(problem: Problem) -> None:
    """The mean product of answer and noise on the forget rows falls, and rises as published."""

    def product(model: nn.Module) -> float:
        rows = problem.data[Role.FORGET]
        batch = Score().draw(rows.batch(torch.arange(200)), torch.Generator().manual_seed(5))
        found, noise = Score().noises(model, batch)
        return float((found.detach() * noise).mean())

    before = product(problem.model)
    method = replace(MSGMObtuse(weight=0.3, every=1, learning_rate=1e-3), **SHORT)
    after = {
        published: product(
            unlearn(replace(method, as_published=published, steps=30), problem, Run()).applied_to(
                problem.model
            )
        )
        for published in (False, True)
    }
    assert after[False] < before - 0.05
    assert after[True] > before


@pytest.mark.slow
def test_obtuse_moderation_makes_undesired_rows_less_likely_and_spares_the_others() -> None:
    """Unseen ones and fives against fine-tuning without them, which alone is no moderation."""
    (rows, going, staying), (_, *unseen) = split_of("train"), split_of("test")
    optimiser = AdamW(3e-3, schedule=Cosine(0.05))
    family, learner = Score(VP(0.1, 8.0)), Averaged(1500, 64, optimiser, MovingAverage(0.98))

    def wider(seed: int) -> nn.Module:
        return ScoreMlp(torch.Generator().manual_seed(seed), width=128, blocks=2)

    model = Recipe(wider, family, learner).make({Role.TRAIN: rows}, Run()).model
    data: dict[Role, Samples] = {Role.FORGET: going, Role.RETAIN: staying}
    problem = Problem(model, family, NO_REQUEST, data, History())
    measure, bits = Likelihood(ProbabilityFlow(20), levels=17), []
    for weight in (0.0, 0.1):
        form = MSGMObtuse(weight, 1, 300, 5e-4, 0, 64, 64, decay=0.97)
        after = unlearn(form, problem, Run()).applied_to(model)
        bits += [float(measure.bits(family, after, part, Run()).median()) for part in unseen]
    undesired, desired, undesired_moderated, desired_moderated = bits
    assert undesired_moderated - undesired >= 0.3 + desired_moderated - desired
    assert desired_moderated - desired < 0.25


def test_from_scratch_starts_from_the_untrained_weights(problem: Problem) -> None:
    inner = replace(MSGMOrthogonal(), **SHORT)
    found = unlearn(MSGMFromScratch(inner), problem, Run())
    (change,) = found.changes
    assert isinstance(change, Replacement)
    assert problem.recipe is not None
    begun = replace(problem, model=problem.recipe.builder(problem.recipe.seed))
    (same,) = unlearn(replace(inner, sequential=True), begun, Run()).changes
    assert isinstance(same, Replacement)
    assert change.digest() == same.digest()


def test_other_families_are_refused_with_the_ability_that_they_lack(problem: Problem) -> None:
    method: Method = MSGMObtuse()
    (lack,) = missing(method, replace(problem, family=Classifier(classes=10)))
    assert "HasNoise" in lack.clause
    with pytest.raises(ExpungeError, match="HasNoise"):
        unlearn(method, replace(problem, family=Classifier(classes=10)), Run())


def test_a_preset_is_short_and_has_a_rule(problem: Problem) -> None:
    fitting = MSGMBounded().for_problem(problem, Run())
    assert (fitting.steps, fitting.every, fitting.weight) == (500, 1, 0.1)
    assert MSGMBounded.preset_rule
    assert MSGMBounded().steps == 660_000
