"""Branches: low-rank factors that act beside the layers of a model for as long as they are held.

The weights stay as they are, and each row of a batch has a weight of its own: a row of weight 0
keeps its bits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from expunge.changes.adapter import Factors, LowRank
from expunge.errors import IntegrityError

WEIGHT = ".weight"


@dataclass(frozen=True, eq=False)
class Branch:
    """An adapter and its weight in each row.

    Args:
        adapter: its factors.
        weights: (B,) what its change is multiplied by; None for 1 in every row.
    """

    adapter: LowRank
    weights: Tensor | None = None


@contextmanager
def branched(model: nn.Module, branches: Sequence[Branch]) -> Iterator[None]:
    """Inside, the model answers as if each row had weights of its own: W + weight * scaling * B A.

    A layer may be called with a multiple of the rows (beams, tokens laid out flat), each row's own
    following one another.

    Raises:
        IntegrityError: a factor belongs to no layer that multiplies.
    """
    hooks = []
    for branch in branches:
        if branch.weights is not None and not bool(branch.weights.any()):
            continue
        for name, factors in branch.adapter.factors.items():
            layer = _layer(model, name)
            down, up = thin(layer, factors)
            hooks.append(
                layer.register_forward_hook(_added(down, up, factors.scaling, branch.weights))
            )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def thin(layer: nn.Module, factors: Factors) -> tuple[Tensor, Tensor]:
    """The factors as they act on inputs: down (r, in) and up (out, r), whichever way round the
    layer stores its weight."""
    if isinstance(layer, nn.Linear):
        return factors.A, factors.B
    return factors.B.T, factors.A.T


def _layer(model: nn.Module, name: str) -> nn.Module:
    layer = model.get_submodule(name.removesuffix(WEIGHT)) if name.endswith(WEIGHT) else None
    if layer is None or not (isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"):
        raise IntegrityError(
            f"The adapter changes {name!r}, which is no weight of a linear layer; only such layers "
            "can be changed row by row. Train it on linear layers alone."
        )
    return layer


def _added(
    down: Tensor, up: Tensor, scaling: float, weights: Tensor | None
) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    def add(module: nn.Module, given: tuple[Any, ...], answer: Tensor) -> Tensor:
        a, b = down.to(answer), up.to(answer)
        entered: Tensor = given[0]
        if weights is None:
            return answer + (entered @ a.T @ b.T) * scaling
        each = weights.to(answer).repeat_interleave(len(answer) // len(weights))
        rows = each.nonzero().reshape(-1)
        if len(rows) == 0:
            return answer
        factor = (scaling * each[rows]).reshape(-1, *[1] * (answer.dim() - 1))
        changed = answer.clone()
        changed[rows] = answer[rows] + (entered[rows] @ a.T @ b.T) * factor
        return changed

    return add
