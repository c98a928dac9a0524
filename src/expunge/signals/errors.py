"""Errors of models that answer with numbers: how far an answer is from its target."""

from torch import Tensor

from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric

MEAN_ABSOLUTE_ERROR = Metric(
    "mean absolute error",
    "lower",
    "mean distance of answer and target, in the target's unit",
    query="absolute error",
)


def mean_absolute_error(signals: Signals) -> Tensor:
    """Mean distance of answer and target in the target's unit, (models,) float64."""
    return signals.query("absolute error").double().mean(1)


def root_mean_squared_error(signals: Signals) -> Tensor:
    """Root of the mean squared distance in the target's unit, (models,) float64."""
    return signals.query("squared error").double().mean(1).sqrt()
