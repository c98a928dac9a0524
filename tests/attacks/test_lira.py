"""Facts about the likelihood-ratio attacks and their Gaussian fits."""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist, median, stdev

import pytest
import torch
from torch import Tensor

from expunge.attacks import (
    Shadows,
    Target,
    fit_each,
    fit_shared,
    lira_fixed_variance,
    lira_offline,
    lira_online,
    loss_attack,
)
from expunge.errors import ExpungeError
from expunge.signals import Roc

Normals = Callable[..., tuple[Target, Shadows, Tensor]]
Attack = Callable[[Target, Shadows], Tensor]


def ideal_auc(gain: float) -> float:
    """The AUC of two normals ``gain`` standard deviations apart: Phi(gain / sqrt 2)."""
    return (1 + math.erf(gain / 2)) / 2


ATTACKS = (lira_online, lira_fixed_variance, lira_offline)


@pytest.mark.parametrize("attack", ATTACKS)
def test_members_score_above_others(attack: Attack, known_normals: Normals) -> None:
    target, shadows, member = known_normals(16, 2000, 2.0)
    assert Roc.of(attack(target, shadows), member).auc > 0.75


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_the_auc_of_known_normals_is_recovered(
    attack: Attack, gain: float, known_normals: Normals
) -> None:
    target, shadows, member = known_normals(200, 6000, gain)
    assert Roc.of(attack(target, shadows), member).auc == pytest.approx(ideal_auc(gain), abs=0.02)


@pytest.mark.parametrize("attack", ATTACKS)
def test_where_members_are_like_others_nothing_is_found(
    attack: Attack, known_normals: Normals
) -> None:
    target, shadows, member = known_normals(32, 6000, 0.0)
    assert Roc.of(attack(target, shadows), member).auc == pytest.approx(0.5, abs=0.03)


def test_few_models_make_one_variance_the_stronger(known_normals: Normals) -> None:
    target, shadows, member = known_normals(6, 6000, 1.0)
    own = Roc.of(lira_online(target, shadows), member).auc
    shared = Roc.of(lira_fixed_variance(target, shadows), member).auc
    assert Roc.of(loss_attack(target), member).auc < own < shared


def test_fits_are_medians_and_deviations_over_the_chosen_models(known_normals: Normals) -> None:
    _, shadows, _ = known_normals(7, 4, 1.0, queries=2)
    each, shared = (fit(shadows.margins, shadows.member) for fit in (fit_each, fit_shared))
    squares, freedom = torch.zeros(2, dtype=torch.float64), 0
    for sample in range(4):
        for query in range(2):
            own = shadows.margins[shadows.member[:, sample], sample, query].tolist()
            assert each.centre[sample, query] == pytest.approx(median(own))
            assert shared.centre[sample, query] == pytest.approx(median(own))
            assert each.deviation[sample, query] == pytest.approx(stdev(own))
            squares[query] += (len(own) - 1) * stdev(own) ** 2
        freedom += len(own) - 1
    torch.testing.assert_close(shared.deviation[0], (squares / freedom).sqrt())


def test_an_even_number_of_models_has_the_mean_of_the_middle_two() -> None:
    margins = torch.tensor([0.0, 10.0, 1.0, 3.0], dtype=torch.float64).reshape(4, 1, 1)
    fit = fit_each(margins, torch.ones(4, 1, dtype=torch.bool))
    assert float(fit.centre) == 2.0


def test_the_log_density_is_the_normal_one(known_normals: Normals) -> None:
    _, shadows, _ = known_normals(8, 3, 1.0)
    fit = fit_each(shadows.margins, ~shadows.member)
    found = fit.log_density(shadows.margins[0]).exp()
    for sample in range(3):
        law = NormalDist(float(fit.centre[sample]), float(fit.deviation[sample]))
        assert float(found[sample]) == pytest.approx(law.pdf(float(shadows.margins[0, sample])))


def test_out_variance_comes_from_out_models_only(known_normals: Normals) -> None:
    """Spreading the IN margins changes no OUT fit."""
    target, shadows, _ = known_normals(16, 50, 1.0)
    wild = shadows.margins + 100 * shadows.member.unsqueeze(2) * torch.randn_like(shadows.margins)
    other = replace(shadows, margins=wild)
    assert torch.equal(
        fit_shared(shadows.margins, ~shadows.member).deviation,
        fit_shared(wild, ~shadows.member).deviation,
    )
    assert torch.equal(lira_offline(target, shadows), lira_offline(target, other))


def test_offline_a_low_margin_is_no_sign_of_membership(known_normals: Normals) -> None:
    _, shadows, _ = known_normals(64, 3, 1.0, spread=0.0)
    scores = lira_offline(
        Target(torch.tensor([[-12.0], [0.0], [30.0]]).double(), shadows.samples), shadows
    )
    assert scores[0] < scores[1] < scores[2]
    far = lira_offline(
        Target(torch.tensor([[20.0], [30.0], [30.0]]).double(), shadows.samples), shadows
    )
    assert bool((far > 50).all())  # where the tail itself is 1 for all


def test_a_monotone_change_of_units_leaves_the_scores(known_normals: Normals) -> None:
    target, shadows, _ = known_normals(16, 50, 1.0)
    scaled = Target(3 * target.margins + 7, target.samples)
    others = replace(shadows, margins=3 * shadows.margins + 7)
    for attack in ATTACKS:
        torch.testing.assert_close(attack(scaled, others), attack(target, shadows))


def test_more_queries_tell_more(known_normals: Normals) -> None:
    target, shadows, member = known_normals(64, 3000, 1.0, queries=4)
    first = Target(target.margins[:, :1], target.samples)
    one = Roc.of(lira_online(first, replace(shadows, margins=shadows.margins[:, :, :1])), member)
    assert Roc.of(lira_online(target, shadows), member).auc > one.auc + 0.05


def test_a_planted_canary_is_found_at_a_small_false_positive_rate(known_normals: Normals) -> None:
    target, shadows, member = known_normals(64, 4000, 4.0)
    tpr = Roc.of(lira_online(target, shadows), member).tpr_at(0.01)
    assert tpr is not None
    assert tpr > 0.5


def test_models_that_all_say_the_same_have_scores(known_normals: Normals) -> None:
    _, shadows, _ = known_normals(8, 3, 0.0)
    same = replace(shadows, margins=torch.zeros_like(shadows.margins))
    for attack in ATTACKS:
        assert bool(attack(Target(torch.ones(3, 1).double(), same.samples), same).isfinite().all())


def test_offline_needs_out_models_only(known_normals: Normals) -> None:
    target, shadows, _ = known_normals(4, 5, 1.0)
    out = Shadows(
        shadows.margins, torch.zeros_like(shadows.member), shadows.samples, shadows.models
    )
    lira_offline(target, out)
    with pytest.raises(ExpungeError, match="0 of them trained on it, and at least 2"):
        lira_online(target, out)
    with pytest.raises(ExpungeError, match="LiRA with fixed variance"):
        lira_fixed_variance(target, out)
