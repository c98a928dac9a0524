"""LEACE as a probe: how well a concept can be read from features by a linear map, and how not.

Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman (2023). LEACE: Perfect Linear Concept
Erasure in Closed Form. With the whitening W of the features' covariance and the projection P on the
columns of W times their cross-covariance with the concept, ``x - W⁺ P W (x - mean)`` has no
covariance with the concept, and no affine map that achieves this moves the features less. Without
covariance no linear probe beats the best constant one on the samples that the map was fitted on.

It is a measure here, not a method: a model that forgot a concept has features from which a probe
reads it no better than from an oracle's. Erasing shows what the probe scores at nothing to read.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

CONCEPT_READING = Metric(
    "linear reading of the concept",
    "closer to the oracle",
    "share of unseen samples whose concept a linear probe reads from the features",
)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Eraser:
    """The affine map ``x - left right (x - mean)`` that erases a concept of k classes.

    Args:
        mean: (d,) float64, which the map leaves where it is.
        left: (d, r), r at most k - 1.
        right: (r, d).
    """

    mean: Tensor
    left: Tensor
    right: Tensor

    @classmethod
    def fit(cls, features: Tensor, concept: Tensor) -> Self:
        """The least-squares eraser of a concept from features.

        Args:
            features: (n, d), n at least 2.
            concept: (n,) integers or truth values, of at least two kinds.

        Raises:
            ExpungeError: shapes that do not fit, a concept of one kind, features not finite.
        """
        features, labels = _checked(features, concept)
        mean = features.mean(0)
        centred = features - mean
        values, axes = torch.linalg.eigh(centred.T @ centred / len(features))
        # Directions without variance hold nothing to read; 1 / 0 would fill them with rounding.
        kept = values > values[-1] * max(features.shape) * torch.finfo(torch.float64).eps
        values, axes = values[kept], axes[:, kept]
        whiten = axes * values.rsqrt()
        left, size, _ = torch.linalg.svd(
            whiten.T @ cross_covariance(features, labels), full_matrices=False
        )
        used = left[:, size > 1e-12]  # whitened: a singular value is at most 1, a correlation
        return cls(mean, (axes * values.sqrt()) @ used, used.T @ whiten.T)

    def __call__(self, features: Tensor) -> Tensor:
        """The features (n, d) without the concept, float64."""
        features = features.double()
        return features - ((features - self.mean) @ self.right.T) @ self.left.T


@dataclass(frozen=True)
class LinearProbe:
    """How a linear probe does on samples it was not fitted on.

    Args:
        accuracy: share read right.
        loss: mean cross-entropy in nats.
    """

    accuracy: float
    loss: float


@dataclass(frozen=True)
class ConceptReading:
    """A probe of the features, of the features without the concept, and the best constant answer.

    Args:
        before: logistic regression on the features.
        after: logistic regression on the features that :class:`Eraser` left.
        constant: always the shares of the fitted samples; its answer is the most frequent kind.
        samples: how many were asked; none of them was fitted on.
    """

    before: LinearProbe
    after: LinearProbe
    constant: LinearProbe
    samples: int


def cross_covariance(features: Tensor, concept: Tensor) -> Tensor:
    """Covariance of features (n, d) and concept (n,), one column a kind: (d, k) float64.

    Raises:
        ExpungeError: as for :meth:`Eraser.fit`.
    """
    features, labels = _checked(features, concept)
    kinds = (labels[:, None] == _kinds(labels)).double()
    return (features - features.mean(0)).T @ (kinds - kinds.mean(0)) / len(features)


def read_concept(
    features: Tensor, concept: Tensor, asked: Tensor, asked_concept: Tensor
) -> ConceptReading:
    """How well a concept is read linearly from a model's features, before and after erasing it.

    Eraser and probes are fitted on one set of samples and asked about another. Both probes see
    features in units of the standard deviations before erasing: scaled again afterwards, a
    direction that erasing emptied would come back as rounding.

    Args:
        features: (n, d) to fit on.
        concept: (n,) integers or truth values.
        asked: (m, d) of other samples.
        asked_concept: (m,), kinds that are among those fitted on.

    Raises:
        ExpungeError: as for :meth:`Eraser.fit`; other widths or kinds among the samples asked.
    """
    features, labels = _checked(features, concept)
    asked, wanted = _checked(asked, asked_concept, least_kinds=1)
    unknown = sorted(set(wanted.tolist()).difference(labels.tolist()))
    if asked.shape[1] != features.shape[1] or unknown:
        raise ExpungeError(
            f"The probe got {asked.shape[1]} features and the unknown kinds {unknown} to read, "
            f"and was fitted on {features.shape[1]} features; the same features and kinds are "
            "expected. Take both from one model and one concept."
        )
    mean, scale = features.mean(0), features.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    features, asked = (features - mean) / scale, (asked - mean) / scale
    eraser = Eraser.fit(features, labels)
    kinds = _kinds(labels)
    shares = (labels[:, None] == kinds).double().mean(0).expand(len(wanted), -1)
    return ConceptReading(
        _probe(features, labels, asked, wanted),
        _probe(eraser(features), labels, eraser(asked), wanted),
        _scored(shares.numpy(), kinds.numpy(), wanted.numpy()),
        len(wanted),
    )


def _probe(features: Tensor, labels: Tensor, asked: Tensor, wanted: Tensor) -> LinearProbe:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=1000).fit(features.numpy(), labels.numpy())
    return _scored(fitted.predict_proba(asked.numpy()), fitted.classes_, wanted.numpy())


def _scored(p: Numbers, kinds: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> LinearProbe:
    """Accuracy and loss of probabilities (m, k) of ``kinds``, sorted."""
    own = p[np.arange(len(wanted)), np.searchsorted(kinds, wanted)]
    smallest = np.finfo(np.float64).tiny
    right = kinds[p.argmax(1)] == wanted
    return LinearProbe(float(right.mean()), float(-np.log(np.maximum(own, smallest)).mean()))


def _kinds(concept: Tensor) -> Tensor:
    """The values that occur, in their order."""
    return torch.from_numpy(np.unique(concept.detach().cpu().numpy()))


def _checked(features: Tensor, concept: Tensor, least_kinds: int = 2) -> tuple[Tensor, Tensor]:
    if features.dim() != 2 or concept.shape != features.shape[:1] or 0 in features.shape:
        raise ExpungeError(
            f"The probe got features of shape {tuple(features.shape)} and a concept of shape "
            f"{tuple(concept.shape)}; (n, d) and (n,) with at least one sample are expected."
        )
    if concept.is_floating_point() or len(_kinds(concept)) < least_kinds:
        raise ExpungeError(
            f"The probe got a {concept.dtype} concept with {len(_kinds(concept))} kinds; integers "
            f"or truth values of at least {least_kinds} are expected. Take samples with and "
            "without the concept."
        )
    if not bool(features.isfinite().all()):
        raise ExpungeError(
            "The probe got NaN or infinite features; finite numbers are expected. The model has "
            "probably diverged: lower the learning rate or the strength."
        )
    return features.detach().double().cpu(), concept.detach().long().cpu()
