"""States: what the layers of a language model make of a text, one vector a layer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn


class _LastLayerReachedError(Exception):
    """Nothing after the last layer that is asked for has to be computed."""


def layer_means(
    model: nn.Module,
    layers: Sequence[str],
    ids: Tensor,
    counted: Tensor,
    attention: Tensor | None = None,
) -> Tensor:
    """Mean state of the counted tokens of each row, after each layer.

    The model stops after the last of the layers, so that the layers above it and its head cost
    nothing.

    Args:
        model: of ``transformers``, called with ``input_ids``.
        layers: names of its layers, in forward order.
        ids: int64 (B, L) tokens.
        counted: bool (B, L) which of them count; in a row of which none does, all do.
        attention: (B, L) as ``attention_mask``; None where no row is padded on the left.

    Returns:
        (B, layers, D) float32.
    """
    found = layer_states(model, layers, ids, attention)
    share = counted | ~counted.any(1, keepdim=True)
    weights = share.float() / share.sum(1, keepdim=True)
    return torch.stack([torch.einsum("bl,bld->bd", weights, s.float()) for s in found], 1)


def layer_states(
    model: nn.Module, layers: Sequence[str], ids: Tensor, attention: Tensor | None = None
) -> list[Tensor]:
    """The states (B, L, D) of every token after each layer; arguments as in :func:`layer_means`.

    The model stops after the last of the layers.
    """
    found: list[Tensor] = []
    more = {} if attention is None else {"attention_mask": attention}
    with _stopping_after(model, layers, found), suppress(_LastLayerReachedError):
        model(input_ids=ids, use_cache=False, **more)
    return found


@contextmanager
def _stopping_after(model: nn.Module, layers: Sequence[str], found: list[Tensor]) -> Iterator[None]:
    """Inside, the states after each layer are kept, and the last of them ends the forward pass."""

    def keep(module: nn.Module, given: Any, answer: Any) -> None:
        found.append(answer[0] if isinstance(answer, tuple) else answer)
        if len(found) == len(layers):
            raise _LastLayerReachedError

    hooks = [model.get_submodule(name).register_forward_hook(keep) for name in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
