"""How well a concept was taken out of a grid of objects by styles, as judged by classifiers.

Zhang et al. (2024). UnlearnCanvas. Pictures are drawn for every cell; two judges say which object
and which style each shows. All three are shares of pictures. Unlearning accuracy counts ANY other
answer as success, garbage too: read it beside a share of garbage and a distance to real pictures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

UNLEARNING = Metric(
    "unlearning accuracy", "closer to the oracle", "pictures of the target judged as something else"
)
IN_DOMAIN = Metric(
    "in-domain retain accuracy", "higher", "pictures of other words of the domain judged right"
)
CROSS_DOMAIN = Metric(
    "cross-domain retain accuracy", "higher", "the other domain judged right, without the target"
)


@dataclass(frozen=True)
class Grid:
    """The three accuracies of one target."""

    unlearning: float
    in_domain: float
    cross_domain: float


def grid_accuracies(
    told: Tensor, judged: Tensor, other_told: Tensor, other_judged: Tensor, target: int
) -> Grid:
    """Accuracies of a target, each a mean over the words of its domain.

    Args:
        told: the word (n,) of the target's domain that each picture was asked for.
        judged: the one (n,) that it is judged to show.
        other_told: the word (n,) of the other domain.
        other_judged: the one (n,) that it is judged to show.
        target: among the words of the target's domain; its pictures are left out of what is
            retained, in both domains.

    Raises:
        ExpungeError: no picture is of the target, or all are.
    """
    of_target = told == target
    if not bool(of_target.any()) or bool(of_target.all()):
        raise ExpungeError(
            f"{int(of_target.sum())} of {len(told)} pictures were asked for with the target; some "
            "and not all are expected."
        )
    kept = ~of_target
    return Grid(
        float((judged[of_target] != target).double().mean()),
        _mean_by_word(told[kept], judged[kept]),
        _mean_by_word(other_told[kept], other_judged[kept]),
    )


def _mean_by_word(told: Tensor, judged: Tensor) -> float:
    words = sorted(set(told.tolist()))
    return float(torch.stack([(judged[told == w] == w).double().mean() for w in words]).mean())
