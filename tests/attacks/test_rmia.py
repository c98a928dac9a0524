"""Facts about the attack by pairwise likelihood ratios."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from expunge.attacks import (
    Shadows,
    Target,
    loss_attack,
    rmia_offline,
    rmia_online,
    tuned_offline_weight,
)
from expunge.errors import ExpungeError
from expunge.signals import Roc

Normals = Callable[..., tuple[Target, Shadows, Tensor]]


def by_hand(
    target: Target, shadows: Shadows, population: Tensor, a: float, gamma: float
) -> list[float]:
    """Offline scores from the definition, sample by sample."""
    p, q = target.margins[:, 0].sigmoid().tolist(), shadows.margins[:, :, 0].sigmoid()
    out = [float(q[~shadows.member[:, x], x].mean()) for x in range(len(p))]
    ratio = [2 * p[x] / ((1 + a) * out[x] + 1 - a) for x in range(len(p))]
    scores = []
    for x in range(len(p)):
        others = [z for z in range(len(p)) if population[z] and z != x]
        scores.append(sum(ratio[x] / ratio[z] > gamma for z in others) / len(others))
    return scores


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_scores_are_those_of_the_definition(a: float, gamma: float, known_normals: Normals) -> None:
    target, shadows, member = known_normals(4, 40, 1.0)
    found = rmia_offline(target, shadows, ~member, a, gamma)
    assert found.tolist() == pytest.approx(by_hand(target, shadows, ~member, a, gamma))


@pytest.mark.parametrize("models", [2, 4, 32])
def test_members_score_above_others_from_two_models_on(models: int, known_normals: Normals) -> None:
    target, shadows, member = known_normals(models, 3000, 2.0)
    for attack in (rmia_offline, rmia_online):
        auc = Roc.of(attack(target, shadows, ~member), member).auc
        assert auc > Roc.of(loss_attack(target), member).auc + 0.05


def test_without_a_gain_there_is_nothing_to_find(known_normals: Normals) -> None:
    target, shadows, member = known_normals(8, 3000, 0.0)
    for attack in (rmia_offline, rmia_online):
        assert Roc.of(attack(target, shadows, ~member), member).auc == pytest.approx(0.5, abs=0.03)


def test_probabilities_that_round_to_zero_stay_in_order(known_normals: Normals) -> None:
    """A probability of e^-900 is a signal, not a missing value."""
    target, shadows, member = known_normals(8, 2000, 2.0, spread=1.0)
    far = replace(target, margins=target.margins - 900)
    others = replace(shadows, margins=shadows.margins - 900)
    found = rmia_offline(far, others, ~member, a=1.0)
    assert bool(found.isfinite().all())
    # so far below, p(target) / p is exp(margin) over a mean of exp(margin)
    assert Roc.of(found, member).auc > 0.75


def test_in_models_have_no_say_offline(known_normals: Normals) -> None:
    target, shadows, member = known_normals(6, 50, 1.0)
    moved = shadows.margins + 40 * shadows.member.unsqueeze(2)
    assert torch.equal(
        rmia_offline(target, shadows, ~member),
        rmia_offline(target, replace(shadows, margins=moved), ~member),
    )


def test_the_weight_is_the_best_on_a_shadow_model(known_normals: Normals) -> None:
    _, shadows, _ = known_normals(5, 400, 1.5)
    best = tuned_offline_weight(shadows, "shadow 1")
    target, rest = shadows.target("shadow 1"), shadows.without("shadow 1")
    member = shadows.member_of("shadow 1")

    def auc(a: float) -> float:
        return Roc.of(rmia_offline(target, rest, ~member, a), member).auc

    assert auc(best) == max(auc(step / 10) for step in range(11))


def test_bad_input_is_refused(known_normals: Normals) -> None:
    target, shadows, member = known_normals(4, 30, 1.0)
    everyone_in = replace(shadows, member=torch.ones_like(shadows.member))
    with pytest.raises(ExpungeError, match=r"4 shadow models.*0 of them did not train on it"):
        rmia_offline(target, everyone_in, ~member)
    with pytest.raises(ExpungeError, match="RMIA online"):
        rmia_online(target, everyone_in, ~member)
    with pytest.raises(ExpungeError, match="1 population samples; at least 2"):
        rmia_offline(target, shadows, torch.arange(30) == 3)
    with pytest.raises(ExpungeError, match="one bool"):
        rmia_offline(target, shadows, ~member[1:])
    with pytest.raises(ExpungeError, match=r"a = 1\.5"):
        rmia_offline(target, shadows, ~member, a=1.5)
    with pytest.raises(ExpungeError, match="gamma"):
        rmia_online(target, shadows, ~member, gamma=0)
    with pytest.raises(ExpungeError, match="order differs"):
        rmia_offline(target.of_samples(target.samples[::-1]), shadows, ~member)
