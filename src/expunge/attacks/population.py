"""The population attack: where a sample's margin stands among non-members of its class.

Ye, Maddi, Murakonda, Bindschaedler, Shokri (2022). Enhanced Membership Inference Attacks against
Machine Learning Models, section 3.2 (attack P), here with one threshold for each class. It needs no
shadow models.
"""

import torch
from torch import Tensor

from expunge.attacks.shadows import Target
from expunge.errors import ExpungeError
from expunge.signals.roc import share_below

LEAST_OF_A_CLASS = 10
"""Non-members of a class that its distribution function is taken from, at least."""


def population_attack(
    target: Target,
    labels: Tensor,
    others: Tensor,
    least: int = LEAST_OF_A_CLASS,
) -> Tensor:
    """Share of the non-members of the same class with a smaller margin; larger = likelier member.

    A non-member that is scored itself is not held against itself. Equal margins count a half;
    queries are averaged. With n non-members in a class the scores step by 1 / (n - 1), so that the
    attack resolves no rate of false positives under 1 / n. There is no fall-back to all classes
    when a class has too few non-members: its scores would stand on another scale than the others'.

    Args:
        target: the margins of the model attacked.
        labels: (samples,) integers, the classes.
        others: bool (samples,), True for samples known to be no members.
        least: non-members expected of each class.

    Returns:
        (samples,) float64 in [0, 1].

    Raises:
        ExpungeError: shapes that do not fit, or a class with fewer than ``least`` non-members.
    """
    _check(target, labels, others)
    scores = torch.empty(len(labels), dtype=torch.float64)
    for label in sorted(set(labels.tolist())):
        own = labels == label
        known = own & others
        count = int(known.sum())
        if count < max(least, 2):
            raise ExpungeError(
                f"The population attack got {count} non-members of class {label}; at least "
                f"{max(least, 2)} are expected of every class. Give more rows that nobody trained "
                "on, or leave the samples of this class out."
            )
        below = share_below(target.margins[own].T, target.margins[known].T).mean(0)
        # a known non-member counts itself as a half among `count`
        alone = (below * count - 0.5) / (count - 1)
        scores[own] = torch.where(others[own], alone, below)
    return scores


def _check(target: Target, labels: Tensor, others: Tensor) -> None:
    expected = (len(target.samples),)
    if tuple(labels.shape) != expected or labels.is_floating_point():
        raise ExpungeError(
            f"The population attack got {labels.dtype} labels of shape {tuple(labels.shape)}; one "
            f"integer for each of the {expected[0]} samples is expected."
        )
    if tuple(others.shape) != expected or others.dtype != torch.bool:
        raise ExpungeError(
            f"The population attack got non-members as {others.dtype} of shape "
            f"{tuple(others.shape)}; one bool for each of the {expected[0]} samples is expected."
        )
