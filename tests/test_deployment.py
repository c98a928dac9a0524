"""Facts about a deployment: what is folded, what is excluded, and what revoking gives back."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from expunge.aggregation.cata import Cata
from expunge.aggregation.protocol import Aggregation
from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of
from expunge.deployment import Deployment
from expunge.errors import ExpungeError, IntegrityError
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.lfssd import LFSSD
from expunge.methods.negation import Negation
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.retrain import Retrain
from expunge.methods.ssd import SSD
from expunge.problem import Access, Problem
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
    with pytest.raises(ExpungeError, match="Withdraw 'digit 3', then 'digit 8'; then request"):
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
    with pytest.raises(ExpungeError, match="A Replacement was served"):
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


def test_following_the_advice_withdraws_a_request_that_later_ones_left_out(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    without = deploy(digits_work, digits_model, Sum())
    method = GradientDifference(2, 1e-3)
    for request in REQUESTS:
        deployment.forget(request, method, Run())
    with pytest.raises(ExpungeError, match="Withdraw 'digit 5', then 'digit 3', then 'digit 8'"):
        deployment.revoke(REQUESTS[0])
    for request in reversed(REQUESTS):
        deployment.revoke(request)
    for request in REQUESTS[1:]:
        deployment.forget(request, method, Run())
        without.forget(request, method, Run())
    assert digest_of(deployment.model) == digest_of(without.model)


def test_a_stale_replacement_does_not_undo_what_was_served_since(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    stale = deployment.unlearn(REQUESTS[0], Retrain(), Run())
    deployment.forget(REQUESTS[1], METHOD, Run())
    before = deployment.history, digest_of(deployment.model)
    with pytest.raises(IntegrityError, match="it would undo what was served since"):
        deployment.serve(REQUESTS[0], Retrain(), stale)
    assert (deployment.history, digest_of(deployment.model)) == before
    deployment.forget(REQUESTS[0], Retrain(), Run())  # made again from there, it is served
    assert deployment.history.requests() == (REQUESTS[1], REQUESTS[0])


def test_a_replacement_has_no_strength(digits_work: Work, digits_model: nn.Module) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    outcome = deployment.unlearn(REQUESTS[0], Retrain(), Run())
    with pytest.raises(ExpungeError, match=r"which has no strength, and 0\.5 was given"):
        deployment.serve(REQUESTS[0], Retrain(), outcome, 0.5)
    assert digest_of(deployment.model) == digest_of(digits_model)
    assert deployment.history.requests() == ()


def test_excluded_is_what_was_left_out_when_the_change_was_made(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    method = GradientDifference(1, 1e-3)
    early = deployment.unlearn(REQUESTS[1], method, Run())
    deployment.forget(REQUESTS[0], METHOD, Run())
    late = deployment.unlearn(REQUESTS[2], method, Run())
    assert (early.excluded, late.excluded) == ((), (REQUESTS[0].digest(),))
    assert deployment.unlearn(REQUESTS[2], METHOD, Run()).excluded == ()  # reads no such set
    assert deployment.serve(REQUESTS[1], method, early).excluded == ()
    assert deployment.serve(REQUESTS[2], method, late).excluded == late.excluded


@dataclass(frozen=True)
class Preparing:
    """A method that notes the rows it saw while preparing, and changes nothing."""

    role: Role | None
    seen: list[list[str]]
    name: ClassVar[str] = "preparing"
    paper: ClassVar[str] = "none"
    needs: ClassVar[tuple[type, ...]] = ()
    sequential: ClassVar[bool] = False
    unlearns_with: ClassVar[Access] = Access()

    def __hash__(self) -> int:
        return hash(self.role)

    @property
    def prepares_with(self) -> Access:
        return Access() if self.role is None else Access.to(self.role)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        self.seen.append([] if self.role is None else list(problem.data[self.role].ids))
        return Artifact(facts={"times": len(self.seen)})

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        return Outcome(())


@pytest.mark.parametrize(
    ("role", "times"), [(None, 1), (Role.FORGET, 2), (Role.RETAIN, 2), (Role.TRAIN, 2)]
)
def test_what_was_prepared_serves_again_only_where_it_would_see_the_same_rows(
    role: Role | None, times: int, digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    method = Preparing(role, [])
    for request in REQUESTS[:2]:
        for _ in range(2):  # the same request again sees the same rows
            outcome = deployment.unlearn(request, method, Run())
        deployment.serve(request, method, outcome)
    assert len(method.seen) == times
    assert outcome.excluded == (
        (REQUESTS[0].digest(),) if role in (Role.RETAIN, Role.TRAIN) else ()
    )
    if role is not None:
        assert method.seen[0] != method.seen[1]


@pytest.mark.parametrize("other", [Run(1), Run(precision="bfloat16")], ids=["seed", "precision"])
def test_what_was_prepared_for_one_run_does_not_serve_another(
    other: Run, digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    method = Preparing(None, [])
    for run, times in ((Run(), 1), (Run(), 1), (other, 2)):
        deployment.unlearn(REQUESTS[0], method, run)
        assert len(method.seen) == times


def test_another_alpha_reads_no_training_row_again_and_another_importance_does(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment, run = deploy(digits_work, digits_model, Sum()), Run()
    rows = len(digits_work.data[Role.TRAIN])
    for method, passes in (
        (SSD(5.0), 1),
        (SSD(2.0, 0.5), 1),
        (SSD(2.0, as_published=True), 2),
        (SSD(3.0, as_published=True), 2),
        (SSD(3.0, as_published=True, batch_size=32), 3),
        (LFSSD(2.0), 4),
        (LFSSD(3.0, inputs=("image", "label")), 5),
    ):
        shared = deployment.unlearn(REQUESTS[0], method, run)
        assert run.meter.touched["train"] == passes * rows
        alone = deploy(digits_work, digits_model, Sum()).unlearn(REQUESTS[0], method, Run())
        [change, anew] = [*shared.changes, *alone.changes]
        assert isinstance(change, Delta)
        assert isinstance(anew, Delta)
        assert digest_of(change.applied_to(digits_model)) == digest_of(
            anew.applied_to(digits_model)
        )


def test_the_training_set_leaves_out_the_rows_of_earlier_requests(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deploy(digits_work, digits_model, Sum())
    method = Preparing(Role.TRAIN, [])
    deployment.forget(REQUESTS[0], METHOD, Run())
    train = deployment.problem(REQUESTS[1], method).data[Role.TRAIN]
    labels = train.batch(torch.arange(len(train)))["label"]
    assert set(labels.tolist()) == {0, 1, 2, 3, 4, 5, 6, 7, 9}
