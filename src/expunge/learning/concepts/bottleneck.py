"""A bottleneck of concepts: a sparse linear classifier on concept scores, beside the model's own.

Yuksekgonul, Wang, Zou (2023). Post-hoc Concept Bottleneck Models: multinomial logistic regression
with an elastic net on the scores of a concept bank. It stands for the model only as far as it
agrees with it. Scores are standardised, since distances of different concepts have different
spreads, so that the mean score of all rows is zero.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.run import Run

SETTLED, MOST_PASSES = 1e-3, 10_000
"""Largest share by which a weight still moves when the fit has settled, and passes at most."""

SEEDS = 2**31
"""Numbers that a seed of scikit-learn is among."""


@dataclass(frozen=True)
class ElasticNet:
    """How a bottleneck is fitted.

    Args:
        weight: lambda, of the penalty beside the mean loss of a row.
        l1_ratio: share of the sum of magnitudes in it; the rest is half the sum of squares.
    """

    weight: float = 1e-5
    l1_ratio: float = 0.99

    def __post_init__(self) -> None:
        if not (self.weight > 0 and 0 <= self.l1_ratio <= 1):
            raise ExpungeError(
                f"A concept bottleneck got a penalty of {self.weight:g} and an l1 ratio of "
                f"{self.l1_ratio:g}; a penalty above 0 and a ratio from 0 to 1 are expected."
            )


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """A linear classifier on the standardised scores of N concepts.

    Args:
        mean: (N,) float64 score of all rows that it was fitted on.
        scale: (N,) their standard deviations; 1 where a score does not vary.
        weights: (C, N) of the classes that have rows.
        bias: (C,).
        classes: (C,) their labels, ascending.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor
    classes: Tensor

    @classmethod
    def fit(cls, scores: Tensor, labels: Tensor, net: ElasticNet, run: Run) -> Self:
        """The bottleneck of concept scores (n, N) and labels (n,).

        Raises:
            ExpungeError: the rows are of one class.
        """
        from sklearn.linear_model import LogisticRegression

        classes = torch.unique(labels)
        if len(classes) < 2:
            raise ExpungeError(
                f"All {len(labels)} rows are of the class {int(classes[0])}, and a concept "
                "bottleneck tells classes apart; give rows of at least two."
            )
        mean, scale = scores.mean(0), scores.std(0, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)
        draws = run.generator("concept bottleneck")
        fitted = LogisticRegression(
            C=1 / (net.weight * len(scores)),
            l1_ratio=net.l1_ratio,
            solver="saga",
            tol=SETTLED,
            max_iter=MOST_PASSES,
            random_state=int(torch.randint(SEEDS, (), generator=draws)),
        ).fit(((scores - mean) / scale).numpy(), labels.numpy())
        weights, bias = (torch.from_numpy(x).double() for x in (fitted.coef_, fitted.intercept_))
        if len(classes) == 2:  # one row of weights: the log-odds of the second class
            weights, bias = (torch.cat([-x / 2, x / 2]) for x in (weights, bias))
        return cls(mean, scale, weights, bias, classes)

    def standardised(self, scores: Tensor) -> Tensor:
        """Scores (n, N) less the mean, in standard deviations."""
        return (scores - self.mean) / self.scale

    def logits(self, standardised: Tensor) -> Tensor:
        """Logits (n, C) of standardised scores (n, N)."""
        return standardised @ self.weights.T + self.bias

    def answers(self, scores: Tensor) -> Tensor:
        """The most likely class (n,) of concept scores (n, N), as a label."""
        return self.classes[self.logits(self.standardised(scores)).argmax(1)]

    def places(self, labels: Tensor) -> Tensor:
        """The positions (n,) of labels among :attr:`classes`, which hold them."""
        return torch.searchsorted(self.classes, labels)
