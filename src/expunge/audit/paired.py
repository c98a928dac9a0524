"""Tests over seeds: whether two methods differ, by their differences on the same seeds.

The exact sign-flip permutation test on the differences of each seed (Fisher 1935, The Design of
Experiments), with Holm's (1979) correction over all pairs, and Student's interval of the mean
difference. With few seeds the smallest p that the test can reach is large: 2 / 2^n for n seeds, so
0.25 for three. It stands beside every p.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from expunge.errors import ExpungeError

MOST_EXACT = 16
"""Seeds up to which every pattern of signs is counted; beyond, patterns are drawn."""

DRAWN = 100_000
"""Patterns of signs that are drawn, the observed one counted beside them."""

LEVEL = 0.05


@dataclass(frozen=True)
class Paired:
    """Two methods on the seeds that both answered.

    ``difference`` is the mean over ``seeds`` of ``first`` minus ``second``, with its 95 %
    interval (None for fewer than two seeds). ``p`` is two-sided, ``smallest`` the least that this
    number of seeds can reach, ``holm`` p corrected for all pairs that were tested together.
    """

    first: str
    second: str
    seeds: int
    difference: float
    interval: tuple[float, float] | None
    p: float
    smallest: float
    holm: float


def sign_flip(differences: Sequence[float]) -> float:
    """The two-sided p of the sign-flip test on the mean of paired differences (n,).

    Under the null hypothesis each difference is as likely as its negative. p is the share of the
    2^n patterns of signs whose mean is at least as far from 0 as the observed one. Beyond 16
    differences, 100,000 patterns are drawn from a fixed seed.

    Raises:
        ExpungeError: there is no difference, or one is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise ExpungeError(
            f"The sign-flip test got {list(differences)}; at least one finite difference is "
            "expected."
        )
    sums = np.abs(_signs(len(values)) @ values)
    # sums of the same numbers in another order differ by rounding, which goes with their size
    observed = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    return float((sums >= observed).mean())


def _signs(count: int) -> npt.NDArray[np.float64]:
    """Patterns of signs (m, count), the observed one (all +1) first."""
    if count <= MOST_EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=count)))
    drawn = np.random.default_rng(0).integers(0, 2, (DRAWN, count)) * 2.0 - 1.0
    return np.vstack([np.ones((1, count)), drawn])


def smallest_p(seeds: int) -> float:
    """The least two-sided p of the sign-flip test with this many seeds."""
    return 2.0 / 2**seeds if seeds <= MOST_EXACT else 1.0 / (DRAWN + 1)


def seeds_needed(pairs: int, level: float = LEVEL) -> int:
    """The fewest seeds with which Holm's correction over ``pairs`` can reach ``level`` at all."""
    return math.ceil(math.log2(2 * max(1, pairs) / level))


def student_interval(
    differences: Sequence[float], level: float = 0.95
) -> tuple[float, float] | None:
    """The interval of the mean difference by Student's t; None for fewer than two differences.

    It assumes normal differences, which a handful of seeds cannot show.
    """
    if len(differences) < 2:
        return None
    mean, spread = fmean(differences), stdev(differences)
    reach = float(stdtrit(len(differences) - 1, (1 + level) / 2))
    half = reach * spread / math.sqrt(len(differences))
    return mean - half, mean + half


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values (m,) that hold for the whole family of tests."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = highest
    return corrected


def compared_in_pairs(values: Mapping[str, Mapping[int, float]]) -> list[Paired]:
    """Every pair of methods, in the given order, tested on the seeds that both have.

    Args:
        values: by method, by seed. Pairs without a common seed are left out.
    """
    pairs = []
    for first, second in itertools.combinations(values, 2):
        common = sorted(values[first].keys() & values[second].keys())
        if common:
            pairs.append((first, second, [values[first][s] - values[second][s] for s in common]))
    ps = [sign_flip(differences) for *_, differences in pairs]
    return [
        Paired(
            first,
            second,
            len(differences),
            fmean(differences),
            student_interval(differences),
            p,
            smallest_p(len(differences)),
            corrected,
        )
        for (first, second, differences), p, corrected in zip(pairs, ps, holm(ps), strict=True)
    ]
