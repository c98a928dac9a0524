"""Facts about the per-sample attacks on unlearning, from margins whose laws are known."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from expunge.attacks import (
    Shadows,
    Target,
    Unlearned,
    fit_shared,
    lira_online,
    u_lira_against_retrained,
    u_lira_forgotten,
    u_lira_one_sided,
    u_lira_retained,
    u_lira_two_sided,
)
from expunge.errors import ExpungeError
from expunge.signals import Roc

SAMPLES, GAIN = 3000, 2.0


def world(
    left: float, exposed: float = 0.0, models: int = 64, seed: int = 0
) -> tuple[Target, Unlearned, Tensor, Tensor]:
    """Margins after unlearning: ``left`` above OUT for forgotten, ``GAIN + exposed`` for retained.

    Half of the models trained on a sample, and half of those forgot it.
    """
    drawn = torch.Generator().manual_seed(seed)
    ranks = torch.rand(models, SAMPLES, generator=drawn).argsort(0).argsort(0)
    own = torch.randint(models, (1, SAMPLES), generator=drawn)
    ranks = torch.cat([ranks, own])
    forgotten, member = ranks < models // 4, ranks < models // 2
    level = 3 * torch.randn(SAMPLES, generator=drawn, dtype=torch.float64)
    noise = torch.randn(models + 1, SAMPLES, generator=drawn, dtype=torch.float64)
    shift = left * forgotten + (GAIN + exposed) * (member & ~forgotten)
    margins = (level + noise + shift).unsqueeze(2)
    ids = tuple(f"row:{i}" for i in range(SAMPLES))
    names = tuple(f"shadow {i}" for i in range(models))
    shadows = Shadows(margins[:-1], member[:-1], ids, names)
    target = Target(margins[-1], ids)
    return target, Unlearned(shadows, forgotten[:-1]), forgotten[-1], member[-1]


def auc(scores: Tensor, positive: Tensor, member: Tensor) -> float:
    """Of these samples against those that the target never saw."""
    return Roc(scores[positive], scores[~member]).auc


def test_what_is_left_is_found_and_what_is_gone_is_not() -> None:
    found = []
    for left in (0.0, 1.0, GAIN):
        target, unlearned, forgotten, member = world(left)
        found.append(auc(u_lira_forgotten(target, unlearned), forgotten, member))
    removed, half, kept = found
    assert removed == pytest.approx(0.5, abs=0.04)
    assert removed + 0.1 < half < kept - 0.1


def test_no_unlearning_is_as_exposed_as_lira_says() -> None:
    target, unlearned, forgotten, member = world(GAIN)
    lira = auc(lira_online(target, unlearned.shadows), forgotten, member)
    assert auc(u_lira_forgotten(target, unlearned), forgotten, member) == pytest.approx(
        lira, abs=0.02
    )


def test_confidence_pushed_far_below_is_caught_by_the_two_sided_score() -> None:
    target, unlearned, forgotten, member = world(-3.0)
    assert auc(u_lira_one_sided(target, unlearned), forgotten, member) < 0.5
    assert auc(u_lira_two_sided(target, unlearned), forgotten, member) > 0.7
    assert auc(u_lira_forgotten(target, unlearned), forgotten, member) > 0.7


def test_what_is_left_scores_above_what_was_never_seen_one_and_two_sided() -> None:
    target, unlearned, forgotten, member = world(GAIN)
    for score in (u_lira_one_sided, u_lira_two_sided):
        assert auc(score(target, unlearned), forgotten, member) > 0.7


def test_retained_samples_are_tested_too() -> None:
    before, after = (
        auc(u_lira_retained(target, unlearned), member & ~forgotten, member)
        for target, unlearned, forgotten, member in (world(0.0), world(0.0, exposed=1.0))
    )
    assert after > before + 0.03 > 0.8


def test_against_models_retrained_without_the_sample() -> None:
    """Retrained models' margins are those of OUT: 0.5 where nothing is left, more where some is."""
    found = []
    for left in (0.0, GAIN):
        target, unlearned, forgotten, member = world(left)
        few = world(0.0, models=8, seed=1)[1].shadows
        level = unlearned.shadows.margins.masked_fill(
            unlearned.shadows.member.unsqueeze(2), torch.nan
        ).nanmean(0)
        noise = torch.randn(few.margins.shape, generator=torch.Generator().manual_seed(3))
        retrained = replace(
            few,
            margins=level + noise.double(),
            member=torch.zeros_like(few.member),
        )
        scores = u_lira_against_retrained(target, unlearned, retrained, fit_shared)
        found.append(auc(scores, forgotten, member))
    assert found[0] == pytest.approx(0.5, abs=0.04)
    assert found[1] > 0.8


def test_few_models_take_one_variance() -> None:
    target, unlearned, forgotten, member = world(GAIN, models=8)
    each = auc(u_lira_forgotten(target, unlearned), forgotten, member)
    shared = auc(u_lira_forgotten(target, unlearned, fit_shared), forgotten, member)
    assert shared > each + 0.02


def test_samples_are_picked() -> None:
    target, unlearned, _, _ = world(1.0, models=16)
    wanted = ("row:7", "row:2")
    torch.testing.assert_close(
        u_lira_forgotten(target.of_samples(wanted), unlearned.of_samples(wanted)),
        u_lira_forgotten(target, unlearned)[[7, 2]],
    )


def test_bad_input_is_refused() -> None:
    target, unlearned, _, _ = world(1.0, models=4)
    with pytest.raises(ExpungeError, match=r"4 shadow models; .* 1 of them forgot it"):
        u_lira_forgotten(target, unlearned)
    with pytest.raises(ExpungeError, match="kept it"):
        u_lira_retained(target, unlearned)
    with pytest.raises(ExpungeError, match="never trained on"):
        replace(unlearned, forgotten=torch.ones_like(unlearned.forgotten))
    with pytest.raises(ExpungeError, match="bool"):
        replace(unlearned, forgotten=unlearned.forgotten[:, 1:])
    all_in = replace(unlearned.shadows, member=torch.ones_like(unlearned.shadows.member))
    with pytest.raises(ExpungeError, match="0 of them never saw it"):
        u_lira_two_sided(target, replace(unlearned, shadows=all_in))
    with pytest.raises(ExpungeError, match="in one only"):
        u_lira_one_sided(target.of_samples(target.samples[1:]), unlearned)
