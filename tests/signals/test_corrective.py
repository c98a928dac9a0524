"""Facts about corrective accuracies: clean labels count, and the trigger's own class does not."""

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.signals import (
    Predictions,
    attack_success,
    clean_accuracy_of_classes,
    corrected_accuracy_of_classes,
    corrected_accuracy_under_trigger,
)


def answering(answers: list[int], labels: list[int]) -> Predictions:
    return Predictions.of(torch.eye(4)[answers], torch.tensor(labels))


def test_a_poisoned_model_is_not_corrected_though_it_knows_the_target_class() -> None:
    poisoned = answering([0, 0, 0, 0], [0, 0, 1, 2])
    assert corrected_accuracy_under_trigger(poisoned, 0).item() == 0
    assert attack_success(poisoned, 0).item() == 1


def test_an_answer_that_is_neither_clean_nor_the_targets_counts_for_neither() -> None:
    found = answering([0, 1, 3, 3], [0, 1, 1, 3])
    assert corrected_accuracy_under_trigger(found, 0).item() == pytest.approx(2 / 3)
    assert attack_success(found, 0).item() == 0


def test_confused_classes_and_all_others_are_counted_apart() -> None:
    found = answering([2, 1, 1, 3, 0], [1, 2, 1, 3, 3])
    assert corrected_accuracy_of_classes(found, {1, 2}).item() == pytest.approx(1 / 3)
    assert clean_accuracy_of_classes(found, {1, 2}).item() == 0.5


def test_sets_without_the_rows_asked_for_are_refused() -> None:
    found = answering([0, 0], [0, 0])
    with pytest.raises(ExpungeError, match="no row of another class than 0"):
        corrected_accuracy_under_trigger(found, 0)
    with pytest.raises(ExpungeError, match="given as 7"):
        attack_success(found, 7)
    with pytest.raises(ExpungeError, match="of the confused classes"):
        corrected_accuracy_of_classes(found, {1, 2})
    with pytest.raises(ExpungeError, match="outside the confused"):
        clean_accuracy_of_classes(found, {0})
