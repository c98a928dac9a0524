"""Relearning on the digits: suppressed knowledge comes back sooner than an oracle learns it."""

import copy

import pytest
import torch
from torch import Tensor, nn

from expunge.attacks import Relearning
from expunge.attacks.relearning import relearning_curve
from expunge.benchmarks.shipped import Work
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples, TensorSamples
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run
from expunge.signals import mean_loss
from expunge.signals.ask import ask

FORGOTTEN, SHOWN, LEVEL = 3, 8, 0.9


class Lowered(nn.Module):
    """A guard that subtracts from one logit."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.guarded = model
        self.register_buffer("lowered", 20.0 * nn.functional.one_hot(torch.tensor(FORGOTTEN), 10))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.guarded(images) - self.lowered
        return logits


class Refusing(nn.Module):
    """A guard that never answers with one class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.guarded = model

    def forward(self, images: Tensor) -> Tensor:
        column = torch.full((len(images),), FORGOTTEN)
        logits: Tensor = self.guarded(images)
        return logits.scatter(1, column.unsqueeze(1), float("-inf"))


@pytest.fixture(scope="module")
def labels(digits_work: Work) -> Tensor:
    train = digits_work.data[Role.TRAIN]
    return train.batch(torch.arange(len(train)), {"label"})["label"]


@pytest.fixture(scope="module")
def forgotten(digits_work: Work, labels: Tensor) -> Samples:
    return digits_work.data[Role.TRAIN].select((labels == FORGOTTEN).nonzero().reshape(-1))


@pytest.fixture(scope="module")
def shown(forgotten: Samples) -> Samples:
    return forgotten.select(torch.arange(SHOWN))


@pytest.fixture(scope="module")
def asked(forgotten: Samples) -> Samples:
    return forgotten.select(torch.arange(SHOWN, len(forgotten)))


@pytest.fixture(scope="module")
def oracle(digits_work: Work, labels: Tensor) -> nn.Module:
    kept = digits_work.data[Role.TRAIN].select((labels != FORGOTTEN).nonzero().reshape(-1))
    return digits_work.recipe.make({Role.TRAIN: kept}, Run()).model


def with_lowered_bias(model: nn.Module) -> nn.Module:
    lowered = copy.deepcopy(model)
    with torch.no_grad():
        list(lowered.parameters())[-1][FORGOTTEN] -= 20
    return lowered


def steps_to_level(curve: tuple[float, ...]) -> int:
    return next(step for step, score in enumerate(curve) if score >= LEVEL)


FAMILY = Classifier(classes=10)


@pytest.mark.parametrize("suppressed", [Lowered, with_lowered_bias])
def test_a_suppressed_class_is_back_in_fewer_steps_than_the_oracle_takes(
    suppressed: type[nn.Module],
    digits_model: nn.Module,
    oracle: nn.Module,
    shown: Samples,
    asked: Samples,
) -> None:
    attack = Relearning()
    knows = attack.curve(suppressed(copy.deepcopy(digits_model)), FAMILY, shown, asked, Run())
    learns = attack.curve(oracle, FAMILY, shown, asked, Run())
    assert knows[0] == learns[0] == 0
    assert steps_to_level(knows) < 0.7 * steps_to_level(learns)


def test_the_oracle_does_not_learn_the_class_from_unrelated_rows(
    oracle: nn.Module, digits_work: Work, labels: Tensor, forgotten: Samples
) -> None:
    others = digits_work.data[Role.TRAIN].select((labels != FORGOTTEN).nonzero()[:100, 0])
    assert set(Relearning().curve(oracle, FAMILY, others, forgotten, Run())) == {0.0}


def test_a_seed_fixes_the_curve_which_has_a_value_before_and_after_every_step(
    oracle: nn.Module, shown: Samples, asked: Samples
) -> None:
    attack = Relearning(steps=30, batch_size=2)
    first = attack.curve(oracle, FAMILY, shown, asked, Run(1))
    assert len(first) == 31
    assert attack.curve(oracle, FAMILY, shown, asked, Run(1)) == first
    assert attack.curve(oracle, FAMILY, shown, asked, Run(2)) != first


def test_the_attacked_model_stays_as_it_is(
    oracle: nn.Module, shown: Samples, asked: Samples
) -> None:
    before, training = digest_of(oracle), oracle.training
    Relearning(steps=2).curve(oracle, FAMILY, shown, asked, Run())
    assert (digest_of(oracle), oracle.training) == (before, training)


def pulled_to_four() -> tuple[nn.Module, Samples, Samples]:
    """A weight 0 that SGD(.125) moves to 1 and 1.75: the gradient of (w - 4)^2 is -8, then -6; the
    row that is shown, and one that is asked."""
    rows = TensorSamples(
        ["a", "b"], ["s", "s"], {"image": torch.ones(2, 1), "target": torch.tensor([4.0, 4.0])}
    )
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0)
    return model, rows.select(torch.tensor([0])), rows.select(torch.tensor([1]))


def test_numbers_are_scored_by_minus_the_mean_absolute_error() -> None:
    model, shown, asked = pulled_to_four()
    found = Relearning(2, 1, SGD(0.125)).curve(model, Regressor(), shown, asked, Run())
    assert found == (-4, -3, -2.25)


def test_anything_can_be_looked_at_on_the_way() -> None:
    def weight(model: nn.Module) -> float:
        return float(next(model.parameters()).detach())

    model, shown, _ = pulled_to_four()
    attack = Relearning(2, 1, SGD(0.125))
    assert attack.followed(model, Regressor(), shown, weight, Run()) == [0, 1, 1.75]


def test_nothing_to_show_or_ask_rows_that_are_both_and_no_steps_are_refused(
    oracle: nn.Module, shown: Samples, asked: Samples
) -> None:
    none = shown.select(torch.tensor([], dtype=torch.int64))
    for a, b in ((none, asked), (shown, none)):
        with pytest.raises(ExpungeError, match="at least one of each"):
            Relearning().curve(oracle, FAMILY, a, b, Run())
    with pytest.raises(ExpungeError, match="would show 8 of the 8 rows"):
        Relearning().curve(oracle, FAMILY, shown, shown, Run())
    with pytest.raises(ExpungeError, match="0 steps"):
        Relearning(steps=0)


def test_a_guard_that_answers_minus_infinity_cannot_be_trained_through(
    digits_model: nn.Module, shown: Samples, asked: Samples
) -> None:
    with pytest.raises(ExpungeError, match="finite"):
        Relearning(steps=2).curve(Refusing(digits_model), FAMILY, shown, asked, Run())


def test_one_pass_measures_what_descents_of_every_length_would(digits_work: Work) -> None:
    threes = digits_work.table["label"]
    shown = [place for place, label in enumerate(threes) if label == 3][:40]
    rows = digits_work.data[Role.TRAIN].select(torch.tensor(shown))
    family, builder = digits_work.recipe.family, digits_work.recipe.builder

    def measure(model: nn.Module) -> float:
        return float(mean_loss(ask(family, model, rows, Run()))[0])

    def descent(steps: int) -> Descent:
        player = Player(forget=Loss(), optimiser=AdamW(1e-3))
        return Descent(player, length=Steps(steps), batch_size=16)

    problem = Problem(builder(1), family, NO_REQUEST, {Role.FORGET: rows}, History())
    curve = relearning_curve(descent(5), problem, measure, Run(3))
    anew = [descent(steps).minimise(problem, Run(3), "relearning").model for steps in range(1, 6)]
    assert curve == [measure(problem.model), *map(measure, anew)]
    assert curve[-1] < curve[0]
