"""l1-sparse: the pattern of the paper on digits, and the schedule of its penalty."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from expunge.changes.delta import Delta
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.descent.penalties import L1Norm
from expunge.errors import ExpungeError
from expunge.families.regressor import Regressor
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.protocol import unlearn
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
Trained = Callable[[int], Deployment]


def sparse(gamma: float) -> L1Sparse:
    return L1Sparse(gamma, learning_rate=0.05, batch_size=64)


def after(method: L1Sparse, problem: Problem) -> nn.Module:
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def test_a_larger_penalty_forgets_more_and_a_large_one_everything(trained: Trained) -> None:
    deployment = trained(0)
    found = []
    for gamma in (0.0, 1e-3, 3e-3):
        problem = deployment.problem(THREES, sparse(gamma))
        model = after(sparse(gamma), problem)
        shares = [
            float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])
            for role in (Role.FORGET, Role.RETAIN)
        ]
        found.append(1 - shares[0])
        assert shares[1] > 0.95
    assert found[0] < found[1] < found[2]
    assert found[0] < 0.3
    assert found[2] > 0.9


def test_the_penalty_makes_the_weights_near_sparse(trained: Trained) -> None:
    near_zero = {}
    for gamma in (0.0, 3e-3):
        problem = trained(0).problem(THREES, sparse(gamma))
        flat = torch.cat(
            [p.detach().reshape(-1) for p in after(sparse(gamma), problem).parameters()]
        )
        near_zero[gamma] = float((flat.abs() < 3e-3).double().mean())
    assert near_zero[3e-3] > 0.5 > 5 * near_zero[0.0]


def test_the_penalty_of_the_last_epoch_is_gamma_over_the_epochs() -> None:
    [player] = L1Sparse(gamma=1e-3, epochs=8).descent().players
    term = player.others["l1"].term
    assert isinstance(term, L1Norm)
    assert term.weight * term.schedule.share(799, 800) == pytest.approx(1e-3 / 8)


def test_it_reads_the_retain_set_alone() -> None:
    assert L1Sparse().unlearns_with == Access.to(Role.RETAIN)


def test_it_runs_on_a_regressor(trained: Trained) -> None:
    problem = trained(0).problem(THREES, L1Sparse())
    retain = problem.data[Role.RETAIN]
    assert isinstance(retain, TensorSamples)
    targets = retain.with_column("target", retain.columns["label"].float())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    numbers = replace(problem, model=model, family=Regressor(), data={Role.RETAIN: targets})
    [change] = unlearn(L1Sparse(epochs=1), numbers, Run()).changes
    assert isinstance(change, Delta)
    assert change.count() == 65


@pytest.mark.parametrize("wrong", [{"gamma": -1.0}, {"free_epochs": 10}, {"free_epochs": -1}])
def test_a_penalty_that_never_acts_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExpungeError, match="fewer free epochs than epochs"):
        L1Sparse(**wrong)  # type: ignore[arg-type]
