"""The forgetting score of the NeurIPS 2023 challenge: can unlearned be told from retrained models.

Triantafillou, Kairouz, Pedregosa, Hayes and others (2024). Are We Making Progress in Unlearning?
Findings from the First NeurIPS Unlearning Competition. Rates of the best attack on one sample give
the smallest epsilon of (epsilon, delta)-unlearning that they are compatible with; samples earn
points by it, halved every half nat.

Thresholds are cut between all margins that occur, where the released code takes a grid of 100 a
nat: the best threshold cannot fall between two of the grid. The best of many thresholds is above 0
for oracles against oracles too, so the score of a perfect method is far below 1 (about 0.2 for 64
models): read it beside that of further oracles.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.klom import paired_margins
from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric

FORGETTING_SCORE = Metric(
    "forgetting score (NeurIPS 2023)",
    "higher",
    "mean points of forget samples, halved with every half nat of the attacker's epsilon",
)
CHALLENGE_SCORE = Metric(
    "final score (NeurIPS 2023)",
    "higher",
    "forgetting score times retain and test accuracy over the oracles'",
)

PAIRS_AT_ONCE = 2**21
"""Intervals weighed at a time, over several samples: some 50 MiB."""


@dataclass(frozen=True)
class ChallengeRules:
    """The challenge's constants.

    Args:
        delta: of (epsilon, delta)-unlearning.
        most: epsilon of two populations that a threshold separates, in nats.
        slack: how far an interval may lie from the range of the narrower population and differ
            from its width, in nats.
        peaked: where one population's range is below this share of the other's, epsilon is
            ``most``.
        step: width of a step of points, in nats of epsilon.
        clip: largest absolute margin, in nats.
        least: fewest models a population may have (the challenge had 512).

    Raises:
        ExpungeError: a number has no use.
    """

    delta: float = 1e-5
    most: float = 50.0
    slack: float = 2.0
    peaked: float = 0.01
    step: float = 0.5
    clip: float = 100.0
    least: int = 20

    def __post_init__(self) -> None:
        positive = (self.most, self.slack, self.step, self.clip)
        if not (
            all(0 < number < math.inf for number in positive)
            and 0 <= self.delta < 1
            and 0 <= self.peaked < 1
            and self.least >= 3
        ):
            raise ExpungeError(
                f"The forgetting score got {self}; positive finite bounds, shares in [0, 1) and at "
                "least 3 models are expected."
            )

    def steps(self, models: int) -> int:
        """How many steps earn points: as far as the rates of so many models can show an epsilon."""
        return int(math.ceil(math.log(models - 1)) / self.step)


def attacker_epsilon(
    found: Signals, oracles: Signals, rules: ChallengeRules = ChallengeRules()
) -> Tensor:
    """The epsilon of the best attack that tells the two populations apart, (samples,) in nats.

    A threshold calls models beyond it one side (that of the larger median); an interval calls
    models inside it the side of the smaller range. Of the share FPR and FNR wrong, epsilon is the
    larger of ``log((1 - delta - FPR) / FNR)`` and ``log((1 - delta - FNR) / FPR)``, and at least 0.
    Where exactly one of them is 0, there are too few models to tell, and the threshold is dropped.

    Args:
        found: N unlearned models on the forget samples; they have a query "margin".
        oracles: N oracles on the same samples.
        rules: the constants.

    Returns:
        float64 (samples,) in [0, ``most``].

    Raises:
        ExpungeError: unequal or too few models, or other samples.
    """
    ours, theirs = paired_margins(found, oracles, rules.least)
    step = max(1, PAIRS_AT_ONCE // (2 * len(ours)) ** 2)
    table = _epsilons(len(ours), rules)
    starts = range(0, ours.shape[1], step)
    both = ((side[:, at : at + step].T.double() for side in (ours, theirs)) for at in starts)
    return torch.cat([_of_rows(p, q, table, rules) for p, q in both])


def forgetting_points(
    epsilon: Tensor, models: int, rules: ChallengeRules = ChallengeRules()
) -> Tensor:
    """Points of each sample in [0, 1], float64: 1 in the first step of epsilon, ½ in the second.

    Beyond the last step that ``models`` models can show there are none.
    """
    at = (epsilon.double() / rules.step).floor()
    return torch.where(at < rules.steps(models), 0.5**at, 0.0)


def forgetting_score(
    found: Signals, oracles: Signals, rules: ChallengeRules = ChallengeRules()
) -> float:
    """Mean points over the forget samples, in [0, 1].

    Raises:
        ExpungeError: as for :func:`attacker_epsilon`.
    """
    epsilon = attacker_epsilon(found, oracles, rules)
    return float(forgetting_points(epsilon, len(found.models), rules).mean())


def challenge_score(
    forgetting: float,
    retain: float,
    oracle_retain: float,
    test: float,
    oracle_test: float,
) -> float:
    """The final score: forgetting times the shares of the oracles' accuracies that are kept.

    Args:
        forgetting: :func:`forgetting_score`.
        retain: mean accuracy of the unlearned models on retain samples, a share.
        oracle_retain: that of the oracles.
        test: mean accuracy of the unlearned models on test samples, a share.
        oracle_test: that of the oracles.

    Raises:
        ExpungeError: a number is not a share, or an oracle's is 0.
    """
    shares = (forgetting, retain, oracle_retain, test, oracle_test)
    if not all(0 <= share <= 1 for share in shares) or not oracle_retain or not oracle_test:
        raise ExpungeError(
            f"The final score got {shares}; shares in [0, 1] are expected, the oracles' above 0."
        )
    return forgetting * (retain / oracle_retain) * (test / oracle_test)


def _epsilons(models: int, rules: ChallengeRules) -> Tensor:
    """Epsilon by how many models of each side are called wrong, (models + 1, models + 1).

    Row: wrong ones of the positive side. Dropped thresholds have -1, below every epsilon.
    """
    share = torch.arange(models + 1, dtype=torch.float64) / models
    missed, alarmed = share[:, None], share[None, :]
    left = 1.0 - rules.delta - share
    ratios = torch.maximum(
        left.clamp(min=0)[None, :].log() - missed.log(),
        left.clamp(min=0)[:, None].log() - alarmed.log(),
    )
    table = ratios.clamp(0.0, rules.most)
    table[(missed == 0) ^ (alarmed == 0)] = -1.0
    table[0, 0] = rules.most
    return table


def _of_rows(found: Tensor, oracles: Tensor, table: Tensor, rules: ChallengeRules) -> Tensor:
    """Epsilon of rows (samples, models)."""
    found, oracles = (side.clamp(-rules.clip, rules.clip) for side in (found, oracles))
    higher = (_middle(oracles) > _middle(found))[:, None]
    positive, negative = (
        torch.where(higher, oracles, found),
        torch.where(higher, found, oracles),
    )
    margins, order = torch.cat([positive, negative], 1).sort(1)
    is_positive = (order < positive.shape[1]).long()
    best = torch.maximum(
        _best_threshold(margins, is_positive, table),
        _best_interval(positive, negative, margins, is_positive, table, rules),
    )
    spans = torch.stack([_span(positive), _span(negative)])
    peaked = spans.amin(0) < rules.peaked * spans.amax(0)
    constant = margins[:, 0] == margins[:, -1]  # one answer for all: nothing to tell apart
    # Populations that touch in one value only have no threshold left: as good as separated.
    best = torch.where(peaked | (best < 0), rules.most, best)
    return torch.where(constant, 0.0, best)


def _best_threshold(margins: Tensor, is_positive: Tensor, table: Tensor) -> Tensor:
    """The largest epsilon over cuts before each of the sorted margins (samples, 2 models)."""
    below = is_positive.cumsum(1) - is_positive
    position = torch.arange(margins.shape[1])
    alarms = margins.shape[1] // 2 - (position - below)
    first, _ = _ends(margins)
    return torch.where(first, table[below, alarms], -1.0).amax(1)


def _best_interval(
    positive: Tensor,
    negative: Tensor,
    margins: Tensor,
    is_positive: Tensor,
    table: Tensor,
    rules: ChallengeRules,
) -> Tensor:
    """The largest epsilon over intervals from one to another of the sorted margins.

    An interval may end within ``slack`` of the narrower side's largest margin, and its width may
    differ from that side's range by ``slack``.
    """
    narrower = _span(positive) < _span(negative)
    inside = torch.where(narrower[:, None], is_positive, 1 - is_positive)
    top = torch.where(narrower, positive.amax(1), negative.amax(1))[:, None]
    span = torch.where(narrower, _span(positive), _span(negative))[:, None, None]
    first, last = _ends(margins)
    beyond = torch.full_like(top, math.inf)
    start_low, start_high = torch.cat([-beyond, margins[:, :-1]], 1), margins
    end_low = torch.maximum(margins, top - rules.slack)
    end_high = torch.minimum(torch.cat([margins[:, 1:], beyond], 1), top + rules.slack)
    fits = (
        first[:, :, None]
        & (last & (end_low <= end_high))[:, None, :]
        & (end_low[:, None, :] - start_high[:, :, None] <= span + rules.slack)
        & (end_high[:, None, :] - start_low[:, :, None] >= span - rules.slack)
    ).triu()
    upto = inside.cumsum(1)
    caught = upto[:, None, :] - (upto - inside)[:, :, None]
    position = torch.arange(margins.shape[1])
    alarms = (position[None, :] - position[:, None] + 1) - caught
    missed = margins.shape[1] // 2 - caught
    found = table[missed.where(fits, 0), alarms.where(fits, 0)]
    return torch.where(fits, found, -1.0).amax((1, 2))


def _ends(margins: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the sorted margins are the first and the last of their value."""
    changes = margins[:, 1:] > margins[:, :-1]
    edge = torch.ones(len(margins), 1, dtype=torch.bool)
    return torch.cat([edge, changes], 1), torch.cat([changes, edge], 1)


def _span(rows: Tensor) -> Tensor:
    return rows.amax(1) - rows.amin(1)


def _middle(rows: Tensor) -> Tensor:
    return rows.quantile(0.5, dim=1)
