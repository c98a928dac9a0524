"""The weights of a module under canonical storage names: tied weights appear once.

The canonical name of a tied group is the name that comes first in ``named_parameters``.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expunge.errors import IntegrityError
from expunge.storage import digest


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, under its canonical name."""
    return dict(model.named_parameters())


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """The stored floating-point buffers (those in the state dict), once each."""
    stored = set(model.state_dict())
    return {n: b for n, b in model.named_buffers() if b.is_floating_point() and n in stored}


def digest_of(model: nn.Module) -> str:
    """Digest of the composed float32 parameters and float buffers: the identity of a base."""
    return digest({**parameters_of(model), **buffers_of(model)})


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite: one pass, since the extremes carry both on."""
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def with_weights(model: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``model`` with the named parameters and buffers set to ``values``.

    Raises:
        IntegrityError: a name is unknown to the model, or a shape differs.
    """
    moved = copy.deepcopy(model)
    targets = {**parameters_of(moved), **buffers_of(moved)}
    with torch.no_grad():
        for name, value in values.items():
            if name not in targets:
                raise IntegrityError(
                    f"The change names {name!r}, which this model does not have; "
                    "use the model family that the change was made for."
                )
            if targets[name].shape != value.shape:
                raise IntegrityError(
                    f"{name!r} has shape {tuple(value.shape)} in the change and "
                    f"{tuple(targets[name].shape)} in the model; the shapes must be equal."
                )
            targets[name].copy_(value)
    return moved
