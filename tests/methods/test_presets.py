"""Presets keep the model, forget something, and leave the paper's fields alone."""

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from expunge import registry
from expunge.aggregation.sum import Sum
from expunge.audit.kept import LEAST, Kept
from expunge.audit.measure import Measured, Panel, measure
from expunge.benchmarks.generative_methods import GENERATIVE_METHODS
from expunge.benchmarks.language_methods import LANGUAGE_METHODS
from expunge.benchmarks.number_methods import NUMBER_METHODS
from expunge.benchmarks.shipped import digits_classifier_work
from expunge.changes.delta import Delta
from expunge.data.samples import TensorSamples
from expunge.deployment import Deployment
from expunge.errors import AccessError, ExpungeError
from expunge.methods import presets
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.presets import (
    CLIMB,
    FORGETTING,
    RAISED,
    TRAINING,
    AtPreset,
    HasPreset,
    Reach,
    along_neutral,
    climb,
    fields_of,
    forget_loss,
    held_back,
    hold,
    neutral_gradient,
    preset_of,
    takes_classes,
    until_gone,
    weights_norm,
)
from expunge.methods.protocol import Artifact, Method, Outcome
from expunge.methods.random_label import RandomLabel
from expunge.methods.retrain import Retrain
from expunge.methods.scrub import Scrub
from expunge.methods.ssd import SSD
from expunge.models.mlp import digits_classifier
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

CLASS = Request("the threes", Rows("label", ("3",)))
OTHERS = (*LANGUAGE_METHODS, *GENERATIVE_METHODS)
WITHOUT = (
    "acu",
    "certified-removal",
    "guardrail",
    "redact",
    "retrain",
    "s3t",
    "s3t-or-retrain",
    "sisa",
    *OTHERS,
)
"""The first have no field that a model could make wrong; the others are not for classifiers."""

LEAVES = {"fisher-forgetting": 1.0} | dict.fromkeys(
    ("boundary-shrink", "cf-k", "fine-tune", "l1-sparse", "lfssd"), 0.95
)
"""What those leave of a class at most that leave much on this model, which was trained for long."""

REFUSES = ("scrub",)
"""Finds no rate here at which the class goes, and says so."""

ELSEWHERE = (
    "concept-poisoning",
    "concept-poisoning-target",
    "dmm",
    "prune-then-unlearn",
    *NUMBER_METHODS,
)
"""They need examples of concepts, train a thousand models before any request, need a pruned model,
or are for numbers: their presets are tried in tests of their own."""

REGISTERED = [name for name in registry.names("methods") if name not in (*WITHOUT, *ELSEWHERE)]
QUICK = (
    "gradient-difference",
    "l1-sparse-pruned",
    "negation",
    "random-label",
    "salun",
    "salun-soft",
    "ssd",
    "unsir",
)


@pytest.fixture
def deployment(trained: Callable[[int], Deployment]) -> Deployment:
    return trained(0)


def rows(deployment: Deployment, share: float) -> Request:
    ids = deployment.table["id"]
    drawn = torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))
    drawn = drawn[: round(share * len(ids))]
    return Request("some", Rows("id", tuple(str(ids[i]) for i in drawn.tolist())))


def measured(deployment: Deployment, request: Request) -> tuple[Measured, float]:
    """Validation rows, and the accuracy on the forget rows."""
    work, run = digits_classifier_work(), Run()
    panel = Panel.of(work.validation, work.validation_table, [request])
    own = Panel.of_forget_rows(deployment.train, deployment.table, [request])
    family, model = deployment.family, deployment.model
    return measure(family, model, panel, run), float(measure(family, model, own, run).requests[0])


def kept_and_forgotten(
    deployment: Deployment, request: Request, method: Method
) -> tuple[Kept, float, float]:
    before, known = measured(deployment, request)
    deployment.forget(request, AtPreset.of(method), Run())
    after, left = measured(deployment, request)
    return Kept.of(before, after), known, left


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in REGISTERED],
)
def test_a_preset_keeps_the_model_and_forgets_a_class(name: str, deployment: Deployment) -> None:
    method = registry.load("methods", name)()
    if name in REFUSES:
        with pytest.raises(ExpungeError, match="this method does not forget here"):
            kept_and_forgotten(deployment, CLASS, method)
        return
    kept, known, left = kept_and_forgotten(deployment, CLASS, method)
    assert kept.share >= LEAST
    assert left < known * LEAVES.get(name, 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTERED)
def test_a_preset_for_some_rows_goes_past_the_oracle_by_little(
    name: str, trained: Callable[[int], Deployment]
) -> None:
    oracle, deployment = trained(0), trained(0)
    request = rows(oracle, 0.1)
    oracle.forget(request, Retrain(), Run())
    kept, _, left = kept_and_forgotten(deployment, request, registry.load("methods", name)())
    assert kept.share >= LEAST
    assert left >= measured(oracle, request)[1] - 0.1


@pytest.mark.parametrize("name", [*REGISTERED, *ELSEWHERE, *sorted(set(WITHOUT) - set(OTHERS))])
def test_every_method_that_has_fields_has_a_preset_with_a_rule(name: str) -> None:
    kind: Any = registry.load("methods", name)
    assert isinstance(kind(), HasPreset) == (name not in WITHOUT)
    assert isinstance(AtPreset.of(kind()), AtPreset) == (name not in WITHOUT)
    if name not in WITHOUT:
        assert kind.preset_rule


def test_the_same_seed_gives_the_same_fields(deployment: Deployment) -> None:
    problem = deployment.problem(CLASS, RandomLabel())
    found = [preset_of(RandomLabel(), problem, Run(seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert preset_of(Retrain(), problem) == Retrain()


def test_a_rate_leads_as_far_as_the_reach_says(deployment: Deployment) -> None:
    problem, run, steps = deployment.problem(CLASS, RandomLabel()), Run(), 40
    reach = Reach(classes=0.2, rows=0.1)
    rate = reach.sgd_rate(problem, steps, 0.5, run)
    led = rate * steps / (1 - 0.5) * neutral_gradient(problem, run)
    assert led == pytest.approx(0.2 * weights_norm(problem.model))
    numbers = sum(p.numel() for p in problem.model.parameters())
    adam = reach.adam_rate(problem, steps)
    assert adam * steps * numbers**0.5 == pytest.approx(0.2 * weights_norm(problem.model))
    some = replace(problem, request=rows(deployment, 0.1), data={})
    assert reach.adam_rate(some, steps) == pytest.approx(adam / 2)


def test_classes_are_told_from_rows(deployment: Deployment) -> None:
    def asked(request: Request) -> bool:
        method = RandomLabel()
        problem = deployment.problem(request, method)
        return takes_classes(problem.opened(method.unlearns_with))

    assert asked(CLASS)
    assert not asked(rows(deployment, 0.1))
    ids, labels = deployment.table["id"], list(map(str, deployment.table["label"]))
    threes = [str(name) for name, label in zip(ids, labels, strict=True) if label == "3"]
    assert asked(Request("by their ids", Rows("id", tuple(threes))))
    assert not asked(Request("all but one", Rows("id", tuple(threes[1:]))))
    assert not asked(Request("all but one", Rows("id", tuple(threes[1:])), labels=(3,)))


@pytest.mark.parametrize("method", [RandomLabel(), GradientAscent()], ids=lambda m: m.name)
def test_labels_decide_before_the_name_of_the_column(
    method: Method, deployment: Deployment
) -> None:
    """Threes among the odd numbers: the column "label" names a part of a class. Gradient ascent
    reads the labels of the forget rows alone."""

    def asked(request: Request) -> bool:
        problem = deployment.problem(request, method)
        return takes_classes(problem.opened(method.unlearns_with))

    assert asked(CLASS)
    train: Any = deployment.train
    odd = train.columns["label"] % 2
    deployment.train = train.with_column("label", odd)
    assert not asked(CLASS)
    both = Request("all odd numbers", Rows("label", tuple("13579")), labels=(1,))
    assert asked(both)


def test_a_preset_sees_no_more_than_the_method(deployment: Deployment) -> None:
    class Curious(GradientAscent):
        def for_problem(self, problem: Any, run: Run) -> "Curious":
            problem.data[Role.RETAIN].batch(torch.tensor([0]))
            return self

    with pytest.raises(AccessError, match="touched the retain set"):
        preset_of(Curious(), deployment.problem(CLASS, Curious()))
    assert AtPreset(GradientAscent()).unlearns_with.describe() == "forget"
    assert AtPreset(SSD()).unlearns_with.describe() == "forget, train (ids)"


def test_each_request_has_its_own_fields_and_they_are_stored_with_the_change(
    deployment: Deployment,
) -> None:
    def used(request: Request) -> Mapping[str, Any]:
        [change] = deployment.forget(request, AtPreset(SSD()), Run()).changes
        assert isinstance(change, Delta)
        found: Mapping[str, Any] = json.loads(json.dumps(change.facts["preset"]))
        return found

    few = rows(deployment, 0.01)
    assert used(CLASS)["alpha"] < SSD().alpha
    assert used(few) == fields_of(SSD())


def test_given_fields_stay(deployment: Deployment) -> None:
    method = AtPreset.of(RandomLabel(momentum=0.5), ["momentum"])
    [change] = deployment.forget(CLASS, method, Run()).changes
    assert isinstance(change, Delta)
    found: Any = change.facts["preset"]
    assert found["momentum"] == 0.5
    assert found["learning_rate"] != RandomLabel().learning_rate


def test_steps_are_not_given_without_their_rate() -> None:
    with pytest.raises(ExpungeError, match="epochs of random-label was given beside its preset"):
        AtPreset.of(RandomLabel(epochs=1), ["epochs"])
    AtPreset.of(RandomLabel(epochs=1), ["epochs", "learning_rate"])


def test_one_row_is_no_class(deployment: Deployment) -> None:
    """SCRUB tries its rates beside as many retain rows as forget rows: these say nothing of what
    the request takes."""
    one = Request("one", Rows("id", (str(deployment.table["id"][0]),)))
    problem = deployment.problem(one, Scrub())
    assert not takes_classes(problem)
    assert preset_of(Scrub(), problem) != Scrub()


def test_a_climb_goes_no_further_than_what_stays_finite(deployment: Deployment) -> None:
    """Where the classes stay and nothing is lost, the rate is that of the reach, unless a smaller
    one was too much already."""
    problem = deployment.problem(rows(deployment, 0.01), GradientAscent())

    def model(factor: float) -> torch.nn.Module:
        if factor > 0.3:
            raise ExpungeError("no longer finite")
        return problem.model

    assert climb(model, Reach(2.0, 0.5), problem, Run()) == max(f for f in CLIMB if f <= 0.3)
    assert climb(lambda _: problem.model, Reach(2.0, 0.5), problem, Run()) == 1.0


def test_a_climb_finds_the_smallest_factor_in_few_tries(deployment: Deployment) -> None:
    problem = deployment.problem(CLASS, GradientAscent())
    wrong = copy.deepcopy(problem.model)
    with torch.no_grad():
        for parameter in list(wrong.parameters())[-2:]:
            parameter.mul_(-1)  # what was sure is now surely another class
    for enough in CLIMB:
        tried: list[float] = []

        def model(factor: float, enough: float = enough, tried: list[float] = tried) -> nn.Module:
            tried.append(factor)
            return wrong if factor >= enough else problem.model

        assert climb(model, Reach(2.0, 0.5), problem, Run()) == enough
        assert len(tried) <= 4


def test_a_rate_that_loses_the_retain_rows_is_held_back(deployment: Deployment) -> None:
    problem = deployment.problem(CLASS, FineTune())
    wild = FineTune(epochs=1, learning_rate=0.3)
    held = held_back(wild, ("learning_rate",), problem, Run(), TRAINING)
    assert held.learning_rate < wild.learning_rate
    with pytest.raises(ExpungeError, match="keeps the model at no rate that was tried"):
        hold(lambda _: digits_classifier(seed=7), "fine-tune", problem, Run(), TRAINING)


def test_the_rate_that_was_climbed_to_is_not_answered_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its model keeps the retain rows is asked of the model that the climb ended with."""
    asked: list[float] = []
    unlearn = GradientDifference.unlearn

    def counted(method: GradientDifference, *given: Any) -> Outcome:
        asked.append(method.learning_rate)
        return unlearn(method, *given)

    monkeypatch.setattr(GradientDifference, "unlearn", counted)
    problem = deployment.problem(CLASS, GradientDifference())
    found = GradientDifference().for_problem(problem, Run())
    assert found.learning_rate in asked and len(asked) == len(set(asked))
    held = held_back(found, ("learning_rate",), problem, Run(), FORGETTING)
    assert held == found and asked.count(found.learning_rate) == 2


def test_a_rate_at_which_the_class_stays_is_raised_until_it_goes(deployment: Deployment) -> None:
    """How far a gradient leads depends on the network; that the class went is seen."""
    problem = deployment.problem(CLASS, RandomLabel())

    def loss(method: RandomLabel) -> float:
        outcome = method.unlearn(problem.opened(method.unlearns_with), Artifact(), Run())
        return forget_loss(problem, outcome.applied_to(problem.model), Run())

    guessing, short = math.log(10), Reach(0.01, 0.1)
    stays = along_neutral(RandomLabel(), short, problem, Run())
    goes = until_gone(RandomLabel(), short, problem, Run())
    assert loss(stays) < guessing <= loss(goes)
    factor = goes.learning_rate / stays.learning_rate
    place = min(range(len(RAISED)), key=lambda i: abs(RAISED[i] - factor))
    assert factor == pytest.approx(RAISED[place])
    less = (1.0, *RAISED)[place]
    assert loss(replace(goes, learning_rate=less * stays.learning_rate)) < guessing


def test_a_raised_rate_that_loses_the_rest_ends_no_lower_than_it_began(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held back from where the class goes, it would otherwise forget less than without raising."""
    problem = deployment.problem(CLASS, RandomLabel())
    short = Reach(0.01, 0.1)
    first = along_neutral(RandomLabel(), short, problem, Run())

    def hold_at_last(*given: Any, **named: Any) -> float:
        return 0.03

    monkeypatch.setattr(presets, "hold", hold_at_last)
    held = until_gone(RandomLabel(), short, problem, Run())
    assert held.learning_rate == pytest.approx(0.03 * first.learning_rate)  # as without raising

    def hold_a_little(*given: Any, **named: Any) -> float:
        return 0.7

    monkeypatch.setattr(presets, "hold", hold_a_little)
    held = until_gone(RandomLabel(), short, problem, Run())
    assert held.learning_rate > first.learning_rate


def test_a_model_that_does_not_know_the_class_has_no_rate_to_raise(
    deployment: Deployment,
) -> None:
    wrong = copy.deepcopy(deployment.model)
    with torch.no_grad():
        list(wrong.parameters())[-1][3] -= 100  # nothing is a three any more
    problem = replace(deployment.problem(CLASS, RandomLabel()), model=wrong)
    assert forget_loss(problem, wrong, Run()) > math.log(10)
    short = Reach(0.01, 0.1)
    assert until_gone(RandomLabel(), short, problem, Run()) == along_neutral(
        RandomLabel(), short, problem, Run()
    )


def test_a_rate_at_which_the_class_goes_stays(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = deployment.problem(CLASS, RandomLabel())
    assert (found := until_gone(RandomLabel(), Reach(0.4, 0.1), problem, Run())) == along_neutral(
        RandomLabel(), Reach(0.4, 0.1), problem, Run()
    )
    asked: list[float] = []
    unlearn = RandomLabel.unlearn

    def counted(method: RandomLabel, *given: Any) -> Outcome:
        asked.append(method.learning_rate)
        return unlearn(method, *given)

    monkeypatch.setattr(RandomLabel, "unlearn", counted)
    until_gone(RandomLabel(), Reach(0.4, 0.1), problem, Run())
    assert asked == [found.learning_rate]  # the one try says both what goes and what stays


def test_a_rate_for_rows_is_not_raised(deployment: Deployment) -> None:
    """Their classes stay, and a model that never saw them still answers most."""
    problem = deployment.problem(rows(deployment, 0.01), RandomLabel())
    short = Reach(0.01, 0.001)
    assert until_gone(RandomLabel(), short, problem, Run()) == along_neutral(
        RandomLabel(), short, problem, Run()
    )


def test_a_class_that_goes_at_no_raised_rate_is_refused(deployment: Deployment) -> None:
    problem = deployment.problem(CLASS, RandomLabel())
    with pytest.raises(ExpungeError, match="does not forget here"):
        until_gone(RandomLabel(), Reach(1e-5, 0.1), problem, Run())


def test_what_cannot_be_run_at_any_rate_says_why(deployment: Deployment) -> None:
    problem = deployment.problem(CLASS, FineTune())

    def model(share: float) -> nn.Module:
        raise ExpungeError("these rows have no pictures")

    with pytest.raises(ExpungeError, match="these rows have no pictures"):
        hold(model, "unsir", problem, Run(), FORGETTING)


@pytest.mark.parametrize("name", ["salun", "random-label-mixed", "scrub", "boundary-shrink"])
def test_a_preset_says_that_forget_rows_lack_labels(name: str) -> None:
    kind = registry.load("methods", name)
    work = digits_classifier_work()
    deployment = Deployment(
        digits_classifier(0), work.recipe.family, work.data[Role.TRAIN], work.table, Sum()
    )
    problem = deployment.problem(CLASS, kind())
    forget = problem.data[Role.FORGET]
    assert isinstance(forget, TensorSamples)
    images = TensorSamples(forget.ids, forget.subjects, {"image": forget.columns["image"]})
    unlabelled = replace(problem, data={**problem.data, Role.FORGET: images})
    with pytest.raises(ExpungeError, match=r"field 'label'"):
        preset_of(kind(), unlabelled, Run())


def test_a_climb_that_reaches_nothing_is_refused(deployment: Deployment) -> None:
    problem = deployment.problem(CLASS, GradientAscent())
    problem = replace(problem, model=_muted())
    with pytest.raises(ExpungeError, match=r"does not forget here.*give its fields"):
        preset_of(GradientAscent(), problem)


def _muted() -> torch.nn.Module:
    """The model with one weight that moves and reaches nothing, and an answer that is sure."""

    class Muted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unheard = torch.nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sure = torch.zeros(len(images), 10)
            sure[:, 3] = 9.0
            return sure + 0.0 * self.unheard

    return Muted()
