"""Facts about calibration: hand-made confidences, perfect and worst cases, order of samples."""

import math

import pytest
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import (
    Predictions,
    brier_score,
    calibration_error,
    calibration_error_by_mass,
    negative_log_likelihood,
    overconfidence,
)


def answered(*rows: list[float], labels: list[int]) -> Predictions:
    return Predictions.of(torch.tensor(rows, dtype=torch.float64).log(), torch.tensor(labels))


FOUR = answered([0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7], labels=[0, 1, 0, 1])
"""Confidence .9 right, .9 wrong, .6 right, .7 right."""


def test_four_answers_by_hand() -> None:
    # Width 1/5: [.6, .8) holds .6 and .7, both right; [.8, 1] holds .9 twice, one right.
    assert calibration_error(FOUR, bins=5).item() == pytest.approx((0.7 + 0.8) / 4, abs=1e-6)
    # Width 1/10: .6 and .7 apart now; the sum is the same, since both lack confidence.
    assert calibration_error(FOUR, bins=10).item() == pytest.approx((0.4 + 0.3 + 0.8) / 4, abs=1e-6)
    assert overconfidence(FOUR).item() == pytest.approx((0.9 + 0.9 + 0.6 + 0.7 - 3) / 4, abs=1e-6)
    squares = 2 * (0.1**2 + 0.9**2 + 0.4**2 + 0.3**2) / 4
    assert brier_score(FOUR).item() == pytest.approx(squares, abs=1e-6)
    likelihood = -(math.log(0.9) + math.log(0.1) + math.log(0.6) + math.log(0.7)) / 4
    assert negative_log_likelihood(FOUR).item() == pytest.approx(likelihood, abs=1e-6)


def test_bins_of_equal_mass_by_hand_keep_equal_confidences_together() -> None:
    assert calibration_error_by_mass(FOUR, bins=2).item() == pytest.approx(1.5 / 4, abs=1e-6)
    # Too sure in one half and not sure enough in the other cancel in one bin, not in two.
    mixed = answered([0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4], labels=[0, 1, 0, 0])
    assert calibration_error_by_mass(mixed, bins=1).item() == pytest.approx(0.05, abs=1e-6)
    assert calibration_error_by_mass(mixed, bins=2).item() == pytest.approx(1.4 / 4, abs=1e-6)
    tied = answered(*[[0.75, 0.25]] * 4, labels=[0, 0, 0, 1])
    assert calibration_error_by_mass(tied, bins=4).item() == pytest.approx(0, abs=1e-6)


def test_certain_answers() -> None:
    logits = torch.tensor([[0.0, -math.inf], [0.0, -math.inf]])
    right, wrong = (Predictions.of(logits, torch.full((2,), label)) for label in (0, 1))
    for metric, worst in (
        (calibration_error, 1.0),
        (overconfidence, 1.0),
        (brier_score, 2.0),
        (negative_log_likelihood, math.inf),
    ):
        assert metric(right).item() == 0
        assert metric(wrong).item() == worst


def drawn(seed: int, sharper: float = 1.0, rows: int = 4000) -> tuple[Tensor, Tensor]:
    """Logits whose labels are drawn from their own softmax, then made sharper."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return sharper * logits, labels


def test_labels_drawn_from_the_probabilities_are_calibrated_sharper_ones_are_not() -> None:
    honest, sure, unsure = (Predictions.of(*drawn(0, factor)) for factor in (1.0, 3.0, 0.3))
    assert overconfidence(honest).abs().item() < 0.02
    assert overconfidence(sure).item() > 0.1
    assert overconfidence(unsure).item() < -0.1
    for error in (calibration_error, calibration_error_by_mass):
        assert error(honest).item() < 0.03
        assert error(sure).item() > 0.1
        assert error(unsure).item() > 0.1
    for proper in (brier_score, negative_log_likelihood):  # lowest for the true probabilities
        assert proper(honest).item() < min(proper(sure).item(), proper(unsure).item())


def test_the_order_of_samples_has_no_say_and_models_are_apart() -> None:
    logits, labels = drawn(1, rows=301)
    one, other = Predictions.of(logits, labels), Predictions.of(3 * logits, labels, model="other")
    both = Predictions.stacked([one, other])
    for error in (calibration_error, calibration_error_by_mass, brier_score):
        assert error(one.at(torch.arange(300, -1, -1))).item() == pytest.approx(error(one).item())
        expected = torch.cat([error(one), error(other)])
        torch.testing.assert_close(error(both), expected, rtol=0, atol=1e-15)


def test_bins_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ExpungeError, match="0 bins"):
        calibration_error(FOUR, bins=0)
    with pytest.raises(ExpungeError, match="5 bins of equal mass for 4 samples"):
        calibration_error_by_mass(FOUR, bins=5)
