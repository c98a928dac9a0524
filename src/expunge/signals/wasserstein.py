"""The Wasserstein-1 distance between what two models answer: how far numbers have to be carried.

Villani (2009). Optimal Transport, Old and New. On the line it is the area between the two
distribution functions, and for equally many numbers the mean distance of the sorted ones. Tarun,
Chundawat, Mandal, Kankanhalli (2023), Deep Regression Unlearning, take it between the answers of a
model and of the oracle on the forget rows.
"""

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

WASSERSTEIN = Metric(
    "Wasserstein distance (W1)",
    "closer to the oracle",
    "distance of the distributions of model's and oracle's answers, in the target's unit",
)


def wasserstein(found: Tensor, oracle: Tensor) -> float:
    """Wasserstein-1 distance between two sets of numbers, mean over the targets.

    It compares distributions, not answers row by row: two models that exchange the answers of two
    rows are at distance 0.

    Args:
        found: (n,) or (n, D) answers of a model.
        oracle: (m,) or (m, D) answers of another; n and m may differ.

    Returns:
        At least 0, in the unit of the numbers.

    Raises:
        ExpungeError: one is empty, not finite, or has another number of targets.
    """
    one, other = (side if side.dim() == 2 else side.unsqueeze(1) for side in (found, oracle))
    finite = bool(one.isfinite().all() and other.isfinite().all())
    if not len(one) or not len(other) or one.shape[1] != other.shape[1] or not finite:
        raise ExpungeError(
            f"The Wasserstein distance got answers of the shapes {tuple(found.shape)} and "
            f"{tuple(oracle.shape)}{'' if finite else ', not all of them finite'}; at least one "
            "finite row a side and equally many targets are expected."
        )
    columns = zip(one.double().T, other.double().T, strict=True)
    return float(torch.stack([_on_a_line(a, b) for a, b in columns]).mean())


def _on_a_line(one: Tensor, other: Tensor) -> Tensor:
    """Area between the distribution functions of numbers (n,) and (m,)."""
    places = torch.cat([one, other]).sort().values
    shares = [
        torch.searchsorted(side.sort().values, places[:-1], right=True).double() / len(side)
        for side in (one, other)
    ]
    return ((shares[0] - shares[1]).abs() * places.diff()).sum()
