"""Facts about the ROC of an attack, its intervals and the samples it needs."""

import math

import pytest
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import (
    Interval,
    Roc,
    auc_half_width,
    members_needed,
    others_needed,
    share_below,
)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(apart: float, m: int, n: int, seed: int = 0) -> Roc:
    drawn = torch.Generator().manual_seed(seed)
    members = torch.randn(m, generator=drawn, dtype=torch.float64) + apart
    return Roc(members, torch.randn(n, generator=drawn, dtype=torch.float64))


def test_larger_scores_of_members_give_an_auc_above_a_half() -> None:
    roc = Roc(numbers(3, 4), numbers(1, 2))
    assert (roc.auc, roc.balanced_accuracy) == (1.0, 1.0)
    turned = Roc(roc.others, roc.members)
    assert (turned.auc, turned.balanced_accuracy) == (0.0, 0.5)


def test_equal_scores_count_a_half() -> None:
    assert Roc(numbers(1, 1), numbers(1, 1, 1)).auc == 0.5
    assert Roc(numbers(1, 2), numbers(1, 0)).auc == (0.5 + 1 + 1 + 1) / 4


def test_the_auc_is_the_area_under_the_curve_with_ties_and_infinite_scores() -> None:
    drawn = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 9, (500,), generator=drawn).double()
    scores[:5] = torch.inf
    member = torch.rand(500, generator=drawn) < scores.clamp(max=8) / 10
    roc = Roc.of(scores, member)
    curve = roc.curve()
    assert [curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]] == [0, 0, 1, 1]
    area = float(torch.trapezoid(curve.tpr, curve.fpr))
    assert roc.auc == pytest.approx(area, abs=1e-12)
    assert bool((curve.fpr.diff() >= 0).all() and (curve.tpr.diff() >= 0).all())
    best = float((1 - (curve.fpr + 1 - curve.tpr) / 2).max())
    assert roc.balanced_accuracy == pytest.approx(best, abs=1e-12)


def test_curve_and_auc_agree_with_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    roc = normal(0.7, 300, 200)
    truth = [1] * 300 + [0] * 200
    scores = torch.cat([roc.members, roc.others]).numpy()
    assert roc.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    torch.testing.assert_close(roc.curve().fpr, torch.from_numpy(fpr))
    torch.testing.assert_close(roc.curve().tpr, torch.from_numpy(tpr))


def test_tpr_is_counted_above_the_first_non_member_too_many() -> None:
    others = torch.arange(100, dtype=torch.float64)
    roc = Roc(numbers(200, 98.5, 98, 97.5), others)
    assert roc.tpr_at(0.01) == 0.5  # 98 would let in the non-members 99 and 98
    assert roc.tpr_at(0.02) == 1.0
    # 0.29 x 100 rounds to just under 29
    assert Roc(numbers(70.5, 69.5), others).tpr_at(0.29) == 0.5
    curve = roc.curve()
    for fpr in (0.01, 0.05, 0.29, 0.58):
        assert roc.tpr_at(fpr) == float(curve.tpr[curve.fpr <= fpr + 1e-12].max())


def test_non_members_too_few_for_a_rate_give_no_number() -> None:
    assert (others_needed(0.001), others_needed(0.01), others_needed(0.3)) == (1000, 100, 4)
    few, enough = normal(1, 50, 999), normal(1, 50, 1000)
    assert few.tpr_at(0.001) is None
    assert few.tpr_interval(0.001) is None
    assert enough.tpr_at(0.001) is not None
    assert isinstance(enough.tpr_interval(0.001, draws=50), Interval)


def test_intervals_are_reproducible_and_cover_what_they_say() -> None:
    roc = normal(0.0, 80, 80)
    assert roc.auc_interval(seed=3) == roc.auc_interval(seed=3) != roc.auc_interval(seed=4)
    truth = 0.5 * (1 + math.erf(1 / 2))  # Phi(1 / sqrt 2)
    found = [normal(1.0, 60, 90, s).auc_interval(draws=300) for s in range(100)]
    covered = sum(i.low <= truth <= i.high for i in found)
    assert 88 <= covered <= 99
    interval = normal(1.0, 200, 200).balanced_accuracy_interval(level=0.5, draws=200)
    assert interval.low < interval.high


def test_the_interval_is_about_as_wide_as_the_half_width_at_chance() -> None:
    interval = normal(0.0, 400, 400).auc_interval()
    assert (interval.high - interval.low) / 2 == pytest.approx(auc_half_width(400, 400), rel=0.1)


def test_half_width_at_chance() -> None:
    assert auc_half_width(100, 10**7) == pytest.approx(0.0566, abs=1e-4)
    assert auc_half_width(100, 100) == pytest.approx(0.080, abs=5e-4)
    assert auc_half_width(100, 100, power=0.8) > auc_half_width(100, 100)


@pytest.mark.parametrize("power", [0.5, 0.8])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 10.0])
def test_members_needed_is_the_least_number(ratio: float, power: float) -> None:
    m = members_needed(0.05, ratio, power=power)
    assert auc_half_width(m, round(ratio * m), power=power) <= 0.05 * 1.001
    assert auc_half_width(m - 2, round(ratio * (m - 2)), power=power) > 0.05
    assert members_needed(0.025, ratio, power=power) > 3 * m


def test_members_needed_against_equally_many_is_exact() -> None:
    for apart in (step / 100 for step in range(2, 51)):
        m = members_needed(apart)
        assert auc_half_width(m, m) <= apart < auc_half_width(m - 1, m - 1)


def test_an_auc_is_found_as_often_as_the_power_says() -> None:
    m = members_needed(0.1, power=0.8)
    apart = 2**0.5 * 0.2533471  # AUC 0.6 = Phi(apart / sqrt 2)
    found = [normal(apart, m, m, s).auc - 0.5 > auc_half_width(m, m) for s in range(300)]
    assert sum(found) / 300 == pytest.approx(0.8, abs=0.07)


def test_share_below_takes_each_row_with_its_own_reference() -> None:
    asked = torch.tensor([[0.0, 1.0, 5.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    reference = torch.tensor([[2.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    assert share_below(asked, reference).tolist() == [[0, 0.25, 1], [0, 0.5, 1]]


@pytest.mark.parametrize(
    ("members", "others", "said"),
    [
        (numbers(1), numbers(1, 2), "at least 2"),
        (numbers(1, 2), numbers(), "at least 2"),
        (numbers(1, math.nan), numbers(1, 2), "NaN"),
        (torch.ones(3), numbers(1, 2), "float64"),
    ],
)
def test_scores_that_no_roc_can_be_drawn_of(members: Tensor, others: Tensor, said: str) -> None:
    with pytest.raises(ExpungeError, match=said):
        Roc(members, others)


def test_other_bad_input() -> None:
    roc = normal(0, 5, 5)
    for fpr in (0.0, 1.0, -1.0):
        with pytest.raises(ExpungeError, match="share in"):
            roc.tpr_at(fpr)
    with pytest.raises(ExpungeError, match="draws"):
        roc.auc_interval(draws=0)
    with pytest.raises(ExpungeError, match="one bool per score"):
        Roc.of(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ExpungeError, match="at least one of each"):
        auc_half_width(0, 5)
    with pytest.raises(ExpungeError, match="distance"):
        members_needed(0.0)
    with pytest.raises(ExpungeError, match="power"):
        members_needed(0.1, power=0.2)
