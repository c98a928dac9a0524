"""NPO, SimNPO, DPO, WGA and SatImp as losses: values, gradients, limits, and what is cached."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch
from expunge.descent.alternatives import Refusals, Sampled
from expunge.descent.forget_terms import Ascent
from expunge.descent.player import Setting, Term
from expunge.descent.preference_terms import Pairs, Preference
from expunge.descent.sequence_terms import NegativePreference, SimpleNegativePreference
from expunge.descent.weighted_ascent import TokenWeightedAscent
from expunge.errors import ExpungeError
from expunge.families.abilities import UnitLosses
from expunge.families.language import IGNORED, Language
from expunge.recipe import Role
from expunge.run import Run
from language_facts import by_hand, problem, setting_of, slope, untrained

FORGET = problem().data[Role.FORGET]
ALL = FORGET.batch(torch.arange(len(FORGET)))


def number(value: Tensor) -> float:
    return float(value.detach())


def at_the_start() -> Setting:
    return setting_of(problem())


def elsewhere() -> Setting:
    """A live model that has left its reference."""
    setting = at_the_start()
    return replace(setting, modules={"model": untrained(3)})


@dataclass(frozen=True)
class Given(Language):
    """A family whose losses are the parameters of its model: gradients in them are weights."""

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        [values] = model.parameters()
        return UnitLosses.per_sample(values)


def weights_of(term: Term, losses: Tensor, prepared: object = None) -> Tensor:
    """What a term multiplies the ascent on the loss of each row with."""
    model = nn.ParameterList([losses])
    given = replace(problem(), family=Given())
    setting = Setting(given, {"model": model}, lambda: model, Run())
    value = term.value(setting, {ROW: torch.arange(len(losses))}, prepared)
    return -len(losses) * slope(value, model)


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_at_the_reference_npo_is_gradient_ascent_on_the_sums(beta: float) -> None:
    setting, term = at_the_start(), NegativePreference(beta)
    value = term.value(setting, ALL, term.start(setting, FORGET))
    assert number(value) == pytest.approx(2 / beta * math.log(2), rel=1e-5)
    ascent = -setting.problem.family.losses(setting.model, ALL).sums().mean()  # type: ignore[attr-defined]
    assert torch.allclose(slope(value, setting.model), slope(ascent, setting.model), atol=1e-5)


def test_the_smaller_beta_the_nearer_npo_is_to_gradient_ascent() -> None:
    """L_NPO - (2/beta) log 2 tends to -(L - L_ref), with an error of beta / 4 times its square."""
    setting, batch = elsewhere(), ALL
    true, now = by_hand(problem().model, batch), by_hand(setting.model, batch)
    risen = torch.stack([a.sum() - b.sum() for a, b in zip(true, now, strict=True)]).detach()
    for beta in (1e-1, 1e-2, 1e-3):
        term = NegativePreference(beta)
        value = term.value(setting, batch, term.start(setting, FORGET))
        left = number(value) - 2 / beta * math.log(2) + float(risen.mean())
        assert left == pytest.approx(beta / 4 * float(risen.square().mean()), rel=0.1, abs=2e-3)


@pytest.mark.parametrize(
    "term",
    [
        NegativePreference(0.1),
        SimpleNegativePreference(2.0, 4.0),
        Preference(0.1),
        Preference(0.1, Sampled(2)),
    ],
)
def test_finite_differences(term: Term) -> None:
    setting, width = elsewhere(), 1e-2
    prepared, vector = term.start(setting, FORGET), nn.utils.parameters_to_vector
    parameters = list(setting.model.parameters())
    here = vector(parameters).detach()
    found = slope(term.value(setting, ALL, prepared), setting.model)
    random = torch.randn(here.shape, generator=torch.Generator().manual_seed(0))
    for direction in (F.normalize(found, dim=0), F.normalize(found + random * found.std(), dim=0)):
        values = []
        for step in (width, -width):
            nn.utils.vector_to_parameters(here + step * direction, parameters)
            values.append(number(term.value(setting, ALL, prepared)))
        along = (values[0] - values[1]) / (2 * width)
        assert along == pytest.approx(float(found @ direction), rel=0.01)


def test_the_cached_reference_gives_what_the_reference_beside_the_model_gives() -> None:
    setting, rows = elsewhere(), torch.tensor([4, 0, 3])
    batch, beta = FORGET.batch(rows), 0.1
    now = torch.stack([row.sum() for row in by_hand(setting.model, batch)])
    then = torch.stack([row.sum() for row in by_hand(problem().model, batch)])
    term = NegativePreference(beta)
    value = term.value(setting, batch, term.start(setting, FORGET))
    expected = -2 / beta * F.logsigmoid(beta * (then - now)).mean()
    assert number(value) == pytest.approx(number(expected), rel=1e-6)


def test_simnpo_has_the_mean_loss_of_each_row() -> None:
    setting = elsewhere()
    means = torch.stack([-row.mean() for row in by_hand(setting.model, ALL)])
    expected = -2 / 4.5 * F.logsigmoid(4.5 * (means - 0.3)).mean()
    term = SimpleNegativePreference(4.5, 0.3)
    assert number(term.value(setting, ALL, None)) == pytest.approx(number(expected), rel=1e-6)


def test_all_are_ascent_with_weights_by_probability() -> None:
    p = torch.linspace(0.01, 0.99, 99)
    reference = torch.rand(99, generator=torch.Generator().manual_seed(0))
    npo = weights_of(NegativePreference(0.7), -p.log(), reference.log())
    assert torch.allclose(npo, 2 / (1 + (p / reference) ** -0.7), atol=1e-5)
    simnpo = weights_of(SimpleNegativePreference(2.0, 0.5), -p.log())
    assert torch.allclose(simnpo, 2 * torch.sigmoid(-2.0 * (-p.log() - 0.5)), atol=1e-5)
    assert torch.allclose(weights_of(TokenWeightedAscent(2.0), -p.log()), p**2, atol=1e-5)
    satimp = weights_of(TokenWeightedAscent(5.0, 1.0), -p.log())
    assert torch.allclose(satimp, p**5 * (1 - p), atol=1e-5)
    assert float(p[satimp.argmax()]) == pytest.approx(5 / 6, abs=0.01)
    assert bool((weights_of(Ascent(), -p.log()) == 1).all())


def test_weighted_ascent_without_exponents_is_gradient_ascent_bit_for_bit() -> None:
    setting, term = elsewhere(), TokenWeightedAscent(0.0)
    value = term.value(setting, ALL, None)
    plain = -setting.problem.family.losses(setting.model, ALL).mean()  # type: ignore[attr-defined]
    assert torch.equal(value, plain)
    assert torch.equal(slope(value, setting.model), slope(plain, setting.model))
    lengths = (ALL["labels"] != IGNORED).sum(1)
    alike = FORGET.batch((lengths == lengths.mode().values).nonzero().reshape(-1))
    assert len(alike["labels"]) > 1
    by_rows = Ascent().value(setting, alike, None)
    assert number(term.value(setting, alike, None)) == pytest.approx(number(by_rows), rel=1e-6)


def test_padding_and_what_stands_in_it_change_nothing() -> None:
    setting = elsewhere()
    ids, labels = ALL["input_ids"], ALL["labels"]
    wider = {
        **ALL,
        "input_ids": torch.cat([ids.masked_fill(ids == 0, 7), torch.full((len(ids), 5), 9)], 1),
        "labels": F.pad(labels, (0, 5), value=IGNORED),
    }
    terms: list[Term] = [NegativePreference(), SimpleNegativePreference(), TokenWeightedAscent()]
    for term in terms:
        prepared = term.start(setting, FORGET)
        one, other = (number(term.value(setting, b, prepared)) for b in (ALL, wider))
        assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("alternatives", [Refusals(), Sampled(3)])
def test_a_preference_starts_at_the_reference_and_then_is_the_formula(
    alternatives: Refusals | Sampled,
) -> None:
    beta = 0.2
    term, start = Preference(beta, alternatives), at_the_start()
    prepared = term.start(start, FORGET)
    value = term.value(start, ALL, prepared)
    assert number(value) == pytest.approx(2 / beta * math.log(2), rel=1e-5)
    setting, rows = elsewhere(), torch.tensor([5, 1])
    batch = FORGET.batch(rows)
    other = prepared.beside(rows, setting.generator())
    gained, lost = (
        torch.stack(
            [
                now.sum() - then.sum()
                for now, then in zip(
                    by_hand(setting.model, b), by_hand(problem().model, b), strict=True
                )
            ]
        )
        for b in (other, batch)
    )
    expected = -2 / beta * F.logsigmoid(beta * (gained - lost)).mean()
    assert number(term.value(setting, batch, prepared)) == pytest.approx(number(expected), rel=1e-5)


def test_a_row_keeps_its_refusal_and_another_run_draws_another() -> None:
    term = Preference()
    first, again = (term.start(at_the_start(), FORGET) for _ in range(2))
    assert isinstance(first, Pairs)
    rows = torch.arange(len(FORGET))
    one, same = first.beside(rows, torch.Generator()), again.beside(rows, torch.Generator())
    assert torch.equal(one["input_ids"], same["input_ids"])
    drawn = {
        tuple(
            term.start(setting_of(problem(), seed), FORGET)
            .beside(rows, torch.Generator())["labels"]
            .reshape(-1)
            .tolist()
        )
        for seed in range(4)
    }
    assert len(drawn) > 1


def test_refusals_are_needed_and_said() -> None:
    given = replace(problem(), family=Language())
    with pytest.raises(ExpungeError, match="no refusals"):
        Preference().start(setting_of(given), FORGET)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_a_beta_that_is_no_temperature_is_refused(beta: float) -> None:
    for kind in (NegativePreference, SimpleNegativePreference, Preference):
        with pytest.raises(ExpungeError, match="above 0"):
            kind(beta)


def test_exponents_that_push_what_is_forgotten_are_refused() -> None:
    for wrong in ((-1.0, 0.0), (1.0, -0.5), (math.nan, 0.0)):
        with pytest.raises(ExpungeError, match="0 or more"):
            TokenWeightedAscent(*wrong)
