"""Influence unlearning: the inverse is WoodFisher's, and on a convex loss the step is Newton's."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.delta import Delta
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.regressor import Regressor
from expunge.methods import influence
from expunge.methods.influence import Curvature, Influence, removal_gradient
from expunge.methods.protocol import unlearn
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask
from expunge.signals.gradients import Gradients, losses_of, row_gradients

THREES = Request("the threes", Rows("label", ("3",)))


@pytest.fixture
def problem(digits_work: Work, digits_model: nn.Module) -> Problem:
    rows = digits_work.data[Role.TRAIN]
    family = digits_work.recipe.family
    deployment = Deployment(digits_model, family, rows, digits_work.table, Sum())
    return deployment.problem(THREES, Influence())


@pytest.fixture
def linear(problem: Problem) -> Problem:
    """A linear classifier of 650 weights, small enough for dense matrices."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return replace(problem, model=model)


def flat(gradients: Gradients) -> Tensor:
    return torch.cat([part.flatten() for part in gradients.values()]).double()


def stacked(problem: Problem, rows: TensorSamples) -> Tensor:
    """Gradients (m, p) of the rows, in double precision."""
    chunks = row_gradients(losses_of(problem.family), problem.family, problem.model, rows, Run())
    parts = [torch.cat([p.flatten(1) for p in chunk.values()], 1) for chunk in chunks]
    return torch.cat(parts).double()


@pytest.mark.parametrize("damping", [1.0, 0.01])
def test_the_step_is_the_inverse_of_the_woodfisher_matrix_times_the_gradient(
    damping: float, linear: Problem
) -> None:
    rows = linear.data[Role.RETAIN].select(torch.arange(150))
    assert isinstance(rows, TensorSamples)
    right = removal_gradient(linear, Run())
    found = flat(Curvature(linear, rows, Run()).solved(right, damping, Run()))
    gradients = stacked(linear, rows)
    matrix = damping * torch.eye(gradients.shape[1]).double() + gradients.T @ gradients / 150
    expected = torch.linalg.solve(matrix, flat(right))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.norm()))


def test_of_a_pruned_model_the_step_is_solved_for_among_the_weights_that_there_are(
    linear: Problem,
) -> None:
    """A step among all of them is another one once it is cut to the mask."""
    mask = torch.rand(10, 64, generator=torch.Generator().manual_seed(0)) < 0.3
    with torch.no_grad():
        linear.model[1].weight.mul_(mask)  # type: ignore[index]
    rows = linear.data[Role.RETAIN].select(torch.arange(150))
    assert isinstance(rows, TensorSamples)
    sparse = replace(linear, support={"1.weight": mask}, data={**linear.data, Role.RETAIN: rows})
    method = Influence(damping=0.01)
    [change] = method.unlearn(sparse, method.prepare(sparse, Run()), Run()).changes
    assert isinstance(change, Delta)
    found = torch.cat([change.dense(name).flatten() for name in ("1.weight", "1.bias")]).double()
    there = torch.cat([mask.flatten(), torch.ones(10, dtype=torch.bool)])
    assert not found[~there].any()
    gradients, right = stacked(linear, rows), flat(removal_gradient(sparse, Run()))
    matrix = 0.01 * torch.eye(650).double() + gradients.T @ gradients / 150
    expected = torch.linalg.solve(matrix[there][:, there], right[there])
    assert torch.allclose(found[there], expected, atol=1e-3 * float(expected.norm()))
    cut = torch.linalg.solve(matrix, right)[there]
    assert (cut - expected).norm() > 0.05 * expected.norm()


def test_gradients_that_do_not_fit_are_computed_anew_and_give_the_same(
    linear: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, right = linear.data[Role.RETAIN].select(torch.arange(90)), removal_gradient(linear, Run())
    held = flat(Curvature(linear, rows, Run()).solved(right, 0.1, Run()))
    monkeypatch.setattr(influence, "AT_ONCE", 0)
    anew = flat(Curvature(linear, rows, Run()).solved(right, 0.1, Run()))
    assert torch.equal(held, anew)


def test_the_released_recursion_is_another_vector(linear: Problem) -> None:
    rows = linear.data[Role.RETAIN].select(torch.arange(150))
    assert isinstance(rows, TensorSamples)
    right = removal_gradient(linear, Run())
    found = flat(Curvature(linear, rows, Run()).recursion(right, 150.0))
    gradients, plain = stacked(linear, rows), flat(right)
    matrix = torch.eye(gradients.shape[1]).double() + gradients.T @ gradients / 150
    inverse = torch.linalg.solve(matrix, plain)
    first = gradients[0] / gradients[0].norm()
    left = found - plain
    assert (left - first * (first @ left)).norm() < 1e-5 * plain.norm()  # along the first row
    assert (found - inverse).norm() > 0.1 * plain.norm()


def test_the_gradient_is_that_of_all_rows_minus_that_of_the_retained_ones(linear: Problem) -> None:
    found = flat(removal_gradient(linear, Run()))
    means = [
        stacked(linear, rows).mean(0)
        for rows in (linear.data[Role.TRAIN], linear.data[Role.RETAIN])
        if isinstance(rows, TensorSamples)
    ]
    assert torch.allclose(found, means[0] - means[1], atol=1e-6)


def test_at_a_strength_of_one_it_forgets_a_class_better_than_it_loses_the_others(
    problem: Problem, digits_work: Work
) -> None:
    [change] = unlearn(Influence(damping=0.1), problem, Run()).changes
    assert isinstance(change, Delta)
    after = change.applied_to(problem.model)
    forget, test = (
        float(accuracy(ask(problem.family, after, rows, Run()))[0])
        for rows in (problem.data[Role.FORGET], digits_work.test)
    )
    assert forget <= 0.1  # measured 0; the model before answers 97 % of them
    assert test >= 0.8  # measured 84 of 90, since the class itself is a tenth of the rows


def test_twice_the_strength_is_twice_the_change(problem: Problem) -> None:
    once, twice = (
        unlearn(Influence(s, curvature_rows=50), problem, Run()).changes[0] for s in (1.0, 2.0)
    )
    assert isinstance(once, Delta)
    assert isinstance(twice, Delta)
    assert twice.norm() == pytest.approx(2 * once.norm(), rel=1e-4)
    assert twice.facts["length"] == pytest.approx(twice.norm(), rel=1e-3)


def test_it_runs_on_a_regressor_and_says_where_nothing_can_move(problem: Problem) -> None:
    rows = {
        role: samples.with_column("target", samples.columns["label"].float())
        for role, samples in problem.data.items()
        if isinstance(samples, TensorSamples)
    }
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    numbers = replace(problem, model=model, family=Regressor(), data=rows)
    [change] = unlearn(Influence(curvature_rows=50), numbers, Run()).changes
    assert isinstance(change, Delta)
    assert change.norm() > 0

    still = {role: s.with_column("target", torch.zeros(len(s))) for role, s in rows.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    with pytest.warns(UserWarning, match="moved no parameter"):
        unlearn(Influence(curvature_rows=50), replace(numbers, data=still), Run())


@pytest.mark.parametrize("fields", [{"damping": 0.0}, {"curvature_rows": 0}])
def test_a_curvature_without_an_inverse_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ExpungeError, match="numbers above 0"):
        Influence(**fields)  # type: ignore[arg-type]
