"""Several models of one shape as one module: every parameter and buffer has a first axis of N.

The tree of modules and the names of the tensors stay those of one model, so that whatever walks
over a model (optimisers, checkpoints, modes) walks over all of them at once. Only a call has to
know: :func:`torch.func.functional_call` under :func:`torch.vmap` puts each model's tensors in turn.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError


def stacked(models: Sequence[nn.Module]) -> nn.Module:
    """One module that holds all of them.

    Args:
        models: N modules with the same tree, shapes and types.

    Raises:
        ExpungeError: there is none, or their tensors differ in name, shape or type.
    """
    if not models:
        raise ExpungeError("No model was given to be stacked; give at least one.")
    first = _shapes(models[0])
    for place, model in enumerate(models):
        if _shapes(model) != first:
            raise ExpungeError(
                f"Model {place} differs from model 0 in the name, shape or type of a tensor; "
                "models of one builder are expected."
            )
    tensors = [_tensors(model) for model in models]
    together = copy.deepcopy(models[0])
    for name, own in _tensors(together).items():
        value = torch.stack([each[name].detach() for each in tensors])
        if isinstance(own, nn.Parameter):
            _put(together, own, nn.Parameter(value, requires_grad=own.requires_grad))
        else:
            _put(together, own, value)
    return together


def unstacked(together: nn.Module, like: nn.Module) -> list[nn.Module]:
    """The models of a stack, each a module of its own.

    Args:
        together: as :func:`stacked` makes it.
        like: any one model of the same builder.
    """
    tensors = _tensors(together)
    count = len(next(iter(tensors.values())))
    found = []
    for place in range(count):
        model = copy.deepcopy(like)
        with torch.no_grad():
            for name, own in _tensors(model).items():
                own.copy_(tensors[name][place])
        found.append(model)
    return found


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _shapes(model: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in _tensors(model).items()}


def _put(model: nn.Module, old: Tensor, new: Tensor) -> None:
    """Put a tensor in the place of another wherever that stands: tied tensors stay tied."""
    for part in model.modules():
        for own in (part._parameters, part._buffers):
            for name, tensor in own.items():
                if tensor is old:
                    own[name] = new  # type: ignore[assignment]
