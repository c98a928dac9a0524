"""SalUn-soft: random label where the penalty is zero, and weights at rest where it is not."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of, parameters_of
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.methods.presets import neutral_gradient, preset_of, typical_gradient
from expunge.methods.protocol import Method, unlearn
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun_soft import SalUnSoft
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
Trained = Callable[[int], Deployment]


def soft(penalty: float, epochs: int = 4) -> SalUnSoft:
    return SalUnSoft(penalty, epochs, learning_rate=0.01, batch_size=64)


def moved(method: Method, problem: Problem) -> nn.Module:
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def share_at_rest(model: nn.Module, problem: Problem) -> float:
    start, now = parameters_of(problem.model), parameters_of(model)
    return float(torch.cat([(now[n] == w).reshape(-1) for n, w in start.items()]).double().mean())


def share_correct(problem: Problem, model: nn.Module, role: Role) -> float:
    return float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])


def test_without_a_penalty_it_is_random_label_bit_for_bit(trained: Trained) -> None:
    problem = trained(0).problem(THREES, soft(0.0))
    relabelling = RandomLabel(4, learning_rate=0.01, batch_size=64)
    assert digest_of(moved(soft(0.0), problem)) == digest_of(moved(relabelling, problem))


def test_a_huge_penalty_moves_nothing_at_the_start(trained: Trained) -> None:
    problem, shares = trained(0).problem(THREES, soft(1e3)), []

    def look(step: int, model: nn.Module) -> None:
        shares.append(share_at_rest(model, problem))

    soft(1e3).descent().minimise(problem, Run(), each=look)
    assert shares[:10] == [1.0] * 10


def test_the_larger_the_penalty_the_more_weights_rest(trained: Trained) -> None:
    """Most of them at a moderate one, where random label moves every weight and the class is gone
    all the same."""
    problem = trained(0).problem(THREES, soft(0.0))
    models = [moved(soft(penalty), problem) for penalty in (0.0, 0.1, 1.0, 10.0)]
    rest = [share_at_rest(model, problem) for model in models]
    assert rest[0] < 0.01
    assert rest == sorted(rest)
    assert rest[2] > 0.5
    assert share_correct(problem, problem.model, Role.FORGET) > 0.95
    assert share_correct(problem, models[2], Role.FORGET) < 0.3
    assert share_correct(problem, models[2], Role.RETAIN) > 0.97


def test_the_penalty_of_the_preset_is_a_typical_gradient(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUnSoft())
    found, beside = preset_of(SalUnSoft(), problem), preset_of(RandomLabel(), problem)
    numbers = sum(p.numel() for p in problem.model.parameters())
    assert isinstance(found, SalUnSoft)
    assert isinstance(beside, RandomLabel)
    assert found.penalty == pytest.approx(typical_gradient(problem, Run()))
    assert found.penalty == pytest.approx(neutral_gradient(problem, Run()) / numbers**0.5)
    assert found.learning_rate == beside.learning_rate
    assert 0.25 < share_at_rest(moved(found, problem), problem) < 0.75


def test_it_reads_what_random_label_reads_and_needs_what_it_needs() -> None:
    assert SalUnSoft().unlearns_with == Access.to(Role.FORGET, Role.RETAIN)
    assert SalUnSoft().needs == RandomLabel().needs


def test_a_negative_penalty_is_refused(trained: Trained) -> None:
    problem = trained(0).problem(THREES, SalUnSoft())
    with pytest.raises(ExpungeError, match="at least 0 is expected"):
        unlearn(SalUnSoft(-1.0), problem, Run())
