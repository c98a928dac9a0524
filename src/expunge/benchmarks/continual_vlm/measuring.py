"""What is measured of any model and any requests: cells, factors, conflicts, and the problem of one
request alone."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge import registry
from expunge.aggregation.fold import fold_each, folded
from expunge.aggregation.protocol import Aggregation
from expunge.audit.measure import Measured
from expunge.benchmarks.continual_vlm.strengths import Lengths, turn, weight_norm
from expunge.changes.delta import Delta
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.families.abilities import Family
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request
from expunge.signals import binomial_interval


def alone(
    base: nn.Module,
    family: Family,
    request: Request,
    train: Samples,
    forget: Tensor,
    reserve: Tensor,
) -> Problem:
    """One request to the base, as if there were no other.

    Args:
        base: the model before any request.
        family: what kind of model it is.
        request: what is asked.
        train: all training rows.
        forget: positions (n,) of those that the request names.
        reserve: positions (m,) of those that no request may name: what is retained.
    """
    data = {
        Role.TRAIN: train,
        Role.FORGET: train.select(forget),
        Role.RETAIN: train.select(reserve),
    }
    return Problem(base, family, request, data, History.of(digest_of(base)))


@dataclass(frozen=True)
class Followed:
    """The combined change after each request, the seconds of one thread that folding took, and the
    bytes of what the rule keeps between requests."""

    changes: list[Delta]
    seconds: float
    bytes: int


def followed(rule: str, deltas: Sequence[Delta]) -> Followed:
    """A registered rule on deltas, one after another."""
    made: Aggregation[Any] = registry.load("aggregations", rule)()
    pairs = [(delta, 1.0) for delta in deltas]
    start = time.process_time()
    changes = fold_each(made, pairs)
    seconds = time.process_time() - start
    return Followed(changes, seconds, size_of(folded(made, pairs).bundle().tensors.values()))


def combined(rule: str, deltas: Sequence[Delta]) -> Delta:
    """The change of all deltas by a registered rule."""
    made: Aggregation[Any] = registry.load("aggregations", rule)()
    return made.combine(folded(made, [(delta, 1.0) for delta in deltas]))


def matched_factor(
    change: Delta, base: nn.Module, floor: float, retained: Callable[[nn.Module], float]
) -> dict[str, Any]:
    """The largest factor of a change at which a model still has the retained accuracy ``floor``;
    as :func:`factor_at`."""

    def lost(factor: float) -> bool:
        return retained(change.applied_to(base, factor)) < floor

    return factor_at(lost, change, base, smallest=False)


def factor_at(
    turned: Callable[[float], bool], change: Delta, base: nn.Module, *, smallest: bool
) -> dict[str, Any]:
    """The factor above (the smallest) or below the place where a condition turns, the ``length`` of
    what it leads to, and whether the condition turned at all (``reached``)."""
    unit, norm = weight_norm(base), change.norm()
    if norm == 0:  # a rule may leave nothing, whatever it is multiplied by
        return {"factor": 1.0, "length": 0.0, "reached": False}
    found = turn(lambda length: turned(length * unit / norm), Lengths())
    length = found.above if smallest and found.above is not None else found.below
    return {
        "factor": length * unit / norm,
        "length": length,
        "reached": found.above is not None,
    }


def cells(steps: Sequence[Measured]) -> dict[str, Any]:
    """Of each step the accuracy on each request with its 95 % interval (Wilson)."""
    ranges = [
        [
            binomial_interval(round(share * len(rows)), len(rows))
            for share, rows in zip(step.requests.tolist(), step.panel.groups, strict=True)
        ]
        for step in steps
    ]
    return {
        "requests": [step.requests.tolist() for step in steps],
        "low": [[interval.low for interval in row] for row in ranges],
        "high": [[interval.high for interval in row] for row in ranges],
    }


def of_end(found: Measured) -> dict[str, Any]:
    """After the last step the share of all requested rows (``end``, with its 95 % interval), the
    accuracy on what nobody asked to remove, and on all rows."""
    asked = torch.cat(found.panel.groups)
    right = found.signals.query("correct")[0]
    count = int(right[asked].sum())
    interval = binomial_interval(count, len(asked))
    return {
        "end": [count / len(asked), interval.low, interval.high],
        "retained": found.retained,
        "all": float(right.double().mean()),
    }


def conflicts(deltas: Sequence[Delta]) -> dict[str, float]:
    """Of the coordinates that some delta moves the share that two move ``opposite`` ways, and the
    share that several move at all (``shared``); and the share of all moves that is ``cancelled`` in
    the sum, 1 - sum |sum_i v_i| / sum sum_i |v_i|.

    Vectors that move every coordinate are opposite nearly everywhere, whatever they say: of T
    random ones 1 - 2 / 2^T. What is cancelled weighs each coordinate by how far it is moved.
    """
    moved = shared = opposite = 0
    left = asked = 0.0
    for name in sorted({name for delta in deltas for name in delta.entries}):
        held = torch.stack([delta.dense(name) for delta in deltas if name in delta.entries])
        left += float(held.double().sum(0).abs().sum())
        asked += float(held.double().abs().sum())
        signs = held.sign()
        count = signs.abs().sum(0)
        moved += int((count > 0).sum())
        shared += int((count > 1).sum())
        opposite += int((signs.sum(0).abs() < count).sum())
    return {
        "shared": shared / max(moved, 1),
        "opposite": opposite / max(moved, 1),
        "cancelled": 1 - left / asked if asked else 0.0,
    }


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
