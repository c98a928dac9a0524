"""Methods made flat: in the limit they are what they are put around, and the paper's forms."""

import math
from dataclasses import replace

import pytest
import torch

from expunge.changes.weights import digest_of
from expunge.descent.averages import MeanOfSamples
from expunge.descent.per_token_preference import PerTokenPreference
from expunge.descent.sequence_terms import NegativePreference
from expunge.descent.smoothing import (
    Chained,
    CurvatureRegularisation,
    GradientPenalty,
    RandomisedSmoothing,
    SharpnessAware,
    Smoothing,
)
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, able
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.npo import NPORetain
from expunge.methods.protocol import OverDescent, unlearn
from expunge.methods.sam_unlearn import NPOCR, NPOGP, NPORS, NPOSAM, NPOWA, SmoothNPO
from expunge.methods.smoothed import Smoothed
from expunge.recipe import Role
from expunge.run import Run
from language_facts import problem, setting_of, shares

AROUND = NPORetain(epochs=4, learning_rate=3e-3, batch_size=3, retain_batch_size=10)
NAMED = (NPOSAM, NPORS, NPOGP, NPOCR, NPOWA)


def end(method: OverDescent) -> str:
    given: object = method
    outcome = unlearn(given, problem(), Run())  # type: ignore[arg-type]
    return digest_of(outcome.applied_to(problem().model))


@pytest.mark.parametrize(
    "by",
    [
        SharpnessAware(0.0),
        RandomisedSmoothing(0.0),
        GradientPenalty(0.0),
        CurvatureRegularisation(0.0),
    ],
    ids=lambda by: type(by).__name__,
)
def test_in_the_limit_it_is_the_method_bit_for_bit(by: Smoothing) -> None:
    assert end(Smoothed(AROUND, by)) == end(AROUND)


@pytest.mark.parametrize(
    "around",
    [AROUND, Negation(2, 1e-3, kept=1.0), GradientDifference(2, 1e-3)],
    ids=lambda around: around.name,
)
def test_any_method_over_a_descent_is_smoothed_and_keeps_what_it_makes_of_it(
    around: OverDescent,
) -> None:
    smoothed = Smoothed(around, SharpnessAware(0.3))
    assert end(smoothed) != end(around)
    assert smoothed.needs == around.needs
    assert smoothed.unlearns_with == around.unlearns_with


def test_clipping_comes_after_the_smoothing() -> None:
    descent = Smoothed(AROUND).descent()
    assert descent.transform == Chained(SharpnessAware(), AROUND.descent().transform)  # type: ignore[arg-type]


def test_a_term_that_the_descent_lacks_is_refused() -> None:
    with pytest.raises(ExpungeError, match="bad-teacher has teachers; name one of these"):
        Smoothed(BadTeacher())
    Smoothed(BadTeacher(), SharpnessAware(terms=("teachers",)))
    with pytest.raises(ExpungeError, match="neither a smoothing nor an average"):
        Smoothed(AROUND, None)


@pytest.mark.parametrize("kind", NAMED, ids=lambda kind: kind.name)
def test_the_named_methods_are_npo_with_one_thing_around_it(kind: type[SmoothNPO]) -> None:
    method = kind(epochs=4, learning_rate=3e-3, batch_size=3, retain_batch_size=10)
    around = replace(AROUND, retain_weight=method.retain_weight)
    assert method.around() == around
    assert end(method) == end(Smoothed(around, method.smoothing(), method.average()))
    assert end(method) != end(around)


def test_the_published_forms_have_the_values_of_the_run_script_on_mean_losses() -> None:
    values = {
        kind.name: (m.learning_rate, m.beta, m.retain_weight)
        for kind in NAMED
        for m in [kind.as_published()]
    }
    assert values == {
        "npo-sam": (5e-6, 0.015, 2.25),
        "npo-rs": (1e-5, 0.0125, 2.0),
        "npo-gp": (7.5e-6, 0.04, 1.0),
        "npo-cr": (8.5e-6, 0.035, 1.0),
        "npo-wa": (5.5e-6, 0.05, 2.0),
    }
    [player] = NPOSAM.as_published().descent().players
    assert player.forget == PerTokenPreference(0.015)
    assert NPOWA.as_published().descent().average == MeanOfSamples(0.8, 5)
    with pytest.raises(ExpungeError, match="'sum' or 'mean'"):
        NPOSAM(reduction="median")  # type: ignore[arg-type]


def test_the_preference_per_token_is_the_summed_one_at_beta_over_the_length() -> None:
    given = problem()
    setting, samples = setting_of(given), given.data[Role.FORGET]
    term = PerTokenPreference(0.4)
    prepared = term.start(setting, samples) + 0.3  # as if the reference knew the facts better
    for row in range(len(samples)):
        batch = samples.batch(torch.tensor([row]))
        tokens = int(able(given.family, HasLoss).losses(given.model, batch).mask.sum())
        summed = NegativePreference(0.4 / tokens).value(setting, batch, prepared)
        found = term.value(setting, batch, prepared)
        assert found.item() == pytest.approx(summed.item() / tokens, rel=1e-5)
    start = term.value(setting, samples.batch(torch.arange(3)), prepared - 0.3)
    assert start.item() == pytest.approx(2 / 0.4 * math.log(2), rel=1e-4)


def test_npo_sam_forgets_and_keeps() -> None:
    method = NPOSAM(epochs=30, learning_rate=2e-3, batch_size=6, retain_batch_size=30)
    forget, retain = shares(problem(), method.descent().minimise(problem(), Run()).model)
    assert forget <= 0.2
    assert retain >= 0.8
