"""The Wasserstein distance: its value by sorting and by SciPy, and what does not change it."""

import pytest
import torch
from scipy.stats import wasserstein_distance
from sklearn.datasets import load_diabetes
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import WASSERSTEIN, wasserstein

TARGETS = torch.from_numpy(load_diabetes().target)


def part(start: int, stop: int) -> Tensor:
    return TARGETS[start:stop]


def test_for_equally_many_it_is_the_mean_distance_of_the_sorted() -> None:
    one, other = part(0, 100), part(100, 200)
    expected = float((one.sort().values - other.sort().values).abs().mean())
    assert wasserstein(one, other) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [((0, 7), (7, 300)), ((0, 200), (200, 201))])
def test_for_any_numbers_it_is_that_of_scipy(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    one, other = part(*first), part(*second)
    assert wasserstein(one, other) == pytest.approx(wasserstein_distance(one, other))


def test_a_shift_costs_its_length_and_an_exchange_of_rows_nothing() -> None:
    one = part(0, 50)
    assert wasserstein(one, one + 12.5) == pytest.approx(12.5)
    assert wasserstein(one, one.flip(0)) == 0
    assert wasserstein(one, part(50, 90)) == wasserstein(part(50, 90), one) > 0


def test_of_several_targets_it_is_the_mean() -> None:
    one = torch.stack([part(0, 50), part(50, 100)], dim=1)
    shifted = one + torch.tensor([2.0, 6.0])
    assert wasserstein(one, shifted) == pytest.approx(4.0)


def test_what_it_cannot_compare_is_refused() -> None:
    with pytest.raises(ExpungeError, match="at least one finite row a side"):
        wasserstein(part(0, 0), part(0, 5))
    with pytest.raises(ExpungeError, match="not all of them finite"):
        wasserstein(torch.tensor([torch.nan]), part(0, 5))
    with pytest.raises(ExpungeError, match="equally many targets"):
        wasserstein(torch.zeros(3, 2), torch.zeros(3))


def test_its_reference_is_another_oracle() -> None:
    assert WASSERSTEIN.direction == "closer to the oracle"
