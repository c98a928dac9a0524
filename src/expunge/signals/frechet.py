"""How far two sets of pictures are apart, by the features that a network gives them.

Frechet distance: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017). GANs Trained by a Two
Time-Scale Update Rule. Kernel distance: Binkowski, Sutherland, Arbel, Gretton (2018). Demystifying
MMD GANs. Both depend on the features: say which network gave them, and compare equal numbers of
pictures alone.
"""

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

FRECHET = Metric(
    "Frechet distance",
    "lower",
    "of two sets of features as normal distributions; its floor is that of two halves of real rows",
)
KERNEL = Metric(
    "kernel distance",
    "lower",
    "unbiased squared mean discrepancy of two sets of features under (a b / d + 1)^3",
)


def frechet_distance(real: Tensor, drawn: Tensor) -> float:
    """|m_r - m_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)), from eigenvalues in double precision.

    Args:
        real: features (n, d).
        drawn: features (m, d).

    Raises:
        ExpungeError: a set has fewer than two rows, the widths differ, or a number is not finite.
    """
    first, second = _checked(real, drawn)
    means = (first.mean(0) - second.mean(0)).square().sum()
    covariances = [_covariance(part) for part in (first, second)]
    root = _root(covariances[0])
    middle = torch.linalg.eigvalsh(root @ covariances[1] @ root)
    crossed = middle.clamp(min=0).sqrt().sum()
    return float(means + covariances[0].trace() + covariances[1].trace() - 2 * crossed)


def kernel_distance(real: Tensor, drawn: Tensor) -> float:
    """The unbiased estimate of the squared discrepancy; it may be a little below 0.

    Args:
        real: features (n, d).
        drawn: features (m, d).

    Raises:
        ExpungeError: as :func:`frechet_distance`.
    """
    first, second = _checked(real, drawn)
    width = first.shape[1]

    def within(part: Tensor) -> Tensor:
        kernel = (part @ part.T / width + 1) ** 3
        return (kernel.sum() - kernel.diagonal().sum()) / (len(part) * (len(part) - 1))

    across = ((first @ second.T / width + 1) ** 3).mean()
    return float(within(first) + within(second) - 2 * across)


def _checked(real: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    if min(len(real), len(drawn)) < 2 or real.dim() != 2 or real.shape[1:] != drawn.shape[1:]:
        raise ExpungeError(
            f"Features of shape {tuple(real.shape)} and {tuple(drawn.shape)} were given; two sets "
            "of at least two rows with as many numbers each are expected."
        )
    if not bool(torch.isfinite(real).all() and torch.isfinite(drawn).all()):
        raise ExpungeError(
            "A feature is NaN or infinite; finite features are expected. Pictures that were drawn "
            "by a model that diverged have none."
        )
    return real.double(), drawn.double()


def _covariance(features: Tensor) -> Tensor:
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    found: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return found
