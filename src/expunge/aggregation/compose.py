"""Composing: the model that an epoch's base and changes add up to.

Deltas are folded by the rule, then Adapters are added tensor by tensor, then Guards of one kind are
merged and put around the model. Redactions act on the input and leave the model alone.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from torch import nn

from expunge.aggregation.fold import fold
from expunge.aggregation.protocol import Aggregation
from expunge.changes.history import Epoch
from expunge.changes.kinds import Adapter, Guard
from expunge.changes.weights import digest_of, parameters_of, with_weights
from expunge.errors import IntegrityError

C = TypeVar("C")


def compose(base: nn.Module, epoch: Epoch, rule: Aggregation[Any]) -> nn.Module:
    """The model after all requests of ``epoch``; ``base`` is not changed.

    Raises:
        IntegrityError: ``base`` is not the base of the epoch.
    """
    found = digest_of(base)
    if found != epoch.base:
        raise IntegrityError(
            f"The history stands on the base {epoch.base[:12]} and was given {found[:12]}; "
            "compose it from its own base."
        )
    deltas = epoch.deltas()
    model = fold(rule, deltas).applied_to(base) if deltas else base
    for adapter in _of_kind(epoch, Adapter):
        weights = parameters_of(model)
        model = with_weights(model, {n: weights[n] + t for n, t in adapter.tensors()})
    by_kind: dict[str, list[Guard]] = {}
    for guard in _of_kind(epoch, Guard):
        by_kind.setdefault(guard.kind, []).append(guard)
    for first, *others in by_kind.values():
        model = first.merged(others).around(model)
    return model


def _of_kind(epoch: Epoch, kind: type[C]) -> Iterable[C]:
    return (c for entry in epoch.served for c in entry.changes if isinstance(c, kind))
