"""Folding the stored requests of a history, and folding them again without those revoked.

"The run without request q" means the fold of the other stored (delta, strength) pairs in request
order. It is exact by construction, at reading speed; subtracting from the sums is not.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch

from expunge.aggregation.protocol import Aggregation, State
from expunge.changes.delta import Delta
from expunge.errors import ExpungeError, IntegrityError

Pair = tuple[Delta, float]
Shapes = Mapping[str, torch.Size]


def folded(
    rule: Aggregation[State],
    pairs: Iterable[Pair],
    *,
    shapes: Shapes | None = None,
    base: str | None = None,
) -> State:
    """The state after all pairs.

    Args:
        rule: the aggregation.
        pairs: (delta, strength) of every request, in request order. With ``shapes`` and ``base``
            they may be read from disk one at a time; without, all are held in memory at once.
        shapes: shape of every parameter that a request may change, by canonical name; those that
            the pairs change by default.
        base: digest of the base of the history; that of the first pair by default.

    Raises:
        ExpungeError: there is no pair and no ``base``; and the errors of
            :class:`~expunge.aggregation.protocol.Aggregation`.
    """
    if shapes is None or base is None:
        pairs = list(pairs)
        if base is None and not pairs:
            raise ExpungeError(
                "There is no request to fold and no base was named; give base and shapes, or fold "
                "at least one request."
            )
        base = pairs[0][0].base if base is None else base
        shapes = shapes_of(delta for delta, _ in pairs) if shapes is None else shapes
    state = rule.empty(shapes, base)
    for delta, strength in pairs:
        state = rule.add(state, delta, strength)
    return state


def fold(
    rule: Aggregation[State],
    pairs: Iterable[Pair],
    *,
    shapes: Shapes | None = None,
    base: str | None = None,
) -> Delta:
    """The combined change of all pairs; arguments and errors are those of :func:`folded`."""
    return rule.combine(folded(rule, pairs, shapes=shapes, base=base))


def fold_each(rule: Aggregation[State], pairs: Sequence[Pair]) -> list[Delta]:
    """The combined change after the first pair, after the second, and so on to the last.

    Raises:
        the errors of :class:`~expunge.aggregation.protocol.Aggregation`.
    """
    if not pairs:
        return []
    state = folded(rule, (), shapes=shapes_of(d for d, _ in pairs), base=pairs[0][0].base)
    combined = []
    for delta, strength in pairs:
        state = rule.add(state, delta, strength)
        combined.append(rule.combine(state))
    return combined


def fold_without(
    rule: Aggregation[State],
    pairs: Iterable[Pair],
    revoked: Collection[int],
    *,
    shapes: Shapes | None = None,
    base: str | None = None,
) -> Delta:
    """The combined change of the pairs that are not revoked, in request order.

    Args:
        rule: the aggregation.
        pairs: those of :func:`folded`.
        revoked: positions of the revoked requests among ``pairs``, from 0.
        shapes: those of :func:`folded`.
        base: that of :func:`folded`.

    Raises:
        ExpungeError: a revoked position is not among the pairs; and the errors of :func:`folded`.
    """
    missing = set(revoked)

    def remaining() -> Iterable[Pair]:
        for position, pair in enumerate(pairs):
            if position not in revoked:
                yield pair
            missing.discard(position)

    state = folded(rule, remaining(), shapes=shapes, base=base)
    if missing:
        raise ExpungeError(
            f"Request {min(missing)} is to be revoked, and the history has no such request; give "
            "the position of a stored request, counted from 0."
        )
    return rule.combine(state)


def shapes_of(deltas: Iterable[Delta]) -> dict[str, torch.Size]:
    """The shape of every parameter that any of the deltas changes, by sorted name.

    Raises:
        IntegrityError: two deltas give one parameter different shapes.
    """
    shapes: dict[str, torch.Size] = {}
    for delta in deltas:
        for name, shape in delta.shapes().items():
            if shapes.setdefault(name, shape) != shape:
                raise IntegrityError(
                    f"{name!r} has shape {tuple(shape)} in one change and {tuple(shapes[name])} in "
                    "another; changes of one history must come from one base."
                )
    return dict(sorted(shapes.items()))
