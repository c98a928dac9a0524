"""Facts about a deployment: what is folded, what is excluded, and what revoking gives back."""

from typing import Any

import pytest
import torch
from torch import nn

from expunge.aggregation.cata import Cata
from expunge.aggregation.protocol import Aggregation
from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.weights import digest_of
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.retrain import Retrain
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

REQUESTS = [Request(f"digit {c}", Rows("label", (str(c),))) for c in (8, 3, 5)]
METHOD = Negation(4, 1e-3)


def deploy(work: Work, model: nn.Module, rule: Aggregation[Any]) -> Deployment:
    train = work.data[Role.TRAIN]
    return Deployment(
        model,
        work.recipe.family,
        train,
        work.table,
        rule,
        recipe=work.recipe,
    )


@pytest.mark.parametrize("rule", [Sum(), Cata()])
def test_revoking_equals_the_run_without_the_request(
    rule: Aggregation[Any], digits_work: Work, digits_model: nn.Module
) -> None:
    with_all = deploy(digits_work, digits_model, rule)
    without = deploy(digits_work, digits_model, rule)
    for i, request in enumerate(REQUESTS):
        with_all.forget(request, METHOD, Run(i), 0.5 + i)
        if i != 1:
            without.forget(request, METHOD, Run(i), 0.5 + i)
    assert digest_of(with_all.model) != digest_of(without.model)
    with_all.revoke(REQUESTS[1])
    assert digest_of(with_all.model) == digest_of(without.model)


def test_revoking_everything_gives_the_base_back(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    deployment.forget(REQUESTS[0], METHOD, Run())
    deployment.revoke(REQUESTS[0])
    assert digest_of(deployment.model) == digest_of(digits_model)


def test_retained_rows_leave_out_every_earlier_forget_set(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    for request in REQUESTS[:2]:
        deployment.forget(request, METHOD, Run())
    retain = deployment.problem(REQUESTS[2], METHOD).data[Role.RETAIN]
    labels = retain.batch(torch.arange(len(retain)))["label"]
    assert set(labels.tolist()) == {0, 1, 2, 4, 6, 7, 9}


def test_a_change_made_without_other_rows_must_be_made_again_before_they_are_revoked(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    method = GradientDifference(2, 1e-3)
    for request in REQUESTS[:2]:
        deployment.forget(request, method, Run())
    with pytest.raises(ExpungeError, match="run these again"):
        deployment.revoke(REQUESTS[0])
    deployment.revoke(REQUESTS[1])  # the last one: nothing was made without it
    assert deployment.history.requests() == (REQUESTS[0],)


def test_a_sequential_method_starts_an_epoch_from_the_current_model(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    method = GradientAscent(1, 1e-4, sequential=True)
    deployment.forget(REQUESTS[0], method, Run())
    after_one = digest_of(deployment.model)
    assert deployment.history.current.base == after_one
    assert digest_of(deployment.problem(REQUESTS[1], method).model) == after_one
    deployment.forget(REQUESTS[1], method, Run())
    assert len(deployment.history.epochs) == 3
    with pytest.raises(ExpungeError, match="current epoch"):
        deployment.revoke(REQUESTS[0])


def test_a_delta_after_a_replacement_is_folded_against_the_new_base(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    deployment.forget(REQUESTS[0], Retrain(), Run())
    oracle = digest_of(deployment.model)
    deployment.forget(REQUESTS[1], METHOD, Run())
    [(delta, strength)] = deployment.history.current.deltas()
    assert delta.base == oracle
    assert strength == 1.0


def test_a_request_is_answered_once(digits_work: Work, digits_model: nn.Module) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    deployment.forget(REQUESTS[0], METHOD, Run())
    with pytest.raises(ExpungeError, match="made before"):
        deployment.forget(Request("again", REQUESTS[0].target), METHOD, Run())
