"""Corrective accuracies: whether a manipulation is corrected and everything else kept.

Goel, Prabhu, Torr, Kumaraguru, Sanyal (2024). Corrective Machine Unlearning. Labels are the clean
ones throughout. Retraining without the identified part learns the rest of the manipulation again:
it is a baseline here, not the reference.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric
from expunge.signals.predictions import Predictions

CORRECTED_ACCURACY = Metric(
    "corrected accuracy",
    "higher",
    "share of inputs of the manipulated domain answered with their clean class",
    1,
)
CLEAN_ACCURACY = Metric(
    "clean accuracy",
    "higher",
    "share of inputs outside the manipulated domain answered with their class",
    1,
)
ATTACK_SUCCESS = Metric(
    "attack success",
    "lower",
    "share of inputs with the trigger answered with the class that it stands for",
    1,
)


def corrected_accuracy_under_trigger(triggered: Predictions, target: int) -> Tensor:
    """Accuracy on inputs that carry the trigger, (models,) float64.

    Rows of the target class are left out: the poison answers them rightly.

    Args:
        triggered: predictions on test inputs with the trigger; their labels are the clean ones.
        target: the class that the poison gave its rows.

    Raises:
        ExpungeError: ``target`` is no class, or no row of another class is there.
    """
    return _of_other_classes(triggered, target).share_right()


def attack_success(triggered: Predictions, target: int) -> Tensor:
    """Share of triggered rows of other classes that are answered with ``target``, (models,).

    Raises:
        ExpungeError: ``target`` is no class, or no row of another class is there.
    """
    return (_of_other_classes(triggered, target).answers() == target).double().mean(1)


def corrected_accuracy_of_classes(test: Predictions, confused: Collection[int]) -> Tensor:
    """Accuracy on the test rows of the classes whose labels were swapped, (models,) float64.

    Raises:
        ExpungeError: the test set has no row of these classes.
    """
    return _where(test, _among(test, confused), "of the confused classes").share_right()


def clean_accuracy_of_classes(test: Predictions, confused: Collection[int]) -> Tensor:
    """Accuracy on the test rows of every other class, (models,) float64.

    Raises:
        ExpungeError: the test set has no row of another class.
    """
    return _where(test, ~_among(test, confused), "outside the confused classes").share_right()


def _among(found: Predictions, classes: Collection[int]) -> Tensor:
    return torch.isin(found.labels, torch.tensor(sorted(classes), dtype=torch.int64))


def _of_other_classes(triggered: Predictions, target: int) -> Predictions:
    if not 0 <= target < triggered.logits.shape[2]:
        raise ExpungeError(
            f"The trigger's class is given as {target}; one of 0 ... "
            f"{triggered.logits.shape[2] - 1} is expected."
        )
    return _where(triggered, triggered.labels != target, f"of another class than {target}")


def _where(found: Predictions, wanted: Tensor, which: str) -> Predictions:
    if not bool(wanted.any()):
        raise ExpungeError(
            f"The predictions hold no row {which}; at least one is expected. Give test rows with "
            "their clean labels."
        )
    return found.at(wanted.nonzero().reshape(-1))
