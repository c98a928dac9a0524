"""Facts about unlearning on pruned models: zeros stay zeros, the reference has the same mask."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work
from expunge.changes.delta import Delta
from expunge.changes.kinds import Change, Replacement
from expunge.changes.weights import digest_of, parameters_of, with_weights
from expunge.deployment import Deployment
from expunge.descent.length import Epochs
from expunge.descent.loop import Descended, Descent
from expunge.descent.optimisers import SGD, AdamW
from expunge.descent.player import Parameters, Player
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import Saliency
from expunge.errors import AccessError, ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.magnitude_pruned import MagnitudePruned
from expunge.learning.supervised.masks import (
    Matrices,
    all_kept,
    masks_of,
    record_of,
    strays,
)
from expunge.learning.supervised.plain import Plain
from expunge.learning.supervised.same_mask import SameMask
from expunge.learning.supervised.synflow import SynFlow
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.eu_k import EuK
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.protocol import Artifact, ByDescent, Method, Outcome, unlearn
from expunge.methods.prune_then_unlearn import PruneThenUnlearn
from expunge.methods.retrain import Retrain
from expunge.methods.salun import SalUn
from expunge.methods.salun_soft import SalUnSoft
from expunge.methods.unsir import Unsir
from expunge.models.mlp import Mlp
from expunge.models.resnet import ResNet18
from expunge.problem import Access, Problem
from expunge.recipe import Learner, Recipe, Record, Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
TRAINING = Plain(3, 128, SGD(0.05, 0.9, weight_decay=5e-4))


def mlp(seed: int) -> nn.Module:
    return Mlp(torch.Generator().manual_seed(seed), (64, 128, 64, 10))


def resnet(seed: int) -> nn.Module:
    return ResNet18(torch.Generator().manual_seed(seed), 4, 1)


LEARNERS: dict[str, tuple[Callable[[int], nn.Module], Learner]] = {
    "mlp": (mlp, MagnitudePruned(TRAINING, 0.9, 1, 1, Matrices())),
    "resnet": (resnet, SynFlow(Plain(1, 256, AdamW(1e-3)), 0.5, 2)),
}


@pytest.fixture(scope="module")
def deployments(digits_work: Work) -> Callable[[str], Deployment]:
    """A pruned model in use, by the name of its network."""

    @cache
    def deployment(network: str) -> Deployment:
        builder, learner = LEARNERS[network]
        return deployed(digits_work, Recipe(builder, Classifier(classes=10), learner, 0))

    return deployment


@pytest.fixture
def problem(deployments: Callable[[str], Deployment]) -> Problem:
    return deployments("mlp").problem(THREES, FineTune())


def deployed(work: Work, recipe: Recipe) -> Deployment:
    trained = recipe.make(work.data, Run())
    rows, table = work.data[Role.TRAIN], work.table
    return Deployment(
        trained.model, recipe.family, rows, table, Sum(), recipe=recipe, record=trained.record
    )


def after(method: Method, problem: Problem, seed: int = 0) -> nn.Module:
    [change] = unlearn(method, problem, Run(seed)).changes
    assert isinstance(change, Delta | Replacement)
    return change.applied_to(problem.model)


@dataclass(frozen=True)
class Heavy(ByDescent):
    """Fine-tuning whose momentum and decay move whatever they can."""

    name: ClassVar[str] = "heavy"
    paper: ClassVar[str] = "none"

    learning_rate: float = 0.05
    epochs: int = 1
    momentum: float = 0.9
    weight_decay: float = 0.1
    parameters: Parameters | None = None
    sequential: bool = False

    def descent(self) -> Descent:
        player = Player(
            forget=None if self.parameters is None else Loss(0.5),  # saliency reads the forget set
            retain=Loss(),
            optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
        )
        if self.parameters is not None:
            player = replace(player, parameters=self.parameters)
        return Descent(player, length=Epochs(self.epochs, of=Role.RETAIN), batch_size=64)


METHODS: dict[str, Method] = {
    "fine-tune": FineTune(1, 1e-2, weight_decay=0.1),
    "gradient-ascent": GradientAscent(1, 1e-3),
    "gradient-difference": GradientDifference(1, 1e-3),
    "negation": Negation(1, 1e-3),
    "heavy": Heavy(),
    "heavy, sequential": Heavy(sequential=True),
    "salient": Heavy(parameters=Saliency(0.5)),
}


@pytest.mark.parametrize("network", LEARNERS)
@pytest.mark.parametrize("name", METHODS)
def test_zeros_stay_zeros_and_the_rest_moves(
    name: str, network: str, deployments: Callable[[str], Deployment]
) -> None:
    problem = deployments(network).problem(THREES, METHODS[name])
    masks = masks_of(problem.record)
    changed = after(PruneThenUnlearn(METHODS[name]), problem)
    assert strays(problem.model, masks) == strays(changed, masks) == 0
    moved = parameters_of(changed)
    assert any(not torch.equal(moved[n], p) for n, p in parameters_of(problem.model).items())


@pytest.mark.parametrize("name", ["fine-tune", "heavy"])
def test_without_the_mask_the_same_method_fills_the_zeros(name: str, problem: Problem) -> None:
    assert strays(after(METHODS[name], problem), masks_of(problem.record)) > 1000


def test_gradients_are_masked_in_every_step_not_only_at_the_end(problem: Problem) -> None:
    held = after(PruneThenUnlearn(METHODS["heavy"]), problem)
    masks, free = masks_of(problem.record), after(METHODS["heavy"], problem)
    kept = {n: parameters_of(free)[n][masks[n]] for n in masks}
    assert any(not torch.equal(parameters_of(held)[n][masks[n]], kept[n]) for n in masks)


SEVERAL: dict[str, Method] = {
    "unsir": Unsir(noise_steps=4, impair_learning_rate=1e-2, repair_learning_rate=1e-2),
    "eu-k": EuK(1, 1, 0.1),
    "bad-teacher": BadTeacher(1, 1e-3),
    "boundary-expand": BoundaryExpand(2, 1e-3),
    "negation": Negation(1, 1e-3),
    "salun-soft": SalUnSoft(epochs=1, batch_size=64, weight_decay=0.1),
    "salun, as published": SalUn(epochs=1, batch_size=64, weight_decay=0.1, as_published=True),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_no_step_of_any_descent_of_a_method_regrows_a_weight(
    name: str, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, counts, minimise = masks_of(problem.record), [], Descent.minimise

    def watched(self: Descent, asked: Problem, run: Run, name: str = "descent") -> Descended:
        def look(step: int, model: nn.Module) -> None:
            weights = parameters_of(model)
            counts.append(
                sum(int(weights[n][: len(m)][~m].count_nonzero()) for n, m in masks.items())
            )

        return minimise(self, asked, run, name, each=look)

    monkeypatch.setattr(Descent, "minimise", watched)
    after(PruneThenUnlearn(SEVERAL[name]), problem)
    assert counts
    assert not any(counts)
    counts.clear()
    after(SEVERAL[name], problem)
    assert any(counts)  # without the support some step does


@pytest.mark.parametrize("name", METHODS)
def test_a_mask_of_ones_changes_no_bit(
    name: str, digits_work: Work, digits_model: nn.Module
) -> None:
    rows, family = digits_work.data[Role.TRAIN], digits_work.recipe.family
    record = record_of(all_kept(digits_model, Matrices()), "synflow")
    deployment = Deployment(digits_model, family, rows, digits_work.table, Sum(), record=record)
    problem = deployment.problem(THREES, METHODS[name])
    both = METHODS[name], PruneThenUnlearn(METHODS[name])
    assert len({digest_of(after(method, problem, 1)) for method in both}) == 1


def test_retraining_is_of_the_same_sparse_model(problem: Problem) -> None:
    masks, recipe = masks_of(problem.record), problem.recipe
    assert recipe is not None
    outcome = unlearn(PruneThenUnlearn(Retrain()), problem, Run())
    [change] = outcome.changes
    assert isinstance(change, Replacement)
    again = SameMask(TRAINING, masks, "magnitude-pruned").fit(
        recipe.builder(0), recipe.family, {Role.TRAIN: problem.data[Role.RETAIN]}, Run()
    )
    assert digest_of(change.applied_to(problem.model)) == digest_of(again.model)
    kept = masks_of(outcome.record)
    assert all(torch.equal(kept[n], masks[n]) for n in masks)
    dense = unlearn(Retrain(), problem, Run()).record  # prunes anew, on the retain set
    assert any(not torch.equal(masks_of(dense)[n], masks[n]) for n in masks)


def test_untrained_models_of_the_recipe_are_sparse_too(problem: Problem) -> None:
    """Such as the fresh blocks of EU-k and the teacher of Bad-T."""
    masks = masks_of(problem.record)

    @dataclass(frozen=True)
    class Fresh(Everywhere):
        unlearns_with: ClassVar[Access] = Access(recipe=True)

        def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
            assert problem.recipe is not None
            untrained = problem.recipe.builder(1)
            assert strays(untrained, masks) == 0
            return Outcome((Replacement.of(untrained, problem.model),))

    fresh = after(PruneThenUnlearn(Fresh()), problem)
    name, mask = next(iter(masks.items()))
    assert torch.equal(parameters_of(fresh)[name], parameters_of(mlp(1))[name] * mask)


def test_requests_follow_one_another_on_the_sparse_model(
    deployments: Callable[[str], Deployment],
) -> None:
    first = deployments("mlp")
    deployment = Deployment(
        first.base, first.family, first.train, first.table, Sum(), record=first.record
    )
    for digit in ("3", "8"):
        request = Request(f"digit {digit}", Rows("label", (digit,)))
        deployment.forget(request, PruneThenUnlearn(FineTune(1, 1e-3)), Run())
    assert strays(deployment.model, masks_of(deployment.record)) == 0
    assert len(deployment.history.requests()) == 2


@dataclass(frozen=True)
class Everywhere:
    """A method without gradients that moves every weight."""

    name: ClassVar[str] = "everywhere"
    paper: ClassVar[str] = "none"
    needs: ClassVar[tuple[type, ...]] = ()
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access()
    sequential: bool = False

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        weights = {n: p.detach() + 1 for n, p in parameters_of(problem.model).items()}
        moved = with_weights(problem.model, weights)
        change: Change = Delta.between(moved, problem.model, method=self.name)
        if self.sequential:
            change = Replacement.of(moved, problem.model, method=self.name)
        return Outcome((change,))


@pytest.mark.parametrize("sequential", [False, True])
def test_the_change_of_any_other_method_is_cut_to_the_mask(
    sequential: bool, problem: Problem
) -> None:
    [change] = unlearn(PruneThenUnlearn(Everywhere(sequential)), problem, Run()).changes
    assert isinstance(change, Delta | Replacement)
    assert change.facts["method"] == "everywhere"
    masks, before = masks_of(problem.record), parameters_of(problem.model)
    for name, weight in parameters_of(change.applied_to(problem.model)).items():
        moves: Tensor = masks.get(name, torch.tensor(True))
        assert torch.allclose(weight, before[name] + moves.float(), atol=1e-6)


def test_the_inner_method_sees_what_it_declares_and_nothing_else(problem: Problem) -> None:
    @dataclass(frozen=True)
    class Curious(Everywhere):
        def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
            assert problem.record is None
            assert problem.recipe is None
            problem.data[Role.FORGET].batch(torch.tensor([0]))
            return Outcome(())

    method = PruneThenUnlearn(Curious())
    assert method.unlearns_with.describe() == "record"
    assert PruneThenUnlearn().unlearns_with.describe() == "retain, record"
    with pytest.raises(AccessError, match="forget set"):
        unlearn(method, problem, Run())


# ---- bad input ----


def test_a_model_without_masks_is_refused(problem: Problem) -> None:
    with pytest.raises(ExpungeError, match="needs the training record"):
        unlearn(PruneThenUnlearn(), replace(problem, record=None), Run())
    with pytest.raises(ExpungeError, match="holds no masks"):
        unlearn(PruneThenUnlearn(), replace(problem, record=Record()), Run())


def test_the_record_of_another_model_is_refused(problem: Problem) -> None:
    with pytest.raises(ExpungeError, match=r"weights of this model are not 0 though"):
        unlearn(PruneThenUnlearn(), replace(problem, model=mlp(0)), Run())
    other = nn.Sequential(nn.Linear(64, 10))
    with pytest.raises(ExpungeError, match=r"layers.1.weight.*does not have"):
        unlearn(PruneThenUnlearn(), replace(problem, model=other), Run())


def test_a_recipe_that_prunes_nothing_cannot_retrain_the_sparse_model(problem: Problem) -> None:
    assert problem.recipe is not None
    dense = replace(problem, recipe=replace(problem.recipe, learner=TRAINING))
    with pytest.raises(ExpungeError, match="Plain, which prunes nothing"):
        unlearn(PruneThenUnlearn(Retrain()), dense, Run())


def test_a_guard_has_no_weights_to_hold(problem: Problem) -> None:
    @dataclass(frozen=True)
    class Guarding(Everywhere):
        def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
            return Outcome((object(),))  # type: ignore[arg-type]

    with pytest.raises(ExpungeError, match="no weights that a mask could hold"):
        unlearn(PruneThenUnlearn(Guarding()), problem, Run())


# ---- the small check of the card ----


def gain(work: Work, learner: Learner, method: Method, seed: int) -> float:
    """Points of forget accuracy that unlearning the threes takes from its own original."""
    deployment = deployed(work, Recipe(mlp, Classifier(classes=10), learner, seed))
    problem = deployment.problem(THREES, method)
    levels = [
        float(accuracy(ask(problem.family, m, problem.data[Role.FORGET], Run()))[0])
        for m in (problem.model, after(method, problem, seed))
    ]
    return 100 * (levels[0] - levels[1])


@pytest.mark.slow
def test_fine_tuning_forgets_more_on_a_sparse_model(digits_work: Work) -> None:
    """The gap to retraining (100 points here) shrinks with sparsity; 5 seeds, SGD at 0.01."""
    work, training = digits_work, Plain(40, 64, SGD(0.05, 0.9, weight_decay=5e-4))
    tuned = Heavy(0.01, 10, weight_decay=5e-4)
    seeds = range(5)
    dense = sum(gain(work, training, tuned, seed) for seed in seeds) / len(seeds)
    omp = MagnitudePruned(training, 0.95, 1, 0, Matrices())
    sparse = sum(gain(work, omp, PruneThenUnlearn(tuned), seed) for seed in seeds) / len(seeds)
    assert sparse > 1.4 * dense
