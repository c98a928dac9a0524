"""How well a score tells members from non-members: ROC, AUC, TPR at a small FPR, with intervals.

A score is larger for likelier members. Carlini, Chien, Nasr, Song, Terzis, Tramèr (2022),
Membership Inference Attacks From First Principles, section III, for the true-positive rate at a
small false-positive rate; Mann, Whitney (1947), On a Test of Whether one of Two Random Variables
is Stochastically Larger than the Other, for the area under the curve and its spread at chance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.accuracy import Interval
from expunge.signals.metric import Metric

ATTACK_AUC = Metric(
    "attack AUC",
    "closer to the oracle",
    "chance that a member scores above a non-member, equal scores counting a half",
    level=0.5,
)
ATTACK_BALANCED_ACCURACY = Metric(
    "attack balanced accuracy",
    "closer to the oracle",
    "mean of true-positive and true-negative rate at the attack's best threshold",
    level=0.5,
)
TPR_AT_1 = Metric(
    "TPR at 1 % FPR",
    "closer to the oracle",
    "share of members found while at most 1 % of the non-members are called members",
    level=0.01,
)
TPR_AT_01 = Metric(
    "TPR at 0.1 % FPR",
    "closer to the oracle",
    "share of members found while at most 0.1 % of the non-members are called members",
    level=0.001,
)

DRAWN_AT_ONCE = 4_000_000
"""Scores that the bootstrap holds at once."""

Statistic = Callable[[Tensor, Tensor], Tensor]
"""From members' (draws, m) and non-members' scores (draws, n) to (draws,) numbers."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The points of a ROC, from (0, 0) to (1, 1).

    Args:
        fpr: (k,) share of the non-members called members.
        tpr: (k,) share of the members called members.
        thresholds: (k,) falling from infinity; who scores at least this is called a member.
    """

    fpr: Tensor
    tpr: Tensor
    thresholds: Tensor


@dataclass(frozen=True, eq=False)
class Roc:
    """The scores of members and of non-members, and what they say of the attack.

    The intervals draw members and non-members apart and with replacement, as if the samples were
    independent. They say nothing about another training of the same model.

    Args:
        members: (m,) float64 scores, larger for likelier members; without NaN, m at least 2.
        others: (n,) float64 scores of non-members, n at least 2.

    Raises:
        ExpungeError: fewer than two scores on one side, another shape or type, or a NaN.
    """

    members: Tensor
    others: Tensor

    def __post_init__(self) -> None:
        for side, scores in (("members", self.members), ("non-members", self.others)):
            if scores.dim() != 1 or len(scores) < 2 or scores.dtype != torch.float64:
                raise ExpungeError(
                    f"A ROC got {scores.dtype} scores of shape {tuple(scores.shape)} for the "
                    f"{side}; float64 of shape (n,) with at least 2 samples is expected. Select "
                    "more samples."
                )
            if bool(scores.isnan().any()):
                raise ExpungeError(
                    f"A ROC got NaN among the scores of the {side}; numbers are expected. The "
                    "model has probably diverged: lower the learning rate or the strength."
                )

    @classmethod
    def of(cls, scores: Tensor, member: Tensor) -> Self:
        """The ROC of an attack's scores (samples,) where ``member`` (samples,) bool says the truth.

        Raises:
            ExpungeError: shapes differ, fewer than two samples on one side, or a NaN.
        """
        if scores.shape != member.shape or member.dtype != torch.bool:
            raise ExpungeError(
                f"A ROC got scores of shape {tuple(scores.shape)} and {member.dtype} membership of "
                f"shape {tuple(member.shape)}; one bool per score is expected."
            )
        scores = scores.detach().double().cpu()
        return cls(scores[member], scores[~member])

    @property
    def auc(self) -> float:
        """Area under the curve: P(member > non-member) + P(equal) / 2."""
        return float(_auc(self.members.unsqueeze(0), self.others.unsqueeze(0)))

    @property
    def balanced_accuracy(self) -> float:
        """The largest 1 - (FPR + 1 - TPR) / 2 over all thresholds, at least a half."""
        return float(_balanced_accuracy(self.members.unsqueeze(0), self.others.unsqueeze(0)))

    def tpr_at(self, fpr: float) -> float | None:
        """The largest TPR with at most this FPR; None where the non-members are too few to say.

        One non-member in n is an FPR of 1 / n, so that ``others_needed(fpr)`` are needed: 1,000 for
        0.1 %.

        Raises:
            ExpungeError: ``fpr`` is outside (0, 1).
        """
        if len(self.others) < others_needed(fpr):
            return None
        return float(_tpr_at(fpr)(self.members.unsqueeze(0), self.others.unsqueeze(0)))

    def curve(self) -> Curve:
        """All points of the curve; equal scores share a point."""
        scores: Tensor = torch.unique(torch.cat([self.members, self.others]))
        thresholds = scores.flip(0)
        shares = [
            1.0 - torch.searchsorted(side.sort().values, thresholds).double() / len(side)
            for side in (self.others, self.members)
        ]
        zero = torch.zeros(1, dtype=torch.float64)
        fpr, tpr = (torch.cat([zero, share]) for share in shares)
        return Curve(fpr, tpr, torch.cat([zero + torch.inf, thresholds]))

    def auc_interval(self, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Interval:
        """Percentile interval of the AUC; it has no width where the sides do not overlap."""
        return self._bootstrap(_auc, level, draws, seed)

    def balanced_accuracy_interval(
        self, level: float = 0.95, draws: int = 2000, seed: int = 0
    ) -> Interval:
        """Percentile interval of the balanced accuracy; the best threshold of each draw anew."""
        return self._bootstrap(_balanced_accuracy, level, draws, seed)

    def tpr_interval(
        self, fpr: float, level: float = 0.95, draws: int = 2000, seed: int = 0
    ) -> Interval | None:
        """Percentile interval of the TPR at this FPR; None where :meth:`tpr_at` is."""
        if len(self.others) < others_needed(fpr):
            return None
        return self._bootstrap(_tpr_at(fpr), level, draws, seed)

    def _bootstrap(self, statistic: Statistic, level: float, draws: int, seed: int) -> Interval:
        if not 0 < level < 1 or draws < 1:
            raise ExpungeError(
                f"The bootstrap of a ROC got the level {level} and {draws} draws; a share in "
                "(0, 1) and at least 1 draw are expected."
            )
        m, n = len(self.members), len(self.others)
        generator = torch.Generator().manual_seed(seed)
        at_once = max(1, DRAWN_AT_ONCE // (m + n))
        found = []
        for start in range(0, draws, at_once):
            rows = min(at_once, draws - start)
            members = self.members[torch.randint(m, (rows, m), generator=generator)]
            others = self.others[torch.randint(n, (rows, n), generator=generator)]
            found.append(statistic(members, others))
        tail = (1 - level) / 2
        ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
        low, high = torch.cat(found).quantile(ends).tolist()
        return Interval(low, high, level)


def share_below(asked: Tensor, reference: Tensor) -> Tensor:
    """Share of the reference below each value asked, equal ones counting a half.

    Args:
        asked: (..., a) numbers.
        reference: (..., r) numbers with the same leading axes.

    Returns:
        (..., a) float64 in [0, 1].
    """
    known, asked = reference.sort(-1).values, asked.contiguous()
    below = torch.searchsorted(known, asked, right=False).double()
    not_above = torch.searchsorted(known, asked, right=True).double()
    return (below + not_above) / (2 * reference.shape[-1])


def others_needed(fpr: float) -> int:
    """Non-members needed for a rate of false positives to be measured at all: 1 / fpr, rounded up.

    Raises:
        ExpungeError: ``fpr`` is outside (0, 1).
    """
    if not 0 < fpr < 1:
        raise ExpungeError(
            f"A TPR at a false-positive rate got the rate {fpr}; a share in (0, 1) is expected."
        )
    return math.ceil(round(1 / fpr, 6))


def auc_half_width(members: int, others: int, level: float = 0.95, power: float = 0.5) -> float:
    """How far from 0.5 an AUC must be for this many samples to tell it from chance.

    The spread of the AUC at chance is sqrt((m + n + 1) / (12 m n)) (Mann, Whitney 1947). With
    ``power`` 0.5 this is the half-width of its interval: 0.57 / sqrt(m) against very many
    non-members and 0.80 / sqrt(m) against equally many.

    Args:
        members: m, at least 1.
        others: n, at least 1.
        level: coverage of the two-sided interval.
        power: chance to find an AUC that is this far from 0.5, in [0.5, 1).

    Raises:
        ExpungeError: no samples, or a level or power outside its range.
    """
    if members < 1 or others < 1:
        raise ExpungeError(
            f"The width of an AUC got {members} members and {others} non-members; at least one of "
            "each is expected."
        )
    spread = (members + others + 1) / (12 * members * others)
    return _deviations(level, power) * math.sqrt(spread)


def members_needed(
    apart: float, others_per_member: float = 1.0, level: float = 0.95, power: float = 0.5
) -> int:
    """Members needed to tell an AUC that is ``apart`` from 0.5 from chance.

    The least m with :func:`auc_half_width` at most ``apart`` when there are
    ``others_per_member`` x m non-members.

    Args:
        apart: distance from 0.5, in (0, 0.5].
        others_per_member: non-members available for each member.
        level: coverage of the two-sided interval.
        power: chance to find such an AUC, in [0.5, 1); 0.5 asks for the half-width only.

    Raises:
        ExpungeError: a number outside its range.
    """
    if not 0 < apart <= 0.5 or not others_per_member > 0:
        raise ExpungeError(
            f"The number of members needed got a distance of {apart} and {others_per_member} "
            "non-members a member; a distance in (0, 0.5] and a positive number are expected."
        )
    # (m + k m + 1) / (12 k m^2) <= s, a quadratic inequality in m
    s, k = (apart / _deviations(level, power)) ** 2, others_per_member
    root = ((1 + k) + math.sqrt((1 + k) ** 2 + 48 * s * k)) / (24 * s * k)
    return max(1, math.ceil(root))


def _deviations(level: float, power: float) -> float:
    if not 0 < level < 1 or not 0.5 <= power < 1:
        raise ExpungeError(
            f"An attack's number of samples got the level {level} and the power {power}; shares in "
            "(0, 1) and [0.5, 1) are expected."
        )
    normal = NormalDist()
    return normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)


def _auc(members: Tensor, others: Tensor) -> Tensor:
    return share_below(members, others).mean(-1)


def _tpr_at(fpr: float) -> Statistic:
    def statistic(members: Tensor, others: Tensor) -> Tensor:
        allowed = math.floor(round(fpr * others.shape[-1], 6))
        # who scores above the first non-member too many is found before that one is
        first_too_many = others.sort(-1, descending=True).values[..., allowed]
        return (members > first_too_many.unsqueeze(-1)).double().mean(-1)

    return statistic


def _balanced_accuracy(members: Tensor, others: Tensor) -> Tensor:
    """The best threshold is a member's score, or above all."""
    thresholds = members.sort(-1).values
    rates = [
        1.0 - torch.searchsorted(side, thresholds, right=False).double() / side.shape[-1]
        for side in (thresholds, others.sort(-1).values)
    ]
    return 0.5 + (rates[0] - rates[1]).amax(-1).clamp(min=0.0) / 2
