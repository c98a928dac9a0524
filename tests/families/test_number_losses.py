"""Losses of numbers: what minimises them, what an answer comes down to, and what a family makes."""

import pytest
import torch
from torch import Tensor, nn

from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import HasNumbers
from expunge.families.classifier import Classifier
from expunge.families.number_losses import AbsoluteLoss, NumberLoss, QuantileLoss, SquaredLoss
from expunge.families.regressor import Regressor
from expunge.run_file.made import make

NUMBERS = torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]).unsqueeze(1)


class Constant(nn.Module):
    """Answers every row with the same numbers."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = torch.tensor(numbers)

    def forward(self, given: Tensor) -> Tensor:
        return self.numbers.expand(len(given), -1)


def mean_loss(loss: NumberLoss, *answer: float) -> float:
    batch: Batch = {"image": NUMBERS, "target": NUMBERS}
    return float(Regressor(loss=loss).losses(Constant(*answer), batch).mean())


def test_each_loss_is_smallest_where_it_says() -> None:
    skewed = float(NUMBERS.square().mean())  # not the mean, not the median
    assert mean_loss(SquaredLoss(), 5.0) < min(mean_loss(SquaredLoss(), v) for v in (4.9, 5.1))
    assert mean_loss(AbsoluteLoss(), 5.0) < mean_loss(AbsoluteLoss(), skewed)
    quantiles = QuantileLoss((0.1, 0.5, 0.9))
    best = mean_loss(quantiles, 1.0, 5.0, 9.0)
    for other in ((1.5, 5.0, 9.0), (0.5, 5.0, 9.0), (1.0, 5.5, 9.0), (1.0, 5.0, 8.5)):
        assert best < mean_loss(quantiles, *other)


def test_the_quantile_loss_of_the_median_alone_is_half_the_absolute_error() -> None:
    for answer in (0.0, 3.3, 12.0):
        expected = mean_loss(AbsoluteLoss(), answer) / 2
        assert mean_loss(QuantileLoss((0.5,)), answer) == pytest.approx(expected)


def test_goals_that_are_another_models_quantiles_are_met_level_by_level() -> None:
    loss = QuantileLoss((0.2, 0.5))
    goals = torch.tensor([[1.0, 2.0, 5.0, 7.0]])  # two targets, two quantiles each
    assert float(loss.apart(goals, goals)) == 0
    answers = goals + torch.tensor([[1.0, 0.0, 0.0, -2.0]])  # over by 1 at 0.2, under by 2 at 0.5
    assert float(loss.apart(answers, goals)) == pytest.approx((0.8 * 1 + 0.5 * 2) / 4)
    assert loss.points(answers).tolist() == [[2.0, 5.0]]
    assert loss.goals(torch.tensor([[1.0, 9.0]])).tolist() == [[1.0, 1.0, 9.0, 9.0]]


def test_errors_are_the_medians_in_the_users_unit() -> None:
    family = Regressor(units=(10.0,), loss=QuantileLoss())
    batch: Batch = {"image": torch.zeros(1, 1), "target": torch.tensor([1.0])}
    model = Constant(-5.0, 3.0, 50.0)
    assert family.errors(model, batch).tolist() == [[20.0]]
    assert family.numbers(model, batch).tolist() == [[30.0]]


def test_a_model_with_too_few_quantiles_is_refused() -> None:
    batch: Batch = {"image": torch.zeros(2, 1), "target": torch.zeros(2)}
    with pytest.raises(ExpungeError, match=r"1 numbers each .* 1 target columns; 3 numbers for"):
        Regressor(loss=QuantileLoss()).losses(Constant(0.0), batch)


@pytest.mark.parametrize("levels", [(), (0.1, 0.9), (0.5, 0.1), (0.0, 0.5), (0.5, 1.0)])
def test_levels_that_are_none_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ExpungeError, match=r"rise between 0 and 1 with 0\.5 among"):
        QuantileLoss(levels)


def test_a_run_file_names_the_loss() -> None:
    named = {"name": "quantile", "levels": [0.25, 0.5, 0.75]}
    assert make(Regressor, {"loss": {"name": "absolute"}}).loss == AbsoluteLoss()
    assert make(Regressor, {"loss": named}).loss == QuantileLoss((0.25, 0.5, 0.75))
    assert make(Regressor, {}).loss == make(Regressor, {"loss": {"name": "squared"}}).loss
    with pytest.raises(ExpungeError, match="loss"):
        make(Regressor, {"loss": {"name": "huber"}})


def test_a_regressor_has_numbers_and_a_classifier_has_none() -> None:
    assert isinstance(Regressor(), HasNumbers)
    assert not isinstance(Classifier(classes=3), HasNumbers)
