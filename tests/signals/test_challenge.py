"""Facts about the challenge's score: separable, equal and hand-made populations, the grid."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from populations import population
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import (
    ChallengeRules,
    attacker_epsilon,
    challenge_score,
    forgetting_points,
    forgetting_score,
)

DELTA = 1e-5
Numbers = npt.NDArray[np.float64]


def normal(seed: int, models: int = 64, samples: int = 40) -> Tensor:
    return torch.randn(models, samples, generator=torch.Generator().manual_seed(seed))


def epsilon(found: Tensor, oracles: Tensor, least: int = 20) -> Tensor:
    rules = ChallengeRules(least=least)
    return attacker_epsilon(population(found, "u"), population(oracles, "o"), rules)


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def test_separable_populations_have_the_largest_epsilon_and_no_points() -> None:
    low, high = normal(0), normal(1) + 20
    for found, oracles in ((low, high), (high, low)):
        assert epsilon(found, oracles).tolist() == [50.0] * 40
        assert forgetting_score(population(found, "u"), population(oracles, "o")) == 0


def test_the_same_answers_have_epsilon_zero_and_all_points() -> None:
    # Two values only: every cut and interval has FPR = 1 - TPR = 1/2, or a rate of 0.
    same = column(*[0.0, 1.0] * 10)
    assert epsilon(same, same).item() == 0
    assert forgetting_score(population(same, "u"), population(same, "o")) == 1
    constant = torch.full((20, 1), 3.0)
    assert epsilon(constant, constant).item() == 0


def test_one_cut_by_hand() -> None:
    # Three of four margins on the right side of the cut, both ways round: FPR = FNR = 1/4.
    found, oracles = column(0.0, 1.0, 2.0, 5.0), column(1.5, 6.0, 7.0, 8.0)
    by_hand = math.log((1 - DELTA - 0.25) / 0.25)
    assert epsilon(found, oracles, least=4).item() == pytest.approx(by_hand)
    assert epsilon(oracles, found, least=4).item() == pytest.approx(by_hand)


def test_an_interval_finds_a_narrow_population_that_no_cut_finds() -> None:
    # No cut has more than half of one side wrong and less of the other; the interval over all but
    # one found model holds two oracles.
    found = torch.linspace(-1, 1, 20).unsqueeze(1)
    oracles = torch.cat([torch.linspace(-40, -20, 9), column(0.0, 0.05)[:, 0],
                         torch.linspace(20, 40, 9)]).unsqueeze(1)  # fmt: skip
    by_hand = math.log((1 - DELTA - 1 / 20) / (2 / 20))
    wrong_left = math.log((1 - DELTA - 2 / 20) / (1 / 20))
    assert epsilon(found, oracles).item() == pytest.approx(max(by_hand, wrong_left))


def test_a_peaked_population_is_told_apart_for_certain() -> None:
    oracles = normal(1, samples=1)
    assert epsilon(oracles * 0.005, oracles).item() == 50.0
    assert epsilon(oracles, oracles * 0.005).item() == 50.0
    assert epsilon(oracles * 0.02, oracles).item() < 50.0


def published_grid(found: Numbers, oracles: Numbers) -> float:
    """The grid of thresholds as the challenge describes it, 100 a nat, one after another."""
    swap = np.median(oracles) > np.median(found)
    positive, negative = (oracles, found) if swap else (found, oracles)
    both = np.concatenate([positive, negative])
    rates = []
    for cut in np.linspace(both.min(), both.max(), math.ceil(100 * np.ptp(both))):
        rates.append(((positive < cut).mean(), (negative >= cut).mean()))
    if np.ptp(positive) >= np.ptp(negative):
        positive, negative = negative, positive
    width, top = np.ptp(positive), positive.max()
    for right in np.linspace(top - 2, top + 2, 100):
        for left in np.linspace(right - width - 2, right - width + 2, 100):
            inside = [((side >= left) & (side <= right)).mean() for side in (positive, negative)]
            rates.append((1 - inside[0], inside[1]))
    found_ones = [0.0]
    for missed, alarmed in rates:
        if missed == 0 and alarmed == 0:
            return 50.0
        if missed > 0 and alarmed > 0:
            for a, b in ((missed, alarmed), (alarmed, missed)):
                found_ones.append(math.log((1 - DELTA - a) / b) if a + DELTA < 1 else 0.0)
    return max(found_ones)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (0.0, 0.4), (-2.0, 1.5)])
def test_no_threshold_of_the_published_grid_is_better(shift: float, scale: float) -> None:
    found, oracles = 2 * (scale * normal(2, 24, 2) + shift), 2 * normal(3, 24, 2)
    exact = epsilon(found, oracles).numpy()
    pairs = zip(found.double().numpy().T, oracles.double().numpy().T, strict=True)
    grid = np.array([published_grid(p, q) for p, q in pairs])
    assert (exact >= grid - 1e-12).all()
    assert (exact <= grid + 0.4).all()


def test_points_halve_every_half_nat_up_to_what_the_models_can_show() -> None:
    given = torch.tensor([0.0, 0.49, 0.5, 1.0, 6.99, 7.0, 50.0])
    points = forgetting_points(given, models=512)  # log 511 = 6.24, rounded up to 7: 14 steps
    assert points.tolist() == [1, 1, 0.5, 0.25, 2.0**-13, 0, 0]
    assert forgetting_points(given, models=20).tolist() == [1, 1, 0.5, 0.25, 0, 0, 0]


def test_oracles_earn_more_than_half_forgotten_and_that_more_than_known() -> None:
    oracles = population(normal(0, samples=100), "o")
    scores = [
        forgetting_score(population(normal(1, samples=100) + shift, "u"), oracles)
        for shift in (0.0, 1.0, 4.0)
    ]
    assert scores[0] > 3 * scores[1] > 9 * scores[2]
    assert 0.1 < scores[0] < 0.5  # a perfect method is NOT at 1


def test_chunks_samples_and_models_may_come_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found, oracles = normal(1), normal(2) + 0.5
    whole = epsilon(found, oracles)
    monkeypatch.setattr("expunge.signals.challenge.PAIRS_AT_ONCE", 40_000)
    assert torch.equal(epsilon(found, oracles), whole)
    assert torch.equal(epsilon(found.flip(0, 1), oracles.flip(1)), whole.flip(0))


def test_final_score_by_hand_and_what_is_refused() -> None:
    assert challenge_score(0.2, 0.9, 1.0, 0.6, 0.8) == pytest.approx(0.2 * 0.9 * 0.75)
    with pytest.raises(ExpungeError, match="above 0"):
        challenge_score(0.2, 0.9, 0.0, 0.6, 0.8)
    with pytest.raises(ExpungeError, match=r"got 64 models and 30 oracles.* 34 more oracles"):
        epsilon(normal(0), normal(1, 30))
    with pytest.raises(ExpungeError, match="at least 20 of each"):
        epsilon(normal(0, 10), normal(1, 10))
    with pytest.raises(ExpungeError, match="at least 3 models"):
        ChallengeRules(least=2)
