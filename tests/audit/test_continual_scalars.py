"""The scalars of continual learning on a matrix computed by hand."""

import pytest

from expunge.audit.continual import (
    average_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    learning_accuracy,
)
from expunge.errors import ExpungeError

R = [[0.9, 0.2, 0.1], [0.6, 0.8, 0.3], [0.5, 0.7, 0.9]]


def test_hand_values() -> None:
    assert average_accuracy(R) == pytest.approx(0.7)
    assert backward_transfer(R) == pytest.approx(-0.25)
    assert forgetting(R) == pytest.approx(0.25)
    assert learning_accuracy(R) == pytest.approx(0.8667, abs=5e-5)
    assert forward_transfer(R, [0.1, 0.1, 0.1]) == pytest.approx(0.15)


def test_forgetting_counts_from_the_best_step_and_backward_transfer_from_the_own() -> None:
    later = [[0.5, 0.0, 0.0], [0.9, 0.5, 0.0], [0.6, 0.5, 0.5]]
    assert backward_transfer(later) == pytest.approx(0.05)
    assert forgetting(later) == pytest.approx(0.15)


def test_one_task_has_no_transfer() -> None:
    with pytest.raises(ExpungeError, match="at least 2 tasks"):
        backward_transfer([[0.5]])
    assert average_accuracy([[0.5]]) == 0.5
