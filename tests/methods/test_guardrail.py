"""Guardrail on the digits: what is refused, of whom, and what is left when the guard is off."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.attacks.edit_off import switched_off
from expunge.audit.audit import Audit
from expunge.audit.inquiry import Level
from expunge.audit.policy import Policy
from expunge.audit.removal import Removal
from expunge.audit.verdict import Result
from expunge.benchmarks.shipped import Work, digits_classifier_work, digits_dual_encoder
from expunge.changes.deletion import DeletionState, deletion_state
from expunge.changes.kinds import Replacement
from expunge.changes.refusal import Refusal
from expunge.data.samples import Samples, all_but
from expunge.deployment import Deployment
from expunge.errors import ExpungeError, IntegrityError
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.guardrail import Guardrail
from expunge.methods.negation import Negation
from expunge.methods.presets import AtPreset
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.retrain import Retrain
from expunge.models.mlp import digits_classifier
from expunge.problem import Access
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.ask import logits_of

EIGHTS = Request("the eights", Rows("label", ("8",)))
THREES = Request("the threes", Rows("label", ("3",)))


def of(work: Work, model: nn.Module) -> Deployment:
    family, train = work.recipe.family, work.data[Role.TRAIN]
    held = {Role.VALIDATION: work.validation}
    return Deployment(model, family, train, work.table, Sum(), recipe=work.recipe, data=held)


@pytest.fixture
def deployment(digits_work: Work, digits_model: nn.Module) -> Deployment:
    return of(digits_work, digits_model)


def some(work: Work, first: int, last: int) -> Request:
    ids = work.table["id"]
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0)).tolist()
    return Request(f"{first}-{last}", Rows("id", tuple(str(ids[i]) for i in order[first:last])))


def refused(deployment: Deployment, rows: Samples, original: nn.Module) -> tuple[Tensor, Tensor]:
    """Which rows have another answer than the original's, (n,), and their labels."""
    before, labels = logits_of(deployment.family, original, rows, Run())
    after, _ = logits_of(deployment.family, deployment.model, rows, Run())
    return (before != after).any(1), labels


def test_classes_are_refused_on_held_out_rows_too(
    digits_work: Work, digits_model: nn.Module
) -> None:
    own, others = [], []
    for label in range(10):
        deployment = of(digits_work, digits_model)
        deployment.forget(Request("it", Rows("label", (str(label),))), Guardrail(), Run())
        for held_out in (digits_work.validation, digits_work.test):
            gone, labels = refused(deployment, held_out, digits_model)
            own.append(gone[labels == label])
            others.append(gone[labels != label])
        trained, labels = refused(deployment, digits_work.data[Role.TRAIN], digits_model)
        assert bool(trained[labels == label].all())
    assert float(torch.cat(own).double().mean()) >= 0.95
    assert float(torch.cat(others).double().mean()) <= 0.03


@pytest.mark.parametrize("calibrated_on", ["retain", "validation"])
def test_rows_are_refused_and_few_others(
    calibrated_on: str, deployment: Deployment, digits_work: Work, digits_model: nn.Module
) -> None:
    method = Guardrail(calibrated_on=calibrated_on)  # type: ignore[arg-type]
    for first in range(0, 100, 10):  # ten requests share what may be refused wrongly
        deployment.forget(some(digits_work, first, first + 10), method, Run())
    train = digits_work.data[Role.TRAIN]
    named = some(digits_work, 0, 100).target.rows(digits_work.table)
    gone, labels = refused(deployment, train, digits_model)
    assert bool(gone[named].all())
    assert float(gone[all_but(len(train), named)].double().mean()) <= 0.03
    assert float(refused(deployment, digits_work.test, digits_model)[0].double().mean()) <= 0.03
    after, _ = logits_of(deployment.family, deployment.model, train.select(named), Run())
    assert float((after.argmax(1) == labels[named]).double().mean()) <= 0.2  # chance is 0.1
    assert float(after.softmax(1).amax()) < 0.3


def test_a_dual_encoder_is_guarded_too() -> None:
    work = digits_dual_encoder()
    model = work.recipe.make(work.data, Run()).model
    deployment = of(work, model)
    deployment.forget(EIGHTS, Guardrail(), Run())
    deployment.forget(some(work, 0, 20), Guardrail(), Run())
    gone, labels = refused(deployment, work.data[Role.TRAIN], model)
    assert bool(gone[labels == 8].all())
    assert bool(gone[some(work, 0, 20).target.rows(work.table)].all())
    held, labels = refused(deployment, work.test, model)
    assert float(held[labels != 8].double().mean()) <= 0.03


def test_a_guard_is_withdrawn_by_leaving_it_out(
    deployment: Deployment, digits_work: Work, digits_model: nn.Module
) -> None:
    first = deployment.forget(EIGHTS, Guardrail(calibrated_on="validation"), Run())
    second = deployment.forget(THREES, Guardrail(calibrated_on="validation"), Run())
    assert first.excluded == second.excluded == ()
    assert deletion_state(deployment.history) is DeletionState.SUPPRESSED
    deployment.revoke(EIGHTS)
    alone = of(digits_work, digits_model)
    alone.serve(THREES, Guardrail(), Outcome(second.changes))
    rows = digits_work.test
    found, expected = (logits_of(d.family, d.model, rows, Run())[0] for d in (deployment, alone))
    assert torch.equal(found, expected)
    deployment.revoke(THREES)
    assert deployment.model is deployment.base


def test_on_changed_weights_a_guard_is_made_again(
    deployment: Deployment, digits_work: Work
) -> None:
    guardrail = Guardrail(calibrated_on="validation")
    deployment.forget(EIGHTS, guardrail, Run())
    deployment.forget(THREES, Negation(4, 1e-3, kept=1.0), Run())
    with pytest.raises(IntegrityError, match="make it again for these"):
        _ = deployment.model
    deployment.revoke(EIGHTS)
    edited = deployment.model
    deployment.forget(EIGHTS, guardrail, Run())
    gone, labels = refused(deployment, digits_work.data[Role.TRAIN], edited)
    assert bool(gone[labels == 8].all())


def test_a_guard_of_other_weights_would_miss_its_rows(
    deployment: Deployment, digits_work: Work
) -> None:
    request = some(digits_work, 0, 100)
    [guard] = deployment.unlearn(request, Guardrail(), Run()).changes
    assert isinstance(guard, Refusal)
    deployment.forget(THREES, AtPreset.of(GradientDifference()), Run())
    rows = digits_work.data[Role.TRAIN].select(request.target.rows(digits_work.table))
    before, _ = logits_of(deployment.family, deployment.base, rows, Run())
    after, _ = logits_of(deployment.family, deployment.model, rows, Run())
    assert bool(guard.refuses(before).all())
    assert float(guard.refuses(after).double().mean()) < 0.05


def test_new_weights_do_not_leave_a_guard_behind_unless_they_are_retrained(
    deployment: Deployment,
) -> None:
    deployment.forget(EIGHTS, Guardrail(), Run())
    tuned = FineTune(epochs=1, sequential=True)
    with pytest.raises(ExpungeError, match="'the eights' stands in a guard"):
        deployment.forget(THREES, tuned, Run())
    served = deployment.forget(THREES, Retrain(), Run())
    assert isinstance(served.changes[0], Replacement)
    assert deletion_state(deployment.history) is DeletionState.RETRAINED


def test_a_guard_that_cannot_tell_rows_apart_is_refused(digits_work: Work) -> None:
    constant = digits_classifier()
    with torch.no_grad():
        for parameter in constant.parameters():
            parameter.zero_()
    with pytest.raises(ExpungeError, match="a guard cannot tell them apart"):
        of(digits_work, constant).forget(some(digits_work, 0, 10), Guardrail(), Run())
    with pytest.raises(ExpungeError, match="all 500 rows of the retain set with a forgotten"):
        zeros = Request("the zeros", Rows("label", ("0",)))
        of(digits_work, constant).forget(zeros, Guardrail(), Run())


def test_a_class_of_which_rows_stay_is_not_refused_as_a_whole(
    deployment: Deployment, digits_work: Work, digits_model: nn.Module
) -> None:
    problem = deployment.problem(some(digits_work, 0, 10), Guardrail())
    named = replace(problem, request=replace(problem.request, target=Rows("label", ("8",))))
    [guard] = (
        Guardrail().unlearn(named.opened(Guardrail().unlearns_with), Artifact(), Run()).changes
    )
    assert isinstance(guard, Refusal)
    assert guard.rules[0].classes == ()


def test_fields_and_access_are_checked() -> None:
    assert Guardrail().unlearns_with == Access.to(Role.FORGET, Role.RETAIN)
    assert Role.RETAIN not in Guardrail(calibrated_on="validation").unlearns_with.roles
    for wrong in ({"wrongly": 1.0}, {"rows": 0}):
        with pytest.raises(ExpungeError, match="Guardrail was given"):
            Guardrail(**wrong)


def test_the_audit_finds_the_guard_out_and_the_weights_answer_without_it(
    trained: Callable[[int], Deployment],
) -> None:
    deployment = trained(0)
    original = deployment.base
    deployment.forget(EIGHTS, Guardrail(), Run())
    rows = EIGHTS.target.rows(deployment.table)
    removal = Removal(
        "the eights",
        original,
        deployment.family,
        deployment.train.select(rows),
        deployment.train.select(all_but(len(deployment.train), rows)),
        digits_classifier_work().test,
    )
    policy = Policy.of({"questions": ["forgotten", "kept", "deleted or suppressed"]})
    audited = Audit.of(removal, policy, Level.QUICK).ask(deployment.model)
    assert audited.verdict("forgotten").result is Result.PASS
    assert audited.verdict("kept").result is Result.PASS
    assert audited.verdict("deleted or suppressed").result is Result.FAIL
    bare, _ = logits_of(deployment.family, switched_off(deployment.model), removal.forget, Run())
    known, _ = logits_of(deployment.family, original, removal.forget, Run())
    assert torch.equal(bare, known)
