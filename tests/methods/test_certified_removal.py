"""Certified removal: the Newton step, the bound on what it leaves, and the budget."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.heads import head_of
from expunge.learning.supervised.convex_head import (
    ConvexHead,
    ConvexLoss,
    Logistic,
    Squared,
    minimised,
)
from expunge.learning.supervised.convex_head import Rows as Seen
from expunge.methods.certified_removal import CertifiedRemoval, newton_step
from expunge.methods.protocol import unlearn
from expunge.methods.retrain import Retrain
from expunge.models.cnn import SmallCnn
from expunge.recipe import MODEL, Recipe, Record, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask
from expunge.storage import Bundle

LOSSES: tuple[ConvexLoss, ...] = (Logistic(), Squared())


def deployed(work: Work, model: nn.Module, head: ConvexHead) -> Deployment:
    recipe = Recipe(lambda seed: model, work.recipe.family, head)
    trained = recipe.make(work.data, Run())
    rows = work.data[Role.TRAIN]
    return Deployment(
        trained.model, work.recipe.family, rows, work.table, Sum(),
        recipe=recipe, record=trained.record,
    )  # fmt: skip


def one(deployment: Deployment, row: int) -> Request:
    return Request(f"row {row}", Rows("id", (deployment.train.ids[row],)))


@pytest.fixture(scope="module")
def seen(digits_work: Work, digits_model: nn.Module) -> Seen:
    rows = digits_work.data[Role.TRAIN].select(torch.arange(400))
    return Seen.of(digits_model, digits_work.recipe.family, rows, Run())


def split(seen: Seen, at: int) -> tuple[Seen, Seen]:
    return (
        Seen(seen.features[:at], seen.targets[:at]),
        Seen(seen.features[at:], seen.targets[at:]),
    )


def noise_for(seen: Seen, scale: float) -> Tensor:
    shape = seen.features.shape[1], seen.targets.shape[1]
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_derivatives_are_those_of_the_loss(loss: ConvexLoss) -> None:
    score = torch.linspace(-30, 30, 2001, dtype=torch.float64, requires_grad=True)
    for target in (1.0, -1.0):
        y = torch.full_like(score, target)
        [first] = torch.autograd.grad(loss.value(score, y).sum(), score, create_graph=True)
        [second] = torch.autograd.grad(first.sum(), score)
        assert torch.allclose(loss.first(score, y), first)
        assert torch.allclose(loss.second(score, y), second)
    with torch.no_grad():
        slope = loss.second(score, y).diff().abs() / score.diff()
        assert slope.max() <= loss.steepest * (1 + 1e-9) + 1e-12
        assert slope.max() >= 0.99 * loss.steepest


def test_on_ridge_the_step_leads_to_the_retrained_weights(seen: Seen) -> None:
    noise, loss = noise_for(seen, 5.0), Squared()
    before = minimised(seen, loss, 0.1, noise)
    there, here = split(seen, 40)
    left, step = newton_step(before, there, here, loss, 0.1)
    again = minimised(here, loss, 0.1, noise)
    assert left == 0
    assert torch.allclose(before + step, again, rtol=1e-9, atol=1e-9)
    assert (before - again).norm() > 1e-3


def test_the_gradient_that_is_left_is_within_the_bound_and_the_step_has_the_right_sign(
    seen: Seen,
) -> None:
    noise, loss = noise_for(seen, 5.0), Logistic()
    before = minimised(seen, loss, 0.5, noise)
    for count in (1, 5, 40):
        there, here = split(seen, count)
        bound, step = newton_step(before, there, here, loss, 0.5)
        left, untouched, turned = (
            float((here.gradient(before + sign * step, loss, 0.5) + noise).norm())
            for sign in (1, 0, -1)
        )
        assert left <= bound
        assert left < 0.2 * untouched < turned


def test_the_budget_adds_up_over_requests_and_is_refused_when_it_is_spent(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deployed(digits_work, digits_model, ConvexHead())
    method = CertifiedRemoval(epsilon=0.07)
    spent = []
    for row in range(2):
        [change] = deployment.forget(one(deployment, row), method, Run()).changes
        assert isinstance(change, Replacement)
        spent.append(float(str(change.facts["epsilon"])))
        assert change.facts["delta"] == 1e-4
        assert "fixed features" in str(change.facts["certified"])
    assert 0 < spent[0] < spent[1] <= 0.07
    before = parameters_of(deployment.model)
    with pytest.raises(ExpungeError, match=r"and 0.07 are allowed; retrain the head"):
        for row in range(2, 10):
            before = parameters_of(deployment.model)
            deployment.forget(one(deployment, row), method, Run())
    for name, weights in parameters_of(deployment.model).items():
        assert torch.equal(weights, before[name])
    refused = one(deployment, len(deployment.history.requests()))
    deployment.forget(refused, Retrain(), Run())  # a new noise, a new budget
    assert deployment.record is not None
    assert float(str(deployment.record.facts["residual"])) < 1e-4


def test_the_same_rows_cost_less_under_more_noise_and_a_smaller_delta_costs_more() -> None:
    method = CertifiedRemoval()
    assert method.spent(2.0, 10.0) == pytest.approx(2 * method.spent(1.0, 10.0))
    assert method.spent(1.0, 20.0) == pytest.approx(method.spent(1.0, 10.0) / 2)
    assert replace(method, delta=1e-6).spent(1.0, 1.0) > method.spent(1.0, 1.0)
    # Theorem 3: sigma = c residual / epsilon gives delta = 1.5 exp(-c^2 / 2)
    c = method.spent(1.0, 1.0)
    assert 1.5 * torch.tensor(-c * c / 2).exp() == pytest.approx(1e-4)
    assert method.spent(1e-9, 0.0) == float("inf")


def test_only_the_head_moves_and_the_model_still_answers(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deployed(digits_work, digits_model, ConvexHead())
    deployment.forget(one(deployment, 0), CertifiedRemoval(), Run())
    name, _ = head_of(digits_model)
    for key, weights in parameters_of(deployment.model).items():
        assert torch.equal(weights, parameters_of(digits_model)[key]) != key.startswith(name)
    family = digits_work.recipe.family
    plain, certified = (
        float(accuracy(ask(family, model, digits_work.test, Run()))[0])
        for model in (digits_model, deployment.model)
    )
    assert certified > plain - 0.04  # measured 95.0 and 95.9 %


def test_it_reads_the_forget_and_the_retain_set_and_leaves_the_model(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deployed(digits_work, digits_model, ConvexHead())
    problem = deployment.problem(one(deployment, 0), CertifiedRemoval())
    before = digest_of(problem.model)
    opened = {r: problem.data[r] for r in (Role.FORGET, Role.RETAIN)}
    outcomes = [
        unlearn(CertifiedRemoval(), replace(problem, data=data), Run())
        for data in (problem.data, opened)
    ]
    [once], [again] = (outcome.changes for outcome in outcomes)
    assert isinstance(once, Replacement)
    assert isinstance(again, Replacement)
    assert once.digest() == again.digest() != before == digest_of(problem.model)
    with pytest.raises(ExpungeError, match="retain set"):
        less = {Role.FORGET: problem.data[Role.FORGET]}
        unlearn(CertifiedRemoval(), replace(problem, data=less), Run())


def test_the_record_is_stored_and_belongs_to_its_model(
    digits_work: Work, digits_model: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> None:
    deployment = deployed(digits_work, digits_model, ConvexHead())
    assert deployment.record is not None
    path = tmp_path_factory.mktemp("record") / "record.safetensors"
    deployment.record.save(path)
    deployment.record = Bundle.load_checked(path)
    deployment.forget(one(deployment, 0), CertifiedRemoval(), Run())

    other = deployed(digits_work, digits_model, ConvexHead(noise=1.0))
    other.record = deployment.record
    with pytest.raises(IntegrityError, match="not the one of the training record"):
        other.forget(one(other, 0), CertifiedRemoval(), Run())
    facts = {n: f for n, f in deployment.record.facts.items() if n != MODEL}  # the method looks
    other.record = Record(deployment.record.tensors, facts)
    with pytest.raises(IntegrityError, match="The head of this model is not the one"):
        other.forget(one(other, 0), CertifiedRemoval(), Run())
    other.record = Record({}, {"shards": 3})
    with pytest.raises(ExpungeError, match="the record of a convex head"):
        other.forget(one(other, 0), CertifiedRemoval(), Run())
    other.record = None
    with pytest.raises(ExpungeError, match="training record"):
        other.forget(one(other, 0), CertifiedRemoval(), Run())


def test_a_convolutional_network_has_a_convex_head_too(digits_work: Work) -> None:
    rows = digits_work.data[Role.TRAIN].select(torch.arange(200))
    assert isinstance(rows, TensorSamples)
    large = nn.functional.interpolate(rows.columns["image"], size=28)
    model = SmallCnn(torch.Generator().manual_seed(0))
    data = {Role.TRAIN: rows.with_column("image", large)}
    trained = ConvexHead(ridge=1e-4, noise=0.01).fit(model, digits_work.recipe.family, data, Run())
    signals = ask(digits_work.recipe.family, trained.model, data[Role.TRAIN], Run())
    assert float(accuracy(signals)[0]) > 0.9


def test_what_is_no_convex_head_is_refused(digits_work: Work) -> None:
    family, data = digits_work.recipe.family, digits_work.data
    bent = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1))
    with pytest.raises(ExpungeError, match="ends in a linear layer"):
        ConvexHead().fit(bent, family, data, Run())
    with pytest.raises(ExpungeError, match="no linear layer"):
        ConvexHead().fit(nn.Sequential(nn.Flatten()), family, data, Run())
    rows = data[Role.TRAIN]
    assert isinstance(rows, TensorSamples)
    bare = TensorSamples(rows.ids, rows.subjects, {"image": rows.columns["image"]})
    with pytest.raises(ExpungeError, match="with a label"):
        ConvexHead().fit(bent, family, {Role.TRAIN: bare}, Run())
    with pytest.raises(ExpungeError, match="ridge above 0"):
        ConvexHead(ridge=0.0)
    with pytest.raises(ExpungeError, match="delta between 0 and 1"):
        CertifiedRemoval(delta=1.0)
