"""Scores that say whether a text was trained on: its loss, its least likely tokens, its zlib ratio.

Yeom, Giacomelli, Fredrikson, Jha (2018), Privacy Risk in Machine Learning: the loss. Shi and others
(2024), Detecting Pretraining Data from Large Language Models: Min-K%. Carlini and others (2021),
Extracting Training Data from Large Language Models: the loss against what zlib makes of the text.
Every score is larger for likelier members, as :class:`~expunge.signals.roc.Roc` expects. PrivLeak
is of Shi and others (2024), MUSE: Machine Unlearning Six-Way Evaluation for Language Models.
"""

import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.families.abilities import UnitLosses
from expunge.signals.metric import Metric
from expunge.signals.roc import Roc

PRIVLEAK = Metric(
    "PrivLeak",
    "closer to the oracle",
    "100 x relative distance to the retrained model's AUC of Min-K%, hold-out against forget; "
    "near -100 forget is still recognised, far above 0 it is shunned",
    level=0.0,
)

MIN_K = 0.4
"""The share of MUSE."""

RETRAINED_AUC: Mapping[str, float] = MappingProxyType({"news": 0.4772, "books": 0.5393})
"""AUC of Min-40% of MUSE's retrained models, by corpus."""


def loss_score(losses: UnitLosses) -> Tensor:
    """Mean log-probability of the tokens of each text (rows,), float64."""
    return -losses.means().double()


def min_k_score(losses: UnitLosses, share: float = MIN_K) -> Tensor:
    """Mean log-probability of the least likely ``share`` of the tokens of each text (rows,).

    The number of tokens is rounded down, and is at least 1.

    Raises:
        ExpungeError: the share is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ExpungeError(f"Min-K% got the share {share:g}; a number in (0, 1] is expected.")
    values = losses.values.double().masked_fill(~losses.mask, -torch.inf)
    ordered = values.sort(1, descending=True).values
    # rounded first: 0.4 of 5 tokens are 2, whatever the last bit of the product
    kept = (losses.mask.sum(1).double() * share).mul(1e6).round().div(1e6).floor().clamp(min=1)
    among = torch.arange(values.shape[1], device=values.device) < kept.unsqueeze(1)
    return -(ordered.masked_fill(~among, 0.0).sum(1) / kept)


def zlib_score(losses: UnitLosses, texts: Sequence[str]) -> Tensor:
    """Minus the mean loss of each text (rows,) divided by its bytes after zlib, float64.

    Raises:
        ExpungeError: there are not as many texts as rows.
    """
    if len(texts) != len(losses.values):
        raise ExpungeError(
            f"The zlib ratio got {len(texts)} texts for {len(losses.values)} rows of losses; one "
            "text for each is expected."
        )
    sizes = [len(zlib.compress(text.encode())) for text in texts]
    return loss_score(losses).cpu() / torch.tensor(sizes, dtype=torch.float64)


def membership_auc(members: Tensor, others: Tensor) -> float:
    """AUC of scores (m,) of texts that were trained on against (n,) of texts that were not."""
    return Roc(members.double().cpu(), others.double().cpu()).auc


def privleak(forget: Tensor, holdout: Tensor, retrained_auc: float) -> float:
    """PrivLeak of a model: 0 for the retrained model itself.

    The AUC here is the chance that a hold-out text looks MORE like a training text than a forgotten
    one does: 0 where forgotten texts are still recognised.

    Args:
        forget: scores (m,) of the forgotten texts, such as :func:`min_k_score`.
        holdout: scores (n,) of texts that were never trained on.
        retrained_auc: that AUC of the retrained model.

    Raises:
        ExpungeError: the AUC of the retrained model is not in (0, 1].
    """
    if not 0 < retrained_auc <= 1:
        raise ExpungeError(
            f"PrivLeak got the AUC {retrained_auc:g} of the retrained model; a number in (0, 1] is "
            "expected."
        )
    return 100 * (membership_auc(holdout, forget) - retrained_auc) / retrained_auc
