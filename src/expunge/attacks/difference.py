"""Attacks on the difference of a model before and after a removal, which must not show what went.

Chen, Zhang, Wang, Backes, Humbert, Zhang (2021). When Machine Unlearning Jeopardizes Privacy: who
holds both versions of a model may learn more than from either. A removal moves the answers on all
samples, so each change is held against the change of samples that neither version trained on. With
shadow models that unlearned too, :mod:`expunge.attacks.u_lira` takes the changes of margins in the
place of the margins (:func:`margin_drop_of`).
"""

import torch
from torch import Tensor

from expunge.attacks.shadows import Target, check_same
from expunge.errors import ExpungeError
from expunge.signals import Predictions
from expunge.signals.predictions import check_same_samples


def margin_drop_of(before: Target, after: Target) -> Target:
    """Margin before minus margin after, as a target: a removed sample loses most.

    Raises:
        ExpungeError: the two were asked for other samples.
    """
    check_same(after, before)
    return Target(before.margins - after.margins, before.samples, after.model)


def margin_drop(before: Target, after: Target) -> Tensor:
    """How much of its margin a sample lost; larger = likelier removed, and so once a member.

    The plain difference orders the samples as the difference beside non-members does.

    Args:
        before: margins of the model before the removal.
        after: those of the model after it, on the same samples.

    Returns:
        (samples,) float64 in nats, mean over queries.

    Raises:
        ExpungeError: the two were asked for other samples.
    """
    return margin_drop_of(before, after).margins.mean(1)


def margin_change(before: Target, after: Target, others: Tensor) -> Tensor:
    """How far a sample's drop of margin is from that of non-members, either way.

    Args:
        before: margins of the model before the removal.
        after: those of the model after it, on the same samples.
        others: bool (samples,), True for samples that neither model trained on; at least 2. Each is
            held against the others among them.

    Returns:
        (samples,) float64 in nats, mean of absolute values over queries; larger = likelier removed.

    Raises:
        ExpungeError: the two were asked for other samples, or too few non-members.
    """
    return _beside(margin_drop_of(before, after).margins, others).abs().mean(1)


def logit_change(before: Predictions, after: Predictions, others: Tensor) -> Tensor:
    """How far the change of all logits of a sample is from the mean change of non-members.

    Logits are centred over the classes first, since adding a number to all of them changes no
    answer. A class that both models score -inf is left out.

    Args:
        before: predictions of the model before the removal.
        after: those of the model after it, on the same samples.
        others: bool (samples,), as for :func:`margin_change`.

    Returns:
        (samples,) float64, a Euclidean distance in nats; larger = likelier removed.

    Raises:
        ExpungeError: several models, other samples, too few non-members, or a class that one of the
            two models scores -inf.
    """
    if len(before.models) != 1 or len(after.models) != 1:
        raise ExpungeError(
            f"An attack on the difference got {len(before.models)} models before and "
            f"{len(after.models)} after a removal; one of each is expected. Pick them with "
            "of_models."
        )
    check_same_samples(after, before)
    first, second = before.logits[0].double(), after.logits[0].double()
    if not torch.equal(first.isneginf(), second.isneginf()):
        raise ExpungeError(
            "An attack on the difference got a score of -inf that only one of the two models "
            "gives; the same masked classes before and after a removal are expected."
        )
    return _beside(_centred(first) - _centred(second), others).square().sum(1).sqrt()


def _centred(logits: Tensor) -> Tensor:
    """Logits (samples, C) minus their mean over the classes that have a score; 0 for the others."""
    scored = ~logits.isneginf()
    kept = logits.masked_fill(~scored, 0.0)
    mean = kept.sum(1, keepdim=True) / scored.sum(1, keepdim=True)
    return (kept - mean).masked_fill(~scored, 0.0)


def _beside(changes: Tensor, others: Tensor) -> Tensor:
    """Changes (samples, d) minus the mean change of the other non-members."""
    if others.dtype != torch.bool or others.shape != changes.shape[:1]:
        raise ExpungeError(
            f"An attack on the difference got non-members as {others.dtype} of shape "
            f"{tuple(others.shape)}; one bool for each of the {len(changes)} samples is expected."
        )
    count = int(others.sum())
    if count < 2:
        raise ExpungeError(
            f"An attack on the difference got {count} non-members; at least 2 are expected. Give "
            "rows that neither model trained on."
        )
    apart = changes - changes[others].mean(0)
    # x - mean of the rest = (x - mean of all) n / (n - 1)
    return torch.where(others.unsqueeze(1), apart * count / (count - 1), apart)
