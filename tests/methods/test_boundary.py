"""Boundary shrink and expand: the neighbours' labels, the unit that comes and goes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Replacement
from expunge.changes.weights import parameters_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.boundary_terms import NeighbouringLabels
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.protocol import Method, unlearn
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
Trained = Callable[[int], Deployment]


def moved(method: Method, problem: Problem) -> nn.Module:
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def share_correct(problem: Problem, model: nn.Module, role: Role) -> float:
    return float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])


def neighbours(problem: Problem, step: float) -> Tensor:
    setting = Setting(problem, {"model": problem.model}, lambda: problem.model, Run())
    return NeighbouringLabels(step).start(setting, problem.data[Role.FORGET])


def forget_columns(problem: Problem) -> dict[str, Tensor]:
    forget = problem.data[Role.FORGET]
    assert isinstance(forget, TensorSamples)
    return dict(forget.columns)


def with_images(problem: Problem, images: Tensor, model: nn.Module) -> Problem:
    forget = problem.data[Role.FORGET]
    assert isinstance(forget, TensorSamples)
    return replace(problem, model=model, data={Role.FORGET: forget.with_column("image", images)})


def test_the_label_of_a_neighbour_is_that_of_the_clipped_and_rounded_step(
    trained: Trained,
) -> None:
    problem = trained(0).problem(THREES, BoundaryShrink())
    columns = forget_columns(problem)
    images = columns["image"].clone().requires_grad_(True)
    loss = F.cross_entropy(problem.model(images), columns["label"], reduction="sum")
    [slope] = torch.autograd.grad(loss, [images])
    perturbed = ((images + 0.1 * slope.sign()).clamp(0, 1) * 255).round() / 255
    expected = problem.model(perturbed).argmax(1)
    assert float((expected != 3).double().mean()) > 0.3
    assert torch.equal(neighbours(problem, 0.1), expected)


class Stretched(nn.Module):
    """A model that undoes the normalisation of its inputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.inner((images + 1) / 4)
        return found


def test_normalised_inputs_have_the_neighbours_of_plain_ones(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BoundaryShrink())
    images = forget_columns(problem)["image"]
    other = with_images(problem, 4 * images - 1, Stretched(problem.model))
    same = neighbours(problem, 0.1) == neighbours(other, 0.1)
    assert float(same.double().mean()) > 0.98  # rounding may differ by a level


@pytest.mark.parametrize("method", [BoundaryShrink(), BoundaryExpand()], ids=["shrink", "expand"])
def test_they_read_the_forget_set_alone_and_move_it(
    method: BoundaryShrink | BoundaryExpand, trained: Trained
) -> None:
    assert method.unlearns_with == Access.to(Role.FORGET)
    stronger = replace(method, learning_rate=1e-3, batch_size=64)
    problem = trained(0).problem(THREES, stronger)
    after = moved(stronger, problem)
    assert share_correct(problem, problem.model, Role.FORGET) > 0.95
    assert share_correct(problem, after, Role.FORGET) < 0.6
    assert share_correct(problem, after, Role.RETAIN) > 0.5


def test_expanding_without_a_step_changes_nothing_and_keeps_the_architecture(
    trained: Trained,
) -> None:
    still = BoundaryExpand(1, learning_rate=1e-30, weight_decay=0.0)
    problem = trained(0).problem(THREES, still)
    state = torch.get_rng_state()
    [change] = unlearn(still, problem, Run()).changes
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(change, Delta)
    assert not change.entries
    [new] = unlearn(replace(still, sequential=True), problem, Run()).changes
    assert isinstance(new, Replacement)
    for name, old in parameters_of(problem.model).items():
        assert torch.equal(new.applied_to(problem.model).get_parameter(name), old)


def test_the_unit_that_was_dropped_had_taken_the_forget_set(trained: Trained) -> None:
    method = BoundaryExpand(learning_rate=1e-2, batch_size=64)
    problem = trained(0).problem(THREES, method)
    after = moved(method, problem)
    assert after.layers[5].out_features == 10  # type: ignore[index,union-attr]
    with torch.no_grad():
        logits, before = (m(forget_columns(problem)["image"]) for m in (after, problem.model))
    assert logits.shape == before.shape
    assert float(logits[:, 3].mean()) < float(before[:, 3].mean())


def test_a_model_that_is_its_head_is_expanded_too(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BoundaryExpand())
    flat = forget_columns(problem)["image"].flatten(1)
    linear = with_images(problem, flat, nn.Linear(64, 10))
    assert moved(BoundaryExpand(1, 0.1), linear).weight.shape == (10, 64)


def test_a_head_that_is_no_linear_layer_is_refused(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BoundaryExpand())
    model = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(ExpungeError, match=r"'0\.bias' is of no such layer"):
        unlearn(BoundaryExpand(), replace(problem, model=model), Run())


@dataclass(frozen=True)
class Words(Classifier):
    """A classifier of token numbers."""

    inputs: tuple[str, ...] = ("tokens",)


def test_inputs_that_are_no_real_numbers_are_refused(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BoundaryShrink())
    count = len(problem.data[Role.FORGET])
    names = [str(i) for i in range(count)]
    tokens = TensorSamples(
        names, names, {"tokens": torch.ones(count, 4).long(), "label": torch.zeros(count).long()}
    )
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 10))
    texts = replace(problem, model=model, family=Words(classes=10), data={Role.FORGET: tokens})
    with pytest.raises(ExpungeError, match=r"needs pictures or other real inputs"):
        unlearn(BoundaryShrink(), texts, Run())


def test_rows_without_labels_have_no_neighbours(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BoundaryShrink())
    images = TensorSamples(["a"], ["a"], {"image": forget_columns(problem)["image"][:1]})
    with pytest.raises(ExpungeError, match="field 'label' of the rows is needed"):
        unlearn(BoundaryShrink(), replace(problem, data={Role.FORGET: images}), Run())


def test_a_step_over_no_boundary_is_said(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BoundaryShrink())
    with pytest.raises(ExpungeError, match="leads none of the 110 rows over a decision boundary"):
        unlearn(BoundaryShrink(step=1e-4), problem, Run())
