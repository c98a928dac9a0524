"""Descents that stop at one level: the log-probability that an oracle gives to forgotten answers.

A descent passes the level between two of its steps, and the model is taken there, on the line
between the two, which is a step long. So that it passes late, with the rate nearly run down, the
weight of the retain term is searched. Scaling a finished change back to the level is no substitute:
half way to the base even a flat minimum is left (docs/language.md).
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from expunge.descent.averages import Average
from expunge.descent.loop import Descent
from expunge.errors import ExpungeError
from expunge.problem import Problem
from expunge.run import Run

LATE = 2 / 3
"""Share of its steps after which a descent is to pass the level."""

BEYOND = 0.4
"""Nats below the level at which a descent that passes it late ends, about: what is aimed at."""

STEEPNESS = 2.0
"""Nats by which forgotten answers get likelier where the retain weight is e times as large: the
search's first guess."""

STRIDE = 2.0
"""How far the logarithm of the weight moves at most between two descents."""

HALVINGS = 8

LogProbability = Callable[[nn.Module], float]
"""The mean log-probability of the forgotten answers, in nats."""


@dataclass(frozen=True)
class Stopped:
    """Where a descent last came down to the level.

    Args:
        model: there; None where it never did.
        steps: as many, the last one as far as it was gone.
        total: steps of the whole descent.
        ended: nats from the level after all of them, above 0 where the answers are likelier.
    """

    model: nn.Module | None
    steps: float
    total: int
    ended: float

    @property
    def late(self) -> bool:
        """Whether it was near its end."""
        return self.model is not None and self.steps >= LATE * self.total


def stopped(
    descent: Descent,
    problem: Problem,
    run: Run,
    asked: LogProbability,
    level: float,
    average: Average | None = None,
) -> Stopped:
    """Follow a descent through all of its steps and look where it came down to the level.

    Args:
        descent: without an end or an average of its own.
        problem: the model to start from, and the rows.
        run: device and random numbers.
        asked: the log-probability of a model.
        level: that is looked for.
        average: of the weights up to each step, as if it were the last one; the averages are then
            what comes down to the level.
    """
    path = _Path(problem.model, average, asked, level)
    total = descent.minimise(problem, run, each=path.look).steps
    if path.found is not None:  # inside a descent nothing requires a gradient between two steps
        pairs = zip(path.found.parameters(), problem.model.parameters(), strict=True)
        for parameter, given in pairs:
            parameter.requires_grad_(given.requires_grad)
    return Stopped(path.found, path.steps, total, path.before)


def searched(descended: Callable[[float], Stopped], start: float, descents: int) -> "Searched":
    """Search the retain weight at which a descent passes the level late.

    Args:
        descended: where the descent at a retain weight stopped, and its miss is how much likelier
            than aimed at the answers were at its end.
        start: the first weight.
        descents: at most; the search ends at the first that passes late, and else the one that
            passed latest is taken.

    Raises:
        ExpungeError: none passed it.
    """
    tried: list[tuple[float, Stopped]] = []
    misses: list[tuple[float, float]] = []
    weight = start
    for _ in range(max(1, descents)):
        found = descended(weight)
        tried.append((weight, found))
        if found.late:
            break
        misses.append((weight, found.ended + BEYOND))
        weight = following(misses)
    passed = [(w, one) for w, one in tried if one.model is not None]
    if not passed:
        ends = ", ".join(f"{one.ended:+.2f}" for _, one in tried)
        raise ExpungeError(
            f"None of {len(tried)} descents made the forgotten answers as unlikely as the oracle "
            f"finds them: they ended {ends} nats from there. Take a weaker smoothing, or more "
            "steps."
        )
    best, stop = max(passed, key=lambda one: one[1].steps / one[1].total)
    return Searched(stop, best, tuple((w, one.ended) for w, one in tried))


@dataclass(frozen=True)
class Searched:
    """The descent that was taken.

    Args:
        stop: where it stopped.
        retain_weight: of it.
        tried: retain weights of all descents, each with the nats from the level at its end.
    """

    stop: Stopped
    retain_weight: float
    tried: tuple[tuple[float, float], ...]


def following(tried: Sequence[tuple[float, float]]) -> float:
    """The weight to try next: between the nearest misses on either side, or onwards from the last.

    Args:
        tried: weights with their misses; above 0 the answers are too likely, so that the weight of
            the retain term has to be smaller.
    """
    above = [t for t in tried if t[1] > 0]
    below = [t for t in tried if t[1] <= 0]
    if above and below:
        high, low = (min(side, key=lambda t: abs(t[1])) for side in (above, below))
        share = high[1] / (high[1] - low[1])
        return math.exp(math.log(high[0]) + share * (math.log(low[0]) - math.log(high[0])))
    weight, miss = tried[-1]
    return weight * math.exp(-max(-STRIDE, min(STRIDE, miss / STEEPNESS)))


class _Path:
    """The models of a descent as they come, of which the last way down through the level is kept.

    ``before`` is how far the last one was from the level.
    """

    def __init__(
        self, start: nn.Module, average: Average | None, asked: LogProbability, level: float
    ) -> None:
        self._average, self._asked, self._level = average, asked, level
        self._last, self._iterates = copy.deepcopy(start).eval(), list[nn.Module]()
        self.before = self._miss(self._last)
        self.found: nn.Module | None = None
        self.steps = 0.0

    def look(self, step: int, live: nn.Module) -> None:
        """After each step."""
        present = copy.deepcopy(live)
        if self._average is not None:
            self._iterates.append(present)
            present = _averaged(self._iterates, self._average)
        miss = self._miss(present)
        if miss <= 0 < self.before:
            share = self._passing(present)
            self.found, self.steps = _between(self._last, present, share), step - 1 + share
        self._last, self.before = present, miss

    def _miss(self, model: nn.Module) -> float:
        return self._asked(model) - self._level

    def _passing(self, present: nn.Module) -> float:
        """The share of the way from the last model, by bisection."""
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self._miss(_between(self._last, present, middle)) <= 0:
                high = middle
            else:
                low = middle
        return high


def _averaged(iterates: Sequence[nn.Module], average: Average) -> nn.Module:
    """The average of a descent that had ended at the last of them."""
    found = iterates[-1]
    for step, one in enumerate(iterates, start=1):
        if share := average.share(step, len(iterates)):
            found = _between(found, one, share)
    return found


def _between(one: nn.Module, other: nn.Module, share: float) -> nn.Module:
    found = copy.deepcopy(other)
    with torch.no_grad():
        for parameter, start in zip(found.parameters(), one.parameters(), strict=True):
            parameter.copy_(torch.lerp(start, parameter, share))
    return found
