"""Attribution by gradients: projections, derivatives, and effects that real trainings have."""

import copy

import pytest
import torch
from torch import nn

from expunge.benchmarks.shipped import Work
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.attribution import (
    MarginFeatures,
    Projection,
    agreement,
    derivative_along,
)
from expunge.signals.outputs import outputs_of

FAMILY = Classifier(classes=10)


def rows(work: Work, count: int = 80) -> TensorSamples:
    found = work.data[Role.TRAIN].select(torch.arange(count))
    assert isinstance(found, TensorSamples)
    return found


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


def test_a_projection_keeps_inner_products_on_average_and_has_a_transpose() -> None:
    draws = torch.Generator().manual_seed(1)
    gradients = {
        "a": torch.randn(6, 70, 90, generator=draws),
        "b": torch.randn(6, 5, generator=draws),
    }
    flat = torch.cat([part.flatten(1) for part in gradients.values()], 1)
    projection = Projection(2000)
    found = projection.of(gradients)
    exact, sizes = flat @ flat.T, flat.norm(dim=1)
    assert ((found @ found.T - exact) / torch.outer(sizes, sizes)).abs().max() < 0.1
    vector = torch.randn(2000, generator=draws)
    back = projection.back(vector, {"a": gradients["a"][0], "b": gradients["b"][0]})
    once = sum((gradients[n].flatten(1) @ back[n].reshape(-1) for n in back), torch.zeros(6))
    assert torch.allclose(once, found @ vector, atol=1e-2)
    assert not torch.equal(found, Projection(2000, seed=1).of(gradients))


def test_the_derivative_is_that_of_finite_differences(digits_work: Work) -> None:
    model, asked = two_layers().double(), rows(digits_work, 12)
    asked = asked.with_column("image", asked.columns["image"].double())
    draws = torch.Generator().manual_seed(0)
    direction = {n: torch.randn(p.shape, generator=draws) for n, p in model.named_parameters()}
    found = derivative_along(direction, FAMILY, model, asked, Run())
    sides = []
    for step in (1e-4, -1e-4):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, weights in moved.named_parameters():
                weights.add_(direction[name], alpha=step)
        sides.append(outputs_of(FAMILY, moved, asked, Run()))
    assert torch.allclose(found, ((sides[0] - sides[1]) / 2e-4).float(), atol=1e-4)


def test_the_step_solves_the_normal_equations(digits_work: Work) -> None:
    features = MarginFeatures.of(FAMILY, two_layers(), rows(digits_work), Projection(32), Run())
    step = features.presence([3, 5], 0.5)
    phi = features.gradients.double()
    left = phi.T @ (phi @ step) + 0.5 * step
    right = sum(phi[i] * features.doubt[i] for i in (3, 5))
    assert isinstance(right, torch.Tensor)
    assert torch.allclose(left, right, atol=1e-8)


def test_fewer_rows_than_dimensions_need_a_damping(digits_work: Work) -> None:
    features = MarginFeatures.of(FAMILY, two_layers(), rows(digits_work, 10), Projection(64), Run())
    with pytest.raises(ExpungeError, match="10 rows in 64 dimensions has no inverse"):
        features.presence([0], 0.0)
    assert features.presence([0], 1e-3).isfinite().all()


def test_presence_raises_the_own_margin(digits_work: Work) -> None:
    model, asked = two_layers(), rows(digits_work)
    projection = Projection(64)
    features = MarginFeatures.of(FAMILY, model, asked, projection, Run())
    weights = dict(model.named_parameters())
    higher = 0
    for row in range(20):
        direction = projection.back(features.presence([row], 1.0), weights)
        one = asked.select(torch.tensor([row]))
        effect = derivative_along(direction, FAMILY, model, one, Run())[0]
        label = int(one.columns["label"])
        higher += int(effect[label] > (effect.sum() - effect[label]) / 9)
    assert higher == 20


def test_agreement_is_correlation_and_slope() -> None:
    predicted = torch.tensor([1.0, -1.0, 3.0, -3.0])
    assert agreement(predicted, 0.5 * predicted) == pytest.approx((1.0, 0.5))
    assert agreement(predicted, -predicted) == pytest.approx((-1.0, -1.0))
    with pytest.raises(ExpungeError, match="does not vary"):
        agreement(torch.zeros(4), predicted)


def test_outputs_that_are_not_finite_and_no_rows_are_refused(digits_work: Work) -> None:
    model, asked = two_layers(), rows(digits_work, 4)
    with pytest.raises(ExpungeError, match="no rows"):
        outputs_of(FAMILY, model, asked.select(torch.arange(0)), Run())
    with torch.no_grad():
        model[1].weight.fill_(float("nan"))  # type: ignore[index]
    with pytest.raises(ExpungeError, match="NaN or infinite"):
        outputs_of(FAMILY, model, asked, Run())
