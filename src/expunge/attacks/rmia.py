"""RMIA: a sample's likelihood ratio held against those of population samples; few shadows suffice.

Zarifzadeh, Liu, Shokri (2024). Low-Cost High-Power Membership Inference Attacks, equations 1 to 4
and appendix B.2.2 (the offline estimate). Released code sorts the signals to drop those of IN
models, which loses a true probability of 0; here they are chosen by membership, and everything is
computed from logarithms.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from expunge.attacks.shadows import Shadows, Target
from expunge.errors import ExpungeError
from expunge.signals.roc import Roc

OFFLINE_WEIGHTS = tuple(step / 10 for step in range(11))
"""The values of a that are tried."""


def rmia_offline(
    target: Target, shadows: Shadows, population: Tensor, a: float = 0.3, gamma: float = 1.0
) -> Tensor:
    """Share of the population that a sample's ratio p(target) / p exceeds by gamma, from OUT only.

    p(x) is estimated as ((1 + a) p_out(x) + 1 - a) / 2 with p_out the mean probability of the true
    class over OUT models, for population samples too.

    Args:
        target: the margins of the model attacked.
        shadows: at least 1 OUT model for each sample, population included.
        population: bool (samples,), True for samples the target surely did not train on; at least
            2. One of them is not held against itself.
        a: in [0, 1]; :func:`tuned_offline_weight` finds one.
        gamma: how many times larger the ratio must be; 1 in the code, 2 in the paper.

    Returns:
        (samples,) float64 in [0, 1], mean over queries; larger = likelier member.

    Raises:
        ExpungeError: other samples than the shadows', too few shadow models, too small a
            population, or ``a`` or ``gamma`` outside its range.
    """
    shadows.need("RMIA offline", inside=0, outside=1)
    if not 0 <= a <= 1:
        raise ExpungeError(f"RMIA got the weight a = {a}; a number in [0, 1] is expected.")

    def likelihood(log_p: Tensor) -> Tensor:
        out = _log_mean(log_p, ~shadows.member) + math.log((1 + a) / 2)
        return out if a == 1 else torch.logaddexp(out, out.new_tensor(math.log((1 - a) / 2)))

    return _exceeded(target, shadows, population, gamma, likelihood)


def rmia_online(target: Target, shadows: Shadows, population: Tensor, gamma: float = 1.0) -> Tensor:
    """Share of the population that the sample's ratio exceeds by gamma, from IN and OUT models.

    p(x) is the mean probability of the true class over all shadow models.

    Args:
        target: the margins of the model attacked.
        shadows: at least 1 IN and 1 OUT model for each sample outside the population.
        population: bool (samples,), as for :func:`rmia_offline`.
        gamma: how many times larger the ratio must be; 1 in the code, 2 in the paper.

    Returns:
        (samples,) float64 in [0, 1], mean over queries; larger = likelier member.

    Raises:
        ExpungeError: other samples than the shadows', too few shadow models, too small a
            population, or ``gamma`` not positive.
    """
    _check_population(population, shadows)
    asked = [name for name, z in zip(shadows.samples, population.tolist(), strict=True) if not z]
    if asked:
        shadows.of_samples(asked).need("RMIA online", inside=1, outside=1)
    everyone = torch.ones_like(shadows.member)

    def likelihood(log_p: Tensor) -> Tensor:
        return _log_mean(log_p, everyone)

    return _exceeded(target, shadows, population, gamma, likelihood)


def tuned_offline_weight(shadows: Shadows, model: str, gamma: float = 1.0) -> float:
    """The ``a`` of :func:`rmia_offline` with the best AUC when the others attack one shadow model.

    The shadow model's own non-members are the population. Of equal values the first one, from 0,
    is taken.

    Args:
        shadows: at least 2 models.
        model: name of the one that is attacked.
        gamma: as in the attack to come.

    Raises:
        ExpungeError: the model is unknown, or the shadows are too few.
    """
    target, others, member = shadows.target(model), shadows.without(model), shadows.member_of(model)

    def auc(a: float) -> float:
        return Roc.of(rmia_offline(target, others, ~member, a, gamma), member).auc

    return max(OFFLINE_WEIGHTS, key=auc)


def _exceeded(
    target: Target,
    shadows: Shadows,
    population: Tensor,
    gamma: float,
    likelihood: Callable[[Tensor], Tensor],
) -> Tensor:
    shadows.check(target)
    _check_population(population, shadows)
    if not gamma > 0:
        raise ExpungeError(f"RMIA got gamma = {gamma}; a positive number is expected.")
    ratios = logsigmoid(target.margins) - likelihood(logsigmoid(shadows.margins))
    asked = (ratios - math.log(gamma)).T.contiguous()
    known = ratios[population].T.sort(-1).values
    exceeded = torch.searchsorted(known, asked, right=False).double()
    # a ratio is above gamma times itself where gamma < 1, and never otherwise
    itself = population.double()
    if gamma < 1:
        exceeded = exceeded - itself
    return (exceeded / (known.shape[-1] - itself)).mean(0)


def _log_mean(log_p: Tensor, chosen: Tensor) -> Tensor:
    """Log of the mean probability over the chosen models, (samples, queries)."""
    left_out = log_p.masked_fill(~chosen.unsqueeze(-1), -torch.inf)
    return left_out.logsumexp(0) - chosen.sum(0).double().log().unsqueeze(-1)


def _check_population(population: Tensor, shadows: Shadows) -> None:
    if population.dtype != torch.bool or tuple(population.shape) != (len(shadows.samples),):
        raise ExpungeError(
            f"RMIA got a population as {population.dtype} of shape {tuple(population.shape)}; one "
            f"bool for each of the {len(shadows.samples)} samples is expected."
        )
    if int(population.sum()) < 2:
        raise ExpungeError(
            f"RMIA got {int(population.sum())} population samples; at least 2 that the target did "
            "not train on are expected. Give rows that nobody trained on."
        )
