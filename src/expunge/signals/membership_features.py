"""What a membership attack looks at: one number, or one vector, of each sample.

Song, Mittal (2021). Systematic Evaluation of Privacy Risks of Machine Learning Models: confidence,
correctness, entropy, and the modified entropy, which knows the label. Released unlearning code
assigns the modified entropy column-wise over the batch and takes log p for log(1 - p); the one here
is the paper's.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from expunge.signals.matrix import Signals
from expunge.signals.predictions import Predictions

LEAST_LOG = math.log(1e-30)
"""Where logarithms of the modified entropy end, so that a certain and wrong answer has a value."""

Feature = Callable[[Predictions], Tensor]
"""From predictions to numbers (models, samples, d), float64."""


def correctness(found: Predictions) -> Tensor:
    """1 where the answer is the label, (models, samples, 1)."""
    return (found.answers() == found.labels).double().unsqueeze(2)


def confidence(found: Predictions) -> Tensor:
    """Probability of the label, (models, samples, 1)."""
    return loss(found).neg().exp()


def loss(found: Predictions) -> Tensor:
    """Cross-entropy of the label in nats, (models, samples, 1)."""
    return -_of_label(found, found.log_probabilities())


def entropy(found: Predictions) -> Tensor:
    """Entropy of the prediction in nats, (models, samples, 1); it does not know the label."""
    p = found.probabilities()
    return -torch.xlogy(p, p).sum(2, keepdim=True)


def modified_entropy(found: Predictions) -> Tensor:
    """-(1 - p_y) log p_y - sum over k != y of p_k log(1 - p_k), in nats, (models, samples, 1).

    0 for the label with certainty, and largest (69 nats a term, see ``LEAST_LOG``) for another
    class with certainty.
    """
    log_p = found.log_probabilities()
    p, log_rest = log_p.exp(), _log_of_rest(found.logits.double(), log_p)
    others = -p * log_rest.clamp(min=LEAST_LOG)
    own = -_of_label(found, log_rest).exp() * _of_label(found, log_p).clamp(min=LEAST_LOG)
    return own + others.sum(2, keepdim=True) - _of_label(found, others)


def probability_vector(found: Predictions) -> Tensor:
    """The probabilities of all classes, (models, samples, C)."""
    return found.probabilities()


def sorted_probabilities(found: Predictions) -> Tensor:
    """The probabilities of all classes, the smallest first: (models, samples, C). They know no
    class."""
    return found.probabilities().sort(2).values


def absolute_error(signals: Signals) -> Tensor:
    """For models that answer with numbers: distance of answer and target, (models, samples, 1)."""
    return signals.query("absolute error").double().unsqueeze(2)


FEATURES: Mapping[str, Feature] = {
    "correctness": correctness,
    "confidence": confidence,
    "entropy": entropy,
    "modified entropy": modified_entropy,
    "loss": loss,
    "probability vector": probability_vector,
    "sorted probabilities": sorted_probabilities,
}
"""The features by the names of the literature."""


def _of_label(found: Predictions, values: Tensor) -> Tensor:
    """The label's entry (models, samples, 1) of values (models, samples, C)."""
    at = found.labels.reshape(1, -1, 1).expand(len(found.models), -1, 1)
    return values.gather(2, at)


def _log_of_rest(logits: Tensor, log_p: Tensor) -> Tensor:
    """log(1 - p) of every class, without cancellation: at most one p is above a half, and for that
    one the log-sum-exp of the others is taken."""
    best = log_p.argmax(2, keepdim=True)
    others = logits.scatter(2, best, -torch.inf).logsumexp(2, keepdim=True)
    rest = torch.log1p(-log_p.exp().clamp(max=0.5))
    return rest.scatter(2, best, others - logits.logsumexp(2, keepdim=True))
