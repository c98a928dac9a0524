"""Margins, losses and answers of models on samples, and the metrics that read them."""

from expunge.signals.accuracy import (
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
from expunge.signals.matrix import Signals
from expunge.signals.metric import Direction, Metric

__all__ = [
    "FORGOTTEN_ACCURACY",
    "FORGOTTEN_LOSS",
    "FORGOTTEN_MARGIN",
    "FORGOTTEN_TOP_5",
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
    "mean_loss",
    "mean_margin",
    "top_k_accuracy",
]
