"""Fisher forgetting: the noise of the paper, and the erased class as a choice of its own."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work, digits_dual_encoder
from expunge.changes.delta import Delta
from expunge.changes.weights import parameters_of
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.errors import AccessError, ExpungeError
from expunge.methods.fisher_forgetting import FisherForgetting
from expunge.methods.protocol import unlearn
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy_by_subject
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
OUTPUTS = frozenset({"layers.5.weight", "layers.5.bias"})


def asked(work: Work, model: nn.Module, request: Request = THREES) -> Problem:
    rows = work.data[Role.TRAIN]
    deployment = Deployment(model, work.recipe.family, rows, work.table, Sum())
    problem = deployment.problem(request, FisherForgetting())
    few = problem.data[Role.RETAIN].select(torch.arange(100))  # as many passes as classes
    return replace(problem, data={**problem.data, Role.RETAIN: few})


@pytest.fixture
def problem(digits_work: Work, digits_model: nn.Module) -> Problem:
    return asked(digits_work, digits_model)


def changed(method: FisherForgetting, problem: Problem, seed: int = 0) -> nn.Module:
    [change] = unlearn(method, problem, Run(seed)).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def scores(problem: Problem, model: nn.Module, work: Work) -> tuple[float, float]:
    """Accuracy on the threes of the test rows, and the mean over the other classes."""
    found = accuracy_by_subject(ask(problem.family, model, work.test, Run()))
    others = [float(v[0]) for s, v in found.items() if s != "digit 3"]
    return float(found["digit 3"][0]), sum(others) / 9


def test_the_noise_follows_the_rule_and_the_bounds_of_the_paper() -> None:
    method = FisherForgetting(alpha=4e-4)
    information = {
        "hidden.weight": torch.tensor([[1.0, 0.25], [0.0, 1e-9]]),
        "hidden.bias": torch.tensor([1.0, 0.0]),
        "out.weight": torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
    }
    found = method.deviations(information, frozenset({"out.weight"}))
    variance = {name: deviation.square() / 4e-4 for name, deviation in found.items()}
    assert torch.allclose(variance["hidden.weight"], torch.tensor([[2.5, 2.5], [1e3, 1e3]]))
    assert torch.allclose(variance["hidden.bias"], torch.tensor([10.0, 1e4]))
    assert torch.allclose(variance["out.weight"], torch.tensor([[10.0, 10.0], [1e3, 1e3]]))


def test_without_noise_nothing_moves_and_a_class_can_still_be_erased(problem: Problem) -> None:
    before = parameters_of(problem.model)
    still = parameters_of(changed(FisherForgetting(0.0), problem))
    erased = parameters_of(changed(FisherForgetting(0.0, erase_class=True), problem))
    for name, weights in before.items():
        assert torch.equal(still[name], weights)
        rows = torch.arange(len(weights)) != 3 if name in OUTPUTS else slice(None)
        assert torch.equal(erased[name][rows], weights[rows])
    for name in OUTPUTS:
        assert not erased[name][3].any()


def test_the_noise_does_not_forget_a_class_before_the_model_is_lost_but_the_erased_row_does(
    problem: Problem, digits_work: Work
) -> None:
    original = scores(problem, problem.model, digits_work)
    forgotten, others = scores(problem, changed(FisherForgetting(1e-6), problem), digits_work)
    assert forgotten > 0.85
    assert others > original[1] - 0.05
    _, lost = scores(problem, changed(FisherForgetting(1e-3), problem), digits_work)
    assert lost < 0.5
    gone, kept = scores(
        problem, changed(FisherForgetting(1e-9, erase_class=True), problem), digits_work
    )
    assert gone <= 0.1
    assert kept >= original[1] - 0.01


def test_rows_without_labels_have_no_class_to_erase(problem: Problem) -> None:
    forget = problem.data[Role.FORGET]
    rows = TensorSamples(forget.ids, forget.subjects, {"image": torch.zeros(len(forget), 1, 8, 8)})
    unlabelled = replace(problem, data={**problem.data, Role.FORGET: rows})
    with pytest.raises(ExpungeError, match="field 'label' of the rows is needed"):
        changed(FisherForgetting(1e-9, erase_class=True), unlabelled)


def test_a_class_is_erased_from_a_frozen_output_layer_too(problem: Problem) -> None:
    frozen = copy.deepcopy(problem.model)
    for name in OUTPUTS:
        frozen.get_parameter(name).requires_grad_(False)
    held = replace(problem, model=frozen)
    after = parameters_of(changed(FisherForgetting(1e-9, erase_class=True), held))
    others = torch.arange(10) != 3
    for name in OUTPUTS:
        assert not after[name][3].any()
        assert torch.equal(after[name][others], frozen.get_parameter(name)[others])


def test_the_noise_is_the_runs(problem: Problem) -> None:
    once, again, other = (
        next(iter(parameters_of(changed(FisherForgetting(1e-6), problem, seed)).values()))
        for seed in (1, 1, 2)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_another_request_has_other_noise(
    problem: Problem, digits_work: Work, digits_model: nn.Module
) -> None:
    fours = asked(digits_work, digits_model, Request("the fours", Rows("label", ("4",))))
    signs = []
    for each in (problem, fours):
        [change] = unlearn(FisherForgetting(1e-6), each, Run()).changes
        assert isinstance(change, Delta)
        signs.append(torch.cat([change.dense(n).flatten().sign() for n in sorted(change.entries)]))
    assert 0.4 < float((signs[0] == signs[1]).double().mean()) < 0.6


def test_it_opens_the_forget_set_only_to_name_the_class(problem: Problem) -> None:
    assert set(FisherForgetting().unlearns_with.roles) == {Role.RETAIN}
    erasing = problem.opened(FisherForgetting(erase_class=True).unlearns_with)
    with pytest.raises(AccessError):
        erasing.data[Role.FORGET].batch(torch.tensor([0]), {"image"})


def test_a_class_that_cannot_be_erased_is_said(digits_work: Work, digits_model: nn.Module) -> None:
    several = asked(digits_work, digits_model, Request("two", Rows("label", ("3", "4"))))
    with pytest.raises(ExpungeError, match="the forget set holds 2"):
        unlearn(FisherForgetting(erase_class=True), several, Run())
    work = digits_dual_encoder()
    pair = asked(work, work.recipe.builder(0))
    with pytest.raises(ExpungeError, match="no output layer"):
        unlearn(FisherForgetting(erase_class=True), pair, Run())
    with pytest.raises(ExpungeError, match="at least 0"):
        FisherForgetting(-1.0)
