"""ACU: the head of a training without the rows, its certificate, and the requests it refuses."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.deletion import DeletionState, deletion_state
from expunge.changes.kinds import Replacement
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.deployment import Deployment
from expunge.errors import AccessError, ExpungeError, IntegrityError
from expunge.learning.supervised.ridge import Recursion, Resolve, Solver
from expunge.learning.supervised.ridge_head import RidgeHead, kept_by
from expunge.methods.acu import ACU
from expunge.methods.certified_removal import CertifiedRemoval
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.guardrail import Guardrail
from expunge.methods.protocol import Method, unlearn
from expunge.methods.redact import Redact
from expunge.methods.retrain import Retrain
from expunge.models.random_features import RandomReLU
from expunge.problem import Problem
from expunge.recipe import Recipe, Record, Role
from expunge.requests import Request, Rows
from expunge.run import Run

SOLVERS: tuple[Solver, ...] = (Resolve(), Recursion())


def network(seed: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), RandomReLU(64, 200), nn.Linear(200, 10, bias=False))


def deployed(work: Work, learner: RidgeHead) -> Deployment:
    recipe = Recipe(network, work.recipe.family, learner)
    trained = recipe.make(work.data, Run())
    rows = work.data[Role.TRAIN]
    return Deployment(
        trained.model, recipe.family, rows, work.table, Sum(), recipe=recipe, record=trained.record
    )


def naming(deployment: Deployment, *rows: int) -> Request:
    return Request(f"rows {rows}", Rows("id", tuple(deployment.train.ids[row] for row in rows)))


def showing(problem: Problem, forget: Samples) -> Problem:
    """Nothing but these rows."""
    return replace(problem, data={Role.FORGET: forget})


def answers(model: nn.Module, work: Work) -> Tensor:
    """What a model answers to every test row."""
    images = work.test.batch(torch.arange(len(work.test)))["image"]
    found: Tensor = model(images).argmax(1)
    return found


def requests(deployment: Deployment) -> Iterator[Request]:
    """Rows, a class of which some are gone by then, and rows of it and others."""
    labels = deployment.table["label"][:]
    threes = [row for row, label in enumerate(labels) if int(str(label)) == 3]
    yield naming(deployment, threes[0], threes[5], 10)
    yield Request("the threes", Rows("label", ("3",)))
    yield naming(deployment, threes[1], 11, 12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_after_every_request_the_model_is_the_retrained_one(
    digits_work: Work, solver: Solver
) -> None:
    deployment = deployed(digits_work, RidgeHead(0.1, solver, "never saw the rows"))
    for request in requests(deployment):
        problem = deployment.problem(request, Retrain())
        [anew] = unlearn(Retrain(), problem, Run()).changes
        [change] = deployment.forget(request, ACU(), Run()).changes
        assert isinstance(anew, Replacement)
        assert isinstance(change, Replacement)
        apart = [
            float((change.tensors[n] - anew.tensors[n]).norm() / anew.tensors[n].norm())
            for n in anew.tensors
        ]
        assert max(apart) < 1e-7  # float32 rounds at 6e-8
        if solver == Resolve():
            assert change.digest() == anew.digest()
        oracle = anew.applied_to(deployment.base)
        assert torch.equal(answers(deployment.model, digits_work), answers(oracle, digits_work))
    assert deletion_state(deployment.history) is DeletionState.EXACT


def test_gradient_ascent_on_the_head_is_not_the_retrained_model(digits_work: Work) -> None:
    deployment = deployed(digits_work, RidgeHead(0.1))
    threes = Request("the threes", Rows("label", ("3",)))
    problem = deployment.problem(threes, Retrain())
    [anew] = unlearn(Retrain(), problem, Run()).changes
    assert isinstance(anew, Replacement)
    oracle = anew.applied_to(deployment.base)
    for method, alike in ((ACU(), True), (GradientAscent(5, 1e-2), False)):
        outcome = unlearn(method, deployment.problem(threes, method), Run())
        model = outcome.applied_to(deployment.base)
        same = torch.equal(answers(model, digits_work), answers(oracle, digits_work))
        assert same == alike


@pytest.mark.parametrize(
    ("below", "state", "said"),
    [
        ("never saw the rows", DeletionState.EXACT, "declared never to have seen the rows"),
        ("unknown", DeletionState.EDITED, "they may have been trained on the rows"),
    ],
)
def test_the_certificate_says_what_it_covers_and_that_the_backbone_is_not(
    digits_work: Work, below: str, state: DeletionState, said: str
) -> None:
    for solver, equal in (
        (Resolve(), "equal in every bit"),
        (Recursion(), r"equal to about \de-1"),
    ):
        learner = RidgeHead(1.0, solver, below)  # type: ignore[arg-type]
        deployment = deployed(digits_work, learner)
        [change] = deployment.forget(naming(deployment, 4), ACU(), Run()).changes
        assert isinstance(change, Replacement)
        assert deletion_state(deployment.history) is state
        scope = str(change.facts["certified"])
        for part in ("last linear layer (2)", "1,077 rows left", "below it are not covered", said):
            assert part in scope
        assert re.search(equal, scope)


def test_no_row_goes_twice_and_none_that_was_never_there(digits_work: Work) -> None:
    deployment = deployed(digits_work, RidgeHead(0.1))
    deployment.forget(naming(deployment, 1, 2), ACU(), Run())
    before = deployment.record
    with pytest.raises(ExpungeError, match=r"All 1 rows that .* were removed by earlier requests"):
        deployment.forget(naming(deployment, 1), ACU(), Run())
    problem = deployment.problem(naming(deployment, 3), ACU())
    for data in (deployment.train.select(torch.tensor([1])), digits_work.test):
        with pytest.raises(ExpungeError, match="is to be removed and is not there"):
            unlearn(ACU(), showing(problem, data), Run())
    assert deployment.record is before
    deployment.forget(naming(deployment, 1, 3), ACU(), Run())  # row 1 is left out, it is gone
    assert deployment.record is not None
    assert len(kept_by(deployment.record).rows) == len(deployment.train) - 3


def test_a_certified_removal_is_not_shown_what_is_gone_either(
    digits_work: Work, digits_model: nn.Module
) -> None:
    deployment = deployed(digits_work, RidgeHead(0.1))
    deployment.forget(naming(deployment, 1, 2), ACU(), Run())
    for method, count in ((CertifiedRemoval(), 1), (ACU(), 1), (GradientAscent(), 3)):
        request = naming(deployment, 1, 2, 3)
        assert len(deployment.problem(request, method).data[Role.FORGET]) == count


def test_it_reads_the_forget_rows_and_the_record_alone(digits_work: Work) -> None:
    deployment = deployed(digits_work, RidgeHead(0.1, Recursion()))
    method: Method = ACU()
    problem = deployment.problem(naming(deployment, 0, 7), method)
    before, kept = digest_of(problem.model), kept_by(problem.record).solved
    alone = showing(problem, problem.data[Role.FORGET])
    [once], [again] = (unlearn(method, p, Run()).changes for p in (alone, problem))
    assert isinstance(once, Replacement)
    assert isinstance(again, Replacement)
    assert once.digest() == again.digest() != before == digest_of(problem.model)
    assert torch.equal(kept_by(problem.record).solved.sums.gram, kept.sums.gram)
    with pytest.raises(AccessError, match="retain"):
        _ = problem.opened(method.unlearns_with).data[Role.RETAIN]


def test_a_record_belongs_to_its_model(digits_work: Work) -> None:
    deployment, other = (deployed(digits_work, RidgeHead(r)) for r in (0.1, 1.0))
    own, request = deployment.record, naming(deployment, 0)
    assert own is not None
    deployment.record = other.record
    with pytest.raises(IntegrityError, match="not the one of the training record"):
        deployment.forget(request, ACU(), Run())
    deployment.record = Record({}, {"shards": 3})
    with pytest.raises(ExpungeError, match=r"record of a ridge head|needs the training record"):
        deployment.forget(request, ACU(), Run())
    deployment.record = None
    with pytest.raises(ExpungeError, match="training record"):
        deployment.forget(request, ACU(), Run())


def test_rows_behind_a_guard_are_still_in_the_record_and_go_with_the_next_request(
    digits_work: Work,
) -> None:
    """A guard acts at inference and takes nothing out: the same rows are shown again, and the
    model without them is in every bit the one that never had a guard."""
    learner = RidgeHead(0.1, below="never saw the rows")
    guarded, plain = (deployed(digits_work, learner) for _ in range(2))
    guarded.forget(naming(guarded, 3), Guardrail(), Run())
    both, ids = naming(guarded, 3, 5), guarded.train.ids
    assert list(guarded.problem(both, ACU()).data[Role.FORGET].ids) == [ids[3], ids[5]]
    guarded.forget(both, ACU(), Run())
    plain.forget(both, ACU(), Run())
    assert digest_of(guarded.model) == digest_of(plain.model)
    assert deletion_state(guarded.history) is DeletionState.EXACT
    assert guarded.record is not None
    assert len(kept_by(guarded.record).rows) == len(guarded.train) - 2


@pytest.mark.parametrize("suppresses", [Guardrail(), Redact()], ids=["guard", "redaction"])
def test_weights_that_hold_suppressed_rows_are_not_exact(
    suppresses: Method, digits_work: Work
) -> None:
    deployment = deployed(digits_work, RidgeHead(0.1, below="never saw the rows"))
    kept_away = naming(deployment, 3)
    deployment.forget(kept_away, suppresses, Run())
    with pytest.raises(ExpungeError, match=re.escape(repr(kept_away.name))):
        deployment.forget(naming(deployment, 5), ACU(), Run())
    assert deletion_state(deployment.history) is DeletionState.SUPPRESSED


def test_a_training_anew_takes_guarded_rows_out_of_the_record(digits_work: Work) -> None:
    deployment = deployed(digits_work, RidgeHead(0.1, below="never saw the rows"))
    deployment.forget(naming(deployment, 3), Guardrail(), Run())
    deployment.forget(naming(deployment, 5), Retrain(), Run())
    deployment.forget(naming(deployment, 3, 7), ACU(), Run())
    assert deployment.record is not None
    assert len(kept_by(deployment.record).rows) == len(deployment.train) - 3
