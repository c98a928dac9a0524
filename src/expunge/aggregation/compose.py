"""Composing: the model that an epoch's base and changes add up to.

Deltas are folded by the rule, then Adapters are added tensor by tensor, each at its strength, then
Guards of one kind are merged and put around the model. Redactions act on the input and leave the
model alone.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from torch import nn

from expunge.aggregation.fold import fold
from expunge.aggregation.protocol import Aggregation
from expunge.changes.history import Epoch
from expunge.changes.kinds import Adapter, Guard
from expunge.changes.weights import digest_of, shifted
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
    for adapter, strength in _of_kind(epoch, Adapter):
        model = shifted(model, adapter.tensors(), strength)
    return behind(model, [guard for guard, _ in _of_kind(epoch, Guard)])


def behind(model: nn.Module, guards: Sequence[Guard]) -> nn.Module:
    """A model behind guards, those of one kind merged; the model itself where there are none."""
    by_kind: dict[str, list[Guard]] = {}
    for guard in guards:
        by_kind.setdefault(guard.kind, []).append(guard)
    for first, *others in by_kind.values():
        model = first.merged(others).around(model)
    return model


def _of_kind(epoch: Epoch, kind: type[C]) -> Iterable[tuple[C, float]]:
    """The changes of a kind, each with the strength that it was served at."""
    return (
        (c, entry.strength) for entry in epoch.served for c in entry.changes if isinstance(c, kind)
    )
