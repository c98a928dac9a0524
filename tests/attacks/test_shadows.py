"""Facts about shadow models, targets and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from expunge.attacks import Shadows, Target, averaged_margins, lira_online, loss_attack
from expunge.errors import ExpungeError
from expunge.signals import Signals

Normals = Callable[..., tuple[Target, Shadows, Tensor]]


def ids(count: int) -> tuple[str, ...]:
    return tuple(f"row:{i}" for i in range(count))


def some_signals(models: int = 3, shift: float = 0.0) -> Signals:
    drawn = torch.Generator().manual_seed(5)
    labels = torch.tensor([0, 1, 2, 1])
    return Signals.stacked(
        Signals.from_predictions(
            torch.randn(4, 3, generator=drawn) + shift * torch.eye(3)[labels],
            labels,
            model=f"m{i}",
            samples=ids(4),
        )
        for i in range(models)
    )


def test_shadows_hold_the_margins_of_signals() -> None:
    signals, member = some_signals(), torch.ones(3, 4, dtype=torch.bool)
    flipped = some_signals(shift=1.0)
    shadows = Shadows.of(signals, member, [flipped])
    assert shadows.margins.dtype == torch.float64
    assert shadows.margins.shape == (3, 4, 2)
    torch.testing.assert_close(shadows.margins[..., 0].float(), signals.query("margin"))
    torch.testing.assert_close(shadows.margins[..., 1].float(), flipped.query("margin"))
    target = Target.of(signals.of_models(["m1"]), [flipped.of_models(["m1"])])
    torch.testing.assert_close(target.margins, shadows.target("m1").margins)
    assert (target.model, target.samples) == ("m1", ids(4))


def test_one_model_out_leaves_the_others(known_normals: Normals) -> None:
    _, shadows, _ = known_normals(6, 5, 1.0)
    left = shadows.without("shadow 2")
    assert left.models == ("shadow 0", "shadow 1", "shadow 3", "shadow 4", "shadow 5")
    assert torch.equal(left.margins[2], shadows.margins[3])
    assert torch.equal(shadows.member_of("shadow 2"), shadows.member[2])
    with pytest.raises(ExpungeError, match="one of the shadow models"):
        lira_online(shadows.target("shadow 2"), shadows)
    lira_online(shadows.target("shadow 2"), left)


def test_samples_are_picked_and_put_in_order(known_normals: Normals) -> None:
    target, shadows, _ = known_normals(6, 5, 1.0)
    wanted = ("row:3", "row:0")
    torch.testing.assert_close(
        lira_online(target.of_samples(wanted), shadows.of_samples(wanted)),
        lira_online(target, shadows)[[3, 0]],
    )


def test_margins_of_stochastic_passes_average_probabilities() -> None:
    margins = torch.tensor([[2.0, -1.0, 0.5], [800.0, -800.0, 800.0]])
    mean = margins[0].double().sigmoid().mean()
    found = averaged_margins(margins)
    torch.testing.assert_close(found[0], mean.logit())
    assert float(found[1]) == pytest.approx(0.6931, abs=1e-4)  # log-odds of two thirds
    same = torch.tensor([[3.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(averaged_margins(same), same[:, 0])


def test_too_few_models_are_counted(known_normals: Normals) -> None:
    target, shadows, _ = known_normals(4, 8, 1.0)
    member = shadows.member.clone()
    member[:, 3] = torch.tensor([True, False, False, False])
    few = replace(shadows, member=member)
    with pytest.raises(ExpungeError, match=r"4 shadow models; .*'row:3' 1 of them .* at least 2"):
        lira_online(target, few)


def test_other_samples_are_refused(known_normals: Normals) -> None:
    target, shadows, _ = known_normals(6, 5, 1.0)
    with pytest.raises(ExpungeError, match="is in one only"):
        shadows.check(replace(target, samples=(*target.samples[:-1], "strange")))
    with pytest.raises(ExpungeError, match="order differs"):
        shadows.check(target.of_samples(reversed(target.samples)))
    with pytest.raises(ExpungeError, match="2 queries"):
        shadows.check(replace(target, margins=target.margins.repeat(1, 2)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_margins_that_are_not_finite_are_refused(value: float, known_normals: Normals) -> None:
    target, shadows, _ = known_normals(6, 5, 1.0)
    bad = target.margins.clone()
    bad[2, 0] = value
    with pytest.raises(ExpungeError, match=r"'row:2'.*finite"):
        loss_attack(replace(target, margins=bad))
    worse = shadows.margins.clone()
    worse[1, 2, 0] = value
    with pytest.raises(ExpungeError, match="'row:2' under model 'shadow 1'"):
        replace(shadows, margins=worse)


def test_shapes_types_and_names_are_checked(known_normals: Normals) -> None:
    target, shadows, _ = known_normals(6, 5, 1.0)
    with pytest.raises(ExpungeError, match="float64"):
        replace(shadows, margins=shadows.margins.float())
    with pytest.raises(ExpungeError, match="bool"):
        replace(shadows, member=shadows.member.long())
    with pytest.raises(ExpungeError, match="bool"):
        replace(shadows, member=shadows.member[:, 1:])
    with pytest.raises(ExpungeError, match="twice"):
        replace(shadows, models=("shadow 0",) * 6)
    with pytest.raises(ExpungeError, match="at least one of each"):
        Target(torch.zeros(0, 1, dtype=torch.float64), ())
    with pytest.raises(ExpungeError, match="no model 'unknown'"):
        shadows.without("unknown")
    with pytest.raises(ExpungeError, match="3 models as its target"):
        Target.of(some_signals())
    with pytest.raises(ExpungeError, match="augmented"):
        Target.of(some_signals(1), [some_signals(2).of_models(["m1"])])
    assert target.margins.shape == (5, 1)
