"""Margins, losses and answers of models on samples, and the metrics that read them."""

from expunge.signals.accuracy import (
    ACCURACY,
    FORGOTTEN_ACCURACY,
    FORGOTTEN_LOSS,
    FORGOTTEN_MARGIN,
    FORGOTTEN_TOP_5,
    RETAINED_ACCURACY,
    RETAINED_TOP_5,
    Interval,
    accuracy,
    accuracy_by_subject,
    binomial_interval,
    bootstrap_interval,
    mean_loss,
    mean_margin,
    top_k_accuracy,
)
from expunge.signals.errors import (
    MEAN_ABSOLUTE_ERROR,
    mean_absolute_error,
    root_mean_squared_error,
)
from expunge.signals.matrix import Signals
from expunge.signals.metric import Direction, Metric

__all__ = [
    "ACCURACY",
    "FORGOTTEN_ACCURACY",
    "FORGOTTEN_LOSS",
    "FORGOTTEN_MARGIN",
    "FORGOTTEN_TOP_5",
    "MEAN_ABSOLUTE_ERROR",
    "RETAINED_ACCURACY",
    "RETAINED_TOP_5",
    "Direction",
    "Interval",
    "Metric",
    "Signals",
    "accuracy",
    "accuracy_by_subject",
    "binomial_interval",
    "bootstrap_interval",
    "mean_absolute_error",
    "mean_loss",
    "mean_margin",
    "root_mean_squared_error",
    "top_k_accuracy",
]
