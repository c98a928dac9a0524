"""Facts about the residual membership by interpolation."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from expunge.attacks import (
    Interpolation,
    Shadows,
    Target,
    residual_membership,
    residual_membership_without_original,
)
from expunge.errors import ExpungeError
from expunge.signals import Roc

Normals = Callable[..., tuple[Target, Shadows, Tensor]]


def one_shadow(known_normals: Normals) -> tuple[Target, Target, Shadows]:
    """A model that never saw the samples, the original that fits all, and one OUT shadow model."""
    unseen, shadows, _ = known_normals(1, 500, 0.0, spread=1.0)
    original = Target(unseen.margins + 4.0, unseen.samples, "original")
    return unseen, original, replace(shadows, member=torch.zeros_like(shadows.member))


def test_the_signal_grows_with_the_probability_and_is_bounded() -> None:
    setting = Interpolation()
    found = setting.signal(torch.tensor([-1000.0, -3.0, 0.0, 3.0, 1000.0]))
    assert bool((found.diff() > 0).all())
    assert float(found[-1]) == pytest.approx(setting.bound)
    assert float(found[0]) == pytest.approx(-math.log(1e-2 - math.log(1e-5)))
    assert float(found[2]) == pytest.approx(-math.log(1e-2 - math.log(0.5 + 1e-5)))


def test_scores_are_those_of_the_definition(known_normals: Normals) -> None:
    target, shadows, _ = known_normals(4, 6, 1.0)
    setting, original = Interpolation(steps=7), replace(target, margins=target.margins + 2)
    g, g_in, g_out = (
        setting.signal(m)[..., 0] for m in (target.margins, original.margins, shadows.margins)
    )
    expected = torch.zeros(6, dtype=torch.float64)
    for step in range(6):
        alpha = step / 6
        mixed = (g_out + alpha * (g_in - g_out)).masked_fill(shadows.member, torch.nan)
        beta = mixed[~shadows.member].std(correction=0) * math.sqrt(6) / math.pi
        location = mixed.nanmean(0) - 0.5772156649 * beta
        expected += (step + 1) / 6 * torch.exp(-torch.exp(-(g - location) / beta))
    expected /= sum(step / 6 for step in range(1, 7))
    found = residual_membership(target, original, shadows, setting)
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def test_one_shadow_model_tells_the_fitted_from_the_unseen(known_normals: Normals) -> None:
    unseen, original, shadow = one_shadow(known_normals)
    halfway = Target(unseen.margins + 2.0, unseen.samples)
    for scores in (
        [residual_membership(t, original, shadow) for t in (unseen, halfway, original)],
        [residual_membership_without_original(t, shadow) for t in (unseen, halfway, original)],
    ):
        never, half, still = scores
        assert bool(((never >= 0) & (still <= 1)).all())
        assert float(never.mean()) + 0.1 < float(half.mean()) < float(still.mean()) - 0.05
        assert Roc(still, never).auc > 0.9


def test_a_member_scores_above_others(known_normals: Normals) -> None:
    target, shadows, member = known_normals(16, 2000, 2.0, spread=1.0)
    scores = residual_membership_without_original(target, shadows)
    assert Roc.of(scores, member).auc > 0.75


def test_bad_input_is_refused(known_normals: Normals) -> None:
    unseen, original, shadow = one_shadow(known_normals)
    with pytest.raises(ExpungeError, match="in one only"):
        residual_membership(unseen, original.of_samples(original.samples[1:]), shadow)
    with pytest.raises(ExpungeError, match=r"IAM got 1 shadow models; .* 0 of them did not train"):
        residual_membership(
            unseen, original, replace(shadow, member=torch.ones_like(shadow.member))
        )
    flat = replace(shadow, margins=torch.zeros_like(shadow.margins))
    with pytest.raises(ExpungeError, match="all equal"):
        residual_membership_without_original(unseen, flat)
    for eps1, eps2, steps in ((1e-2, 1e-5, 1), (1e-2, 0.0, 9), (1e-6, 1e-5, 9)):
        with pytest.raises(ExpungeError, match="IAM got"):
            Interpolation(eps1, eps2, steps)
