"""How far two models' predictions are apart: activation distance, JSD, completeness, ZRF.

Activation distance: Golatkar, Achille, Soatto (2020). Completeness: Cao, Yang (2015), Towards
Making Systems Forget with Machine Unlearning. ZRF: Chundawat, Tarun, Mandal, Kankanhalli (2023),
Can Bad Teaching Induce Forgetting? The reference of the first three is how far two oracles are
apart (:func:`~expunge.signals.reading.beside_pairs`); ZRF's is the oracle's own ZRF.
"""

import math

import torch
from torch import Tensor, xlogy

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric
from expunge.signals.predictions import Predictions, check_same_samples

ACTIVATION_DISTANCE = Metric(
    "activation distance",
    "closer to the oracle",
    "mean Euclidean distance of the probability vectors of model and oracle, 0 to 1.414",
)
DIVERGENCE = Metric(
    "Jensen-Shannon divergence",
    "closer to the oracle",
    "mean divergence of the predictions of model and oracle, in nats, 0 to 0.693",
)
COMPLETENESS = Metric(
    "completeness",
    "closer to the oracle",
    "share of samples to which model and oracle give the same answer",
)
ZERO_RETRAIN_FORGETTING = Metric(
    "zero retrain forgetting (ZRF)",
    "closer to the oracle",
    "1 minus the mean divergence from an untrained model on forget rows, 0.307 to 1",
)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence over the last axis, in nats: ½ KL(p‖m) + ½ KL(q‖m), m the mean.

    Args:
        p: probabilities (..., C).
        q: probabilities (..., C).

    Returns:
        (...) float64 in [0, ln 2]: 0 for equal distributions, ln 2 for disjoint ones; symmetric.
    """
    p, q = p.double(), q.double()
    log_mean = ((p + q) / 2).clamp(min=torch.finfo(torch.float64).tiny).log()
    parts = xlogy(p, p) - p * log_mean + xlogy(q, q) - q * log_mean
    return (parts.sum(-1) / 2).clamp(0.0, math.log(2))  # rounding leaves the bounds by 1e-16


def divergence(found: Predictions, oracle: Predictions) -> Tensor:
    """Mean Jensen-Shannon divergence from one model's predictions, (models,) in [0, ln 2].

    Raises:
        ExpungeError: ``oracle`` is not one model, or was asked for other samples.
    """
    _check_one(found, oracle)
    return jensen_shannon(found.probabilities(), oracle.probabilities()).mean(1)


def activation_distance(found: Predictions, oracle: Predictions) -> Tensor:
    """Mean Euclidean distance of probability vectors from one model's, (models,) in [0, √2].

    Raises:
        ExpungeError: ``oracle`` is not one model, or was asked for other samples.
    """
    _check_one(found, oracle)
    apart = found.probabilities() - oracle.probabilities()
    return apart.square().sum(2).sqrt().mean(1)


def completeness(found: Predictions, oracle: Predictions) -> Tensor:
    """Share of samples answered as one model answers them, right or wrong, (models,) in [0, 1].

    Raises:
        ExpungeError: ``oracle`` is not one model, or was asked for other samples.
    """
    _check_one(found, oracle)
    return (found.answers() == oracle.answers()).double().mean(1)


def zero_retrain_forgetting(found: Predictions, untrained: Predictions) -> Tensor:
    """1 minus the mean divergence from a randomly initialised model, (models,) in [1 - ln 2, 1].

    Args:
        found: predictions on the forget rows.
        untrained: those of one model from the recipe's builder with a seed of its own, such as
            ``recipe.builder(seed)``.

    Raises:
        ExpungeError: ``untrained`` is not one model, or was asked for other samples.
    """
    return 1.0 - divergence(found, untrained)


def zero_retrain_forgetting_as_published(found: Predictions, untrained: Predictions) -> Tensor:
    """ZRF as the released code computes it, (models,): only to compare with published values.

    It takes KL(m‖p) for KL(p‖m) and divides by the number of classes too, so that values pile up
    near 1 and have no lower bound.

    Raises:
        ExpungeError: ``untrained`` is not one model, or was asked for other samples.
    """
    _check_one(found, untrained)
    p, q = found.probabilities(), untrained.probabilities()
    mean = (p + q) / 2
    smallest = torch.finfo(torch.float64).tiny
    logs = p.clamp(min=smallest).log() + q.clamp(min=smallest).log()
    return 1.0 - (xlogy(mean, mean) - mean * logs / 2).mean((1, 2))


def _check_one(found: Predictions, oracle: Predictions) -> None:
    if len(oracle.models) != 1:
        raise ExpungeError(
            f"Predictions were held against {len(oracle.models)} models at once; one is expected. "
            "Pick it with of_models, and use beside_pairs for several oracles."
        )
    check_same_samples(found, oracle)
