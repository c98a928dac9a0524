"""Facts about the methods, on a classifier of the scikit-learn digits."""

from dataclasses import dataclass, replace

import pytest
import torch
from tests.methods.fast_settings import FAST
from torch import nn

from expunge import registry
from expunge.aggregation.sum import Sum
from expunge.benchmarks.concepts.worlds import concept_world
from expunge.benchmarks.generative_methods import GENERATIVE_METHODS
from expunge.benchmarks.language_methods import LANGUAGE_METHODS
from expunge.benchmarks.number_methods import NUMBER_METHODS
from expunge.benchmarks.shipped import Work
from expunge.changes.delta import Delta
from expunge.changes.kinds import Replacement
from expunge.changes.redaction import Redacted
from expunge.changes.refusal import Refusal
from expunge.changes.weights import digest_of, parameters_of
from expunge.data.samples import Batch, Samples
from expunge.deployment import Deployment
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.errors import AccessError, ExpungeError
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.protocol import ByDescent, Method, Suppresses, unlearn
from expunge.methods.retrain import Retrain
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy_by_subject, mean_loss
from expunge.signals.ask import ask
from expunge.storage import digest

EIGHTS = Request("the eights", Rows("label", ("8",)))

SUPPRESSING = ("guardrail", "redact")
"""Methods that leave the weights as they are."""

IDS_ALONE = ("redact",)
"""Methods that are told which rows go, and read none of them."""


@pytest.fixture
def deployment(digits_work: Work, digits_model: nn.Module) -> Deployment:
    return Deployment(
        digits_model,
        digits_work.recipe.family,
        digits_work.data[Role.TRAIN],
        digits_work.table,
        Sum(),
        data=concept_world("digits").examples,
        recipe=digits_work.recipe,
    )


@dataclass(frozen=True)
class Untouchable:
    """Samples that can be counted and selected; whoever reads a batch of them fails the test."""

    samples: Samples

    def __getattr__(self, name: str) -> object:
        return getattr(self.samples, name)

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, rows: torch.Tensor) -> "Untouchable":
        return Untouchable(self.samples.select(rows))

    def batch(self, rows: torch.Tensor, fields: object = None) -> Batch:
        raise AccessError("read")


def with_untouchable(problem: Problem, *roles: Role) -> Problem:
    closed = {role: Untouchable(problem.data[role]) for role in roles}
    return replace(problem, data={**problem.data, **closed})  # type: ignore[dict-item]


def test_every_registered_method_is_tried_here() -> None:
    records = {"acu", "certified-removal", "prune-then-unlearn", "s3t", "s3t-or-retrain", "sisa"}
    others = {*LANGUAGE_METHODS, *NUMBER_METHODS, *GENERATIVE_METHODS}
    assert set(FAST) | records | others == set(registry.names("methods"))


@pytest.mark.parametrize("name", sorted(FAST))
def test_a_method_reads_what_it_declares_and_nothing_else(
    name: str, deployment: Deployment
) -> None:
    method = FAST[name]
    assert isinstance(method, Method)
    problem = deployment.problem(EIGHTS, method)
    roles = set((method.prepares_with | method.unlearns_with).roles)
    closed = set(problem.data) - roles
    unlearn(method, with_untouchable(problem, *closed), Run())
    if name in IDS_ALONE:
        unlearn(method, with_untouchable(problem, *roles), Run())
        return
    with pytest.raises(AccessError):
        unlearn(method, with_untouchable(problem, *roles), Run())


@pytest.mark.parametrize("name", sorted(FAST))
def test_the_model_of_the_problem_stays_as_it_was(
    name: str, deployment: Deployment, digits_model: nn.Module
) -> None:
    before = digest_of(digits_model)
    deployment.forget(EIGHTS, FAST[name], Run())
    assert digest_of(digits_model) == before
    assert (digest_of(deployment.model) == before) == (name in SUPPRESSING)
    assert isinstance(FAST[name], Suppresses) == (name in SUPPRESSING)


@pytest.mark.parametrize("name", sorted(FAST))
def test_the_same_seed_gives_the_same_bits(name: str, deployment: Deployment) -> None:
    problem = deployment.problem(EIGHTS, FAST[name])
    digests = []
    for _ in range(2):
        [change] = unlearn(FAST[name], problem, Run(3)).changes
        assert isinstance(change, Delta | Replacement | Refusal | Redacted)
        if isinstance(change, Redacted):
            digests.append(str(change.removed))
        elif isinstance(change, Refusal):
            digests.append(digest(change.rules[0].tensors()) + str(change.rules[0].threshold))
        else:
            digests.append(digest_of(change.applied_to(problem.model)))
    assert digests[0] == digests[1]


def test_negation_is_minus_the_displacement_of_learning_the_forget_set(
    deployment: Deployment,
) -> None:
    method = Negation(4, 1e-3, kept=1.0)
    problem = deployment.problem(EIGHTS, method)
    [vector] = unlearn(method, problem, Run(1)).changes
    assert isinstance(vector, Delta)
    learned = method.descent().minimise(problem, Run(1)).model
    for name, before in parameters_of(problem.model).items():
        assert torch.equal(vector.dense(name), -(parameters_of(learned)[name] - before))


def test_negation_keeps_the_largest_share_of_the_whole_vector(deployment: Deployment) -> None:
    dense, cut = (
        unlearn(m, deployment.problem(EIGHTS, m), Run()).changes[0]
        for m in (Negation(2, 1e-3, kept=1.0), Negation(2, 1e-3, kept=0.3))
    )
    assert isinstance(dense, Delta)
    assert isinstance(cut, Delta)
    whole = torch.cat([dense.dense(n).reshape(-1).abs() for n in sorted(dense.entries)])
    kept = torch.cat([cut.dense(n).reshape(-1).abs() for n in sorted(dense.entries)])
    count = int((kept > 0).sum())
    assert abs(count / len(whole) - 0.3) < 1e-3
    assert kept[kept > 0].min() >= whole[kept == 0].max()


def test_ascent_raises_the_loss_on_the_forget_set(deployment: Deployment) -> None:
    method = GradientAscent(4, 1e-3)
    deployment_loss = []
    problem = deployment.problem(EIGHTS, method)
    for model in (problem.model, _moved(method, problem)):
        signals = ask(problem.family, model, problem.data[Role.FORGET], Run())
        deployment_loss.append(float(mean_loss(signals)[0]))
    assert deployment_loss[1] > 2 * deployment_loss[0]


def _moved(method: Method, problem: Problem) -> nn.Module:
    [change] = unlearn(method, problem, Run()).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def test_gradient_difference_forgets_one_class_and_keeps_nine(
    deployment: Deployment, digits_work: Work
) -> None:
    deployment.forget(EIGHTS, GradientDifference(3, 1e-3), Run())
    found = accuracy_by_subject(ask(deployment.family, deployment.model, digits_work.test, Run()))
    others = [float(value[0]) for subject, value in found.items() if subject != "digit 8"]
    assert float(found["digit 8"][0]) <= 0.1
    assert sum(others) / 9 >= 0.9


def test_without_its_forget_term_gradient_difference_is_fine_tuning(
    deployment: Deployment,
) -> None:
    difference = GradientDifference(2, 1e-3, 0.0, 32, 32, forget_weight=0.0, clip=1e9)
    problem = deployment.problem(EIGHTS, difference)

    class AsManySteps(ByDescent):
        name, paper, sequential = "as many steps", "none", False

        def descent(self) -> Descent:
            tuned = FineTune(1, 1e-3, batch_size=32).descent()
            tuned.length, tuned.transform = Epochs(2), difference.descent().transform
            return tuned

    both = difference.descent(), AsManySteps().descent()
    ended = [digest_of(descent.minimise(problem, Run(5)).model) for descent in both]
    assert ended[0] == ended[1]


def test_retraining_never_saw_the_forget_set(deployment: Deployment) -> None:
    problem = deployment.problem(EIGHTS, Retrain())
    [new] = unlearn(Retrain(), problem, Run()).changes
    train = deployment.train.batch(torch.arange(len(deployment.train)))
    eights = train["label"] == 8
    spoiled = train["image"].clone()
    spoiled[eights] = 7.0
    deployment.train = deployment.train.with_column("image", spoiled)  # type: ignore[attr-defined]
    [again] = unlearn(Retrain(), deployment.problem(EIGHTS, Retrain()), Run()).changes
    assert isinstance(new, Replacement)
    assert isinstance(again, Replacement)
    assert new.digest() == again.digest()
    assert new.digest() != digest_of(deployment.base)


def test_retraining_counts_each_row_once_a_pass(deployment: Deployment) -> None:
    run, problem = Run(), deployment.problem(EIGHTS, Retrain())
    unlearn(Retrain(), problem, run)
    rows = len(problem.data[Role.RETAIN])
    assert run.meter.touched == {"train": 30 * rows}  # the recipe has 30 passes


def test_retraining_without_a_recipe_is_refused(deployment: Deployment) -> None:
    deployment.recipe = None
    with pytest.raises(ExpungeError, match="recipe"):
        deployment.forget(EIGHTS, Retrain(), Run())


def test_nan_is_said_and_nothing_is_served(deployment: Deployment) -> None:
    with pytest.raises(ExpungeError, match=r"[Ll]ower the learning rate"):
        deployment.forget(EIGHTS, FineTune(1, 1e30), Run())
    assert not deployment.history.requests()
