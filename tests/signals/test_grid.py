"""UA, IRA and CRA: what each counts, and what it leaves out."""

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.signals.grid import grid_accuracies

OBJECT = torch.arange(3).repeat(4)
STYLE = torch.arange(2).repeat_interleave(6)


def test_a_model_that_draws_what_it_is_told() -> None:
    found = grid_accuracies(STYLE, STYLE, OBJECT, OBJECT, 1)
    assert (found.unlearning, found.in_domain, found.cross_domain) == (0.0, 1.0, 1.0)


def test_an_oracle_draws_the_anchor_and_everything_else() -> None:
    judged = torch.where(OBJECT == 2, 0, OBJECT)
    found = grid_accuracies(OBJECT, judged, STYLE, STYLE, 2)
    assert (found.unlearning, found.in_domain, found.cross_domain) == (1.0, 1.0, 1.0)


def test_what_is_drawn_of_the_target_counts_in_no_retain_accuracy() -> None:
    styles = torch.where(OBJECT == 2, 1 - STYLE, STYLE)
    found = grid_accuracies(OBJECT, OBJECT, STYLE, styles, 2)
    assert (found.in_domain, found.cross_domain) == (1.0, 1.0)


def test_words_count_alike_however_many_pictures_they_have() -> None:
    told = torch.tensor([0, 1, 1, 1, 2])
    judged = torch.tensor([1, 1, 1, 1, 2])
    other = torch.zeros(5, dtype=torch.int64)
    found = grid_accuracies(told, judged, other, other, 2)
    assert (found.unlearning, found.in_domain) == (0.0, 0.5)


def test_a_destroyed_model_is_at_chance() -> None:
    draws = torch.Generator().manual_seed(0)
    told, other = torch.arange(4).repeat(500), torch.arange(2).repeat(1000)
    judged = torch.randint(4, (2000,), generator=draws)
    found = grid_accuracies(told, judged, other, torch.zeros_like(other), 0)
    assert abs(found.unlearning - 0.75) < 0.06 and abs(found.in_domain - 0.25) < 0.06
    assert found.cross_domain == 0.5


@pytest.mark.parametrize("target", [5, 0])
def test_a_target_of_nothing_or_of_everything(target: int) -> None:
    told = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ExpungeError, match="some and not all"):
        grid_accuracies(told, told, told, told, target)
