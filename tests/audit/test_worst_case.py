"""Worst-case forget sets: the projection, and what searches and baselines find on real digits."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from expunge.audit.worst_case import (
    AS_RELEASED,
    BY_GROUP,
    CrossFitted,
    Difficulty,
    Goal,
    RandomStart,
    Raw,
    Searched,
    UnitMaximum,
    WorstCase,
    groups_of,
    largest,
    projected,
    random_choice,
    row_losses,
)
from expunge.benchmarks.shipped import Work
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SignSGD
from expunge.descent.player import On, Player
from expunge.descent.weighted import WeightedLoss
from expunge.errors import ExpungeError
from expunge.families.from_logits import other_labels
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

BUDGET = 108  # a tenth of the digits


@dataclasses.dataclass(frozen=True, eq=False)
class Noisy:
    """The digits with 5 % wrong labels, and a model of them."""

    recipe: Recipe
    train: TensorSamples
    wrong: Tensor
    model: nn.Module

    def searched(self, search: WorstCase) -> Searched:
        return search.search(self.model, self.recipe.family, self.train, BUDGET, Run())

    def retrained_wrong(self, chosen: Tensor) -> float:
        found = Difficulty.of(self.recipe, self.model, self.train, chosen, Run())
        assert found.retrained_wrong is not None
        return found.retrained_wrong

    def noise(self, chosen: Tensor) -> float:
        return float(self.wrong[chosen].double().mean())


@pytest.fixture(scope="module")
def noisy(digits_work: Work) -> Noisy:
    clean = digits_work.data[Role.TRAIN]
    assert isinstance(clean, TensorSamples)
    generator = torch.Generator().manual_seed(0)
    wrong = torch.zeros(len(clean), dtype=torch.bool)
    wrong[torch.randperm(len(clean), generator=generator)[:54]] = True
    labels = clean.columns["label"]
    labels = torch.where(wrong, other_labels(labels, 10, generator), labels)
    train = clean.with_column("label", labels)
    model = digits_work.recipe.make({Role.TRAIN: train}, Run()).model
    return Noisy(digits_work.recipe, train, wrong, model)


@pytest.fixture(scope="module")
def worst(noisy: Noisy) -> Searched:
    return noisy.searched(WorstCase())


# ---- the projection ----


@pytest.mark.parametrize("budget", [1, 30, 299])
@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e4])
def test_the_projection_has_entries_from_0_to_1_and_the_sum_that_was_asked_for(
    budget: int, spread: float
) -> None:
    weights = spread * torch.randn(300, generator=torch.Generator().manual_seed(budget))
    found = projected(weights, budget)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert abs(float(found.sum()) - budget) < 1e-3 * budget


def test_the_projection_is_the_nearest_point() -> None:
    generator = torch.Generator().manual_seed(1)
    weights = 2 * torch.randn(20, dtype=torch.float64, generator=generator)
    found = projected(weights, 7)
    for _ in range(50):
        other = projected(found + torch.randn(20, generator=generator), 7)
        assert float((weights - found).norm()) <= float((weights - other).norm()) + 1e-4
    torch.testing.assert_close(projected(found, 7), found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("budget", [-1, 4])
def test_a_budget_that_no_weights_reach_is_refused(budget: int) -> None:
    with pytest.raises(ExpungeError, match="from 0 to their number"):
        projected(torch.zeros(3), budget)


def test_of_equal_scores_the_first_are_chosen() -> None:
    assert largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 2).tolist() == [0, 1]


# ---- the lower level ----


def test_a_step_of_sign_sgd_moves_every_weight_by_the_rate_and_rows_of_weight_0_do_not_count(
    noisy: Noisy,
) -> None:
    rows = noisy.train.select(torch.arange(8))
    weights = (1.0,) * 4 + (0.0,) * 4

    def stepped(samples: TensorSamples, weights: tuple[float, ...]) -> nn.Module:
        descent = Descent(
            Player(others={"rows": On(Role.TRAIN, WeightedLoss(weights))}, optimiser=SignSGD(1e-3)),
            length=Steps(1),
        )
        data = {Role.TRAIN: samples}
        problem = Problem(noisy.model, noisy.recipe.family, NO_REQUEST, data, History())
        return descent.minimise(problem, Run()).model

    model = stepped(rows, weights)
    for before, after in zip(noisy.model.parameters(), model.parameters(), strict=True):
        moved = (after - before).abs()
        assert bool(((moved - 1e-3).abs().lt(1e-6) | (moved == 0)).all())
    relabelled = rows.columns["label"].clone()
    relabelled[4:] = (relabelled[4:] + 1) % 10
    other = stepped(rows.with_column("label", relabelled), weights)
    assert digest_of(other) == digest_of(model)
    with pytest.raises(ExpungeError, match="3 weights were given for 8 rows"):
        stepped(rows, (1.0, 1.0, 1.0))


# ---- what is found ----


def test_a_retrained_model_answers_the_worst_case_and_fails_on_random_rows(
    noisy: Noisy, worst: Searched
) -> None:
    assert noisy.retrained_wrong(worst.chosen) < 0.01
    assert noisy.retrained_wrong(random_choice(len(noisy.train), BUDGET, Run())) > 0.05
    assert noisy.noise(worst.chosen) < 0.01
    assert worst.end < worst.start


def test_every_step_of_the_search_stays_within_the_budget(worst: Searched, noisy: Noisy) -> None:
    assert worst.history.shape == (1 + WorstCase().iterations, len(noisy.train))
    assert float(worst.history.min()) >= 0
    assert float(worst.history.max()) <= 1
    assert bool(((worst.history.sum(1) - BUDGET).abs() < 1e-3 * BUDGET).all())
    assert len(set(worst.chosen.tolist())) == BUDGET
    assert set(largest(worst.difficulty, BUDGET).tolist()) == set(worst.chosen.tolist())


def test_the_easiest_rows_are_those_that_a_retrained_model_cannot_guess(noisy: Noisy) -> None:
    found = noisy.searched(WorstCase(goal=Goal.EASIEST))
    assert noisy.retrained_wrong(found.chosen) > 0.5
    assert noisy.noise(found.chosen) > 0.4
    assert found.end > found.start


def test_the_published_step_returns_the_random_start(noisy: Noisy) -> None:
    step = WorstCase(upper_step=1e-3, penalty=1e-4, scale=Raw(), start=RandomStart())
    found = noisy.searched(step)
    assert found.overlap == BUDGET
    assert found.end == pytest.approx(found.start, rel=0.1)
    assert noisy.searched(AS_RELEASED).overlap > 0.95 * BUDGET
    scaled = dataclasses.replace(step, upper_step=10.0, scale=UnitMaximum())
    assert noisy.searched(scaled).overlap < 0.7 * BUDGET


def test_cross_fitted_losses_reach_the_same_without_a_search(noisy: Noisy) -> None:
    fitted = CrossFitted()
    losses = fitted.losses(noisy.recipe, noisy.train, Run())
    lowest = fitted.chosen(losses, BUDGET, Goal.HARDEST)
    highest = fitted.chosen(losses, BUDGET, Goal.EASIEST)
    assert noisy.retrained_wrong(lowest) < 0.01
    assert noisy.retrained_wrong(highest) > 0.5
    assert noisy.noise(highest) > 0.4
    # a model that never saw a wrong label does not guess it: the loss on it is that of no member
    own = row_losses(noisy.recipe.family, noisy.model, noisy.train, Run())
    assert float(losses[noisy.wrong].mean()) > float(own[noisy.wrong].mean())


def test_the_same_seed_finds_the_same_rows_and_leaves_the_model_as_it_was(noisy: Noisy) -> None:
    before, short = digest_of(noisy.model), WorstCase(iterations=2, epochs=1)
    first, second = noisy.searched(short), noisy.searched(short)
    assert torch.equal(first.history, second.history)
    assert digest_of(noisy.model) == before


def test_classes_are_weighed_as_wholes(noisy: Noisy) -> None:
    groups, names = groups_of(noisy.train.columns["label"].tolist())
    assert names == tuple(map(str, range(10)))
    family, run = noisy.recipe.family, Run()
    found = dataclasses.replace(BY_GROUP, goal=Goal.EASIEST, iterations=5).search(
        noisy.model, family, noisy.train, 1, run, groups
    )
    assert found.history.shape == (6, 10)
    only = torch.zeros(10, dtype=torch.float64)
    only[found.chosen] = 1
    after = BY_GROUP.losses_after(noisy.model, family, noisy.train, only, run, groups)
    assert float(after[found.chosen]) == pytest.approx(found.end)
    assert int(after.argmax()) == int(found.chosen)  # what is unlearned is answered worst


# ---- refusals ----


@pytest.mark.parametrize("budget", [0, 1078])
def test_a_choice_of_nothing_or_everything_is_refused(noisy: Noisy, budget: int) -> None:
    with pytest.raises(ExpungeError, match="fewer than all"):
        WorstCase().search(noisy.model, noisy.recipe.family, noisy.train, budget, Run())


def test_fields_that_make_no_search_are_refused(noisy: Noisy) -> None:
    with pytest.raises(ExpungeError, match="`upper_step` of the search is 0"):
        WorstCase(upper_step=0)
    with pytest.raises(ExpungeError, match="`penalty`"):
        WorstCase(penalty=-1)
    with pytest.raises(ExpungeError, match="at least 2"):
        CrossFitted(1)
    with pytest.raises(ExpungeError, match="4 rows for 5 folds"):
        CrossFitted().losses(noisy.recipe, noisy.train.select(torch.arange(4)), Run())


def test_a_row_whose_loss_is_no_number_is_named(noisy: Noisy) -> None:
    images = noisy.train.columns["image"].clone()
    images[7] = float("nan")
    broken = noisy.train.with_column("image", images)
    with pytest.raises(ExpungeError, match=noisy.train.ids[7]):
        row_losses(noisy.recipe.family, noisy.model, broken, Run())
