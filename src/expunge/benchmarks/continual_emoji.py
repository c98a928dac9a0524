"""Requests in a row on the emoji dual encoder: vectors, rules, strengths and what they leave.

Lin, Dong, Chen, Zhang, Xu, Chen (2026). CATA, and beside it the plain sum, a strength for each
request, sequential gradient difference, and vectors made with a retain term. Strengths are chosen
on the validation vendor; what is reported is of the test vendor.

Every rule is homogeneous in a common factor, and the change of a sequential method can be scaled
from the base just so. A common factor is therefore the one knob by which all configurations are
brought to the same retained accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from expunge.aggregation.fold import fold_each
from expunge.aggregation.protocol import Aggregation
from expunge.audit.measure import Measured, Panel
from expunge.benchmarks.setting import Setting
from expunge.changes.delta import Delta
from expunge.changes.strength import Search, largest, smallest
from expunge.methods.protocol import Method

Kind = Literal["original", "oracle", "rule", "best"]


@dataclass(frozen=True)
class Vectors:
    """One delta for each request, made on its arrival, and the seconds it took."""

    deltas: tuple[Delta, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Configuration:
    """A way to answer all requests.

    ``changes`` (T) is the combined change against the base after each step, before ``factor``.
    """

    name: str
    kind: Kind
    changes: tuple[Delta, ...]
    strengths: tuple[float, ...]
    chosen: str
    seconds: float
    factor: float = 1.0

    def model(self, base: nn.Module, step: int) -> nn.Module:
        """The model after step ``step`` (from 0)."""
        return self.changes[step].applied_to(base, self.factor)


def vectors(setting: Setting, method: Method, rule: Aggregation[Any]) -> Vectors:
    """The delta of each request, in order; retain data leave out what was asked for before."""
    deployment, deltas, seconds = setting.deployment(rule), [], []
    for request in setting.requests:
        before = setting.run.meter.seconds
        outcome = deployment.unlearn(request, method, setting.run)
        deployment.serve(request, method, outcome)
        [delta] = outcome.changes
        assert isinstance(delta, Delta)
        deltas.append(delta)
        seconds.append(setting.run.meter.seconds - before)
    return Vectors(tuple(deltas), tuple(seconds))


def sequential(
    setting: Setting, method: Method, rule: Aggregation[Any], name: str
) -> Configuration:
    """A method that starts from the current model at each request."""
    deployment, changes, before = setting.deployment(rule), [], setting.run.meter.seconds
    for request in setting.requests:
        deployment.forget(request, method, setting.run)
        changes.append(Delta.between(deployment.model, setting.base))
    seconds = setting.run.meter.seconds - before
    ones = (1.0,) * len(changes)
    return Configuration(name, "rule", tuple(changes), ones, "as the method made it", seconds)


TOLERANCE = 0.02
"""How near the mean probability of the right answer must come to the oracle's."""


def own_strengths(setting: Setting, made: Vectors, search: Search) -> tuple[tuple[float, ...], str]:
    """For each request alone on the base: the smallest strength at which the mean probability of
    the right answer on its validation rows is down to the oracle's, within the tolerance.

    Returns:
        the strengths, and in words how they were chosen and which requests no strength up to
        ``search.upper`` brought there (these get that one).
    """
    target = setting.scored(setting.oracle, setting.validation).confidence
    found: list[float | None] = []
    for j, delta in enumerate(made.deltas):
        panel = setting.validation.alone(j)
        level = float(target[j]) + TOLERANCE

        def forgotten(
            strength: float, d: Delta = delta, p: Panel = panel, at: float = level
        ) -> bool:
            model = d.applied_to(setting.base, strength)
            return float(setting.scored(model, p).confidence[0]) <= at

        found.append(smallest(forgotten, search))
    missed = [r.name for r, s in zip(setting.requests, found, strict=True) if s is None]
    chosen = "each alone, to the oracle's level"
    if missed:
        chosen += f" (not reached up to {search.upper:g}: {', '.join(missed)})"
    return tuple(search.upper if s is None else s for s in found), chosen


def configuration(
    setting: Setting,
    name: str,
    rule: Aggregation[Any],
    made: Vectors,
    strengths: Sequence[float],
    chosen: str,
    kind: Kind = "rule",
) -> Configuration:
    """The fold of the vectors after each step."""
    before = setting.run.meter.seconds
    with setting.run.meter.measured():
        changes = fold_each(rule, list(zip(made.deltas, strengths, strict=True)))
    seconds = sum(made.seconds) + setting.run.meter.seconds - before
    return Configuration(name, kind, tuple(changes), tuple(strengths), chosen, seconds)


def matched(setting: Setting, found: Configuration, floor: float, search: Search) -> Configuration:
    """The largest common factor up to ``search.upper`` at which, after the last step, the retained
    accuracy on validation is still at least ``floor``."""
    last = replace(found, changes=found.changes[-1:])

    def kept(factor: float) -> bool:
        model = replace(last, factor=factor).model(setting.base, 0)
        return setting.scored(model, setting.validation).retained >= floor

    return replace(found, factor=largest(kept, search))


def measured(setting: Setting, found: Configuration) -> list[Measured]:
    """The test panel after each step."""
    steps = range(len(found.changes))
    return [setting.scored(found.model(setting.base, t), setting.test) for t in steps]
