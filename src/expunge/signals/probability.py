"""Probability of an answer per token, alone and against wrong answers.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs.
The loss of an answer is the mean over its tokens of minus their log-probability in nats, the query
``loss`` of :meth:`~expunge.signals.matrix.Signals.from_answers`.
"""

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

ANSWER_PROBABILITY = Metric(
    "answer probability",
    "closer to the oracle",
    "mean over questions of exp(-loss), the geometric mean of the probabilities of the tokens",
)
OPTION_PROBABILITY = Metric(
    "probability among options",
    "higher",
    "mean over questions of the true answer's share of the probabilities of it and wrong ones",
)


def answer_probability(losses: Tensor) -> Tensor:
    """``exp(-loss)`` of each answer (..., n), float64 in [0, 1]."""
    return (-losses.double()).exp()


def option_probability(right: Tensor, wrong: Tensor) -> Tensor:
    """Share of the true answer in the probabilities of it and the wrong ones, (..., n) float64.

    Args:
        right: losses (..., n) of the true answers.
        wrong: losses (..., n, k) of the wrong ones.

    Raises:
        ExpungeError: shapes do not fit, or there is no wrong answer.
    """
    check_wrong(right, wrong)
    every = torch.cat([right.double().unsqueeze(-1), wrong.double()], -1)
    return (-every).softmax(-1)[..., 0]


def check_wrong(right: Tensor, wrong: Tensor) -> None:
    """Refuse losses of wrong answers that do not belong to those of the right ones.

    Raises:
        ExpungeError: shapes are not (..., n) and (..., n, k) with k at least 1.
    """
    if wrong.shape[:-1] != right.shape or wrong.dim() < 2 or wrong.shape[-1] < 1:
        raise ExpungeError(
            f"Losses of shape {tuple(right.shape)} of true answers and {tuple(wrong.shape)} of "
            "wrong ones were given; (n,) and (n, k) with at least one wrong answer are expected."
        )
