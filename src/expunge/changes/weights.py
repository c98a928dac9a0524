"""The tensors of a module under canonical storage names: tied weights appear once.

The canonical name of a tied group is the name that comes first in ``named_parameters``; every other
name of the group is an alias of it, and is accepted wherever tensors are put into a module.
"""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from expunge.errors import IntegrityError
from expunge.storage import digest


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, under its canonical name."""
    return dict(model.named_parameters())


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """The stored buffers (those in the state dict) of every type, once each: batch-norm statistics
    and their counters, index tables, masks."""
    stored = set(model.state_dict())
    found: dict[int, tuple[str, Tensor]] = {}
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if name in stored:
            found.setdefault(id(buffer), (name, buffer))
    return dict(found.values())


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Everything that a file of this model holds: each parameter and each stored buffer once."""
    return {**parameters_of(model), **buffers_of(model)}


def digest_of(model: nn.Module) -> str:
    """Digest of the composed parameters and stored buffers: the identity of a base.

    Floating-point tensors enter as float32, integers and truth values as int64.
    """
    return digest(stored_tensors(model))


def is_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite: one pass, since the extremes carry both on."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) and torch.isfinite(high))


def load_stored(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str = "The file"
) -> nn.Module:
    """A copy of ``model`` with all its parameters and stored buffers taken from ``tensors``.

    Args:
        model: the architecture; it stays as it is.
        tensors: by name; of tied weights any name will do, and several where they agree.
        source: what the tensors were read from, for the error text; it begins the sentence.

    Raises:
        IntegrityError: a tensor of the model is missing, one is unknown to it, a shape differs, a
            value does not fit the type of its tensor, or two names of tied weights disagree.
    """
    given = _canonical(model, tensors, f"{source} has")
    missing = sorted(set(stored_tensors(model)) - set(given))
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise IntegrityError(
            f"{source} lacks {missing[0]!r}{more} of this model; give all the weights that a model "
            "of this architecture was saved with."
        )
    return _put(model, given, source)


def with_weights(model: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``model`` with the named parameters and stored buffers set to ``values``.

    Any name of tied weights will do.

    Raises:
        IntegrityError: a name is unknown to the model, a shape differs, a value does not fit the
            type of its tensor, or two names of tied weights disagree.
    """
    return _put(model, _canonical(model, values, "The change names"), "the change")


def shifted(
    model: nn.Module, shifts: Iterable[tuple[str, Tensor]], strength: float = 1.0
) -> nn.Module:
    """A copy of ``model`` with ``strength`` times each shift added to the parameter of its name.

    Raises:
        IntegrityError: the model has no such parameter, or one of another shape.
    """
    weights, moved = parameters_of(model), dict[str, Tensor]()
    for name, shift in shifts:
        if name not in weights or weights[name].shape != shift.shape:
            found = f"of shape {tuple(weights[name].shape)}" if name in weights else "not there"
            raise IntegrityError(
                f"This is an adapter for another base: it adds {tuple(shift.shape)} to {name!r}, "
                f"which is {found} in this model. Take the model that it was made for."
            )
        old = weights[name].detach().float()
        moved[name] = old + strength * shift.to(old.device)
    return with_weights(model, moved)


def _canonical(
    model: nn.Module, values: Mapping[str, Tensor], has: str
) -> dict[str, tuple[str, Tensor]]:
    """The values by canonical name, each with the name it was given under."""
    first = {id(tensor): name for name, tensor in stored_tensors(model).items()}
    known = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    names = {name: first[id(tensor)] for name, tensor in known if id(tensor) in first}
    found: dict[str, tuple[str, Tensor]] = {}
    for name, value in values.items():
        if name not in names:
            raise IntegrityError(
                f"{has} {name!r}, which this model does not have; take the architecture and the "
                "tensors from one model."
            )
        alias, other = found.setdefault(names[name], (name, value))
        if other is not value and not torch.equal(other.cpu(), value.cpu()):
            raise IntegrityError(
                f"{has} two different values for {alias!r} and {name!r}, which are one tied "
                "tensor in this model; give one of them, or a model that does not tie them."
            )
    return found


def _put(model: nn.Module, given: Mapping[str, tuple[str, Tensor]], source: str) -> nn.Module:
    moved = copy.deepcopy(model)
    targets = stored_tensors(moved)
    with torch.no_grad():
        for canonical, (name, value) in given.items():
            target = targets[canonical]
            if target.shape != value.shape:
                raise IntegrityError(
                    f"{name!r} has shape {tuple(value.shape)} in {source} and "
                    f"{tuple(target.shape)} in the model; the shapes must be equal."
                )
            if not target.is_floating_point() and not torch.equal(
                value, value.to(target.dtype).to(value.dtype)
            ):
                raise IntegrityError(
                    f"{name!r} is {target.dtype} in the model, and {source} gives {value.dtype} "
                    "numbers that it cannot hold; give the tensor that belongs to this model."
                )
            target.copy_(value)
    return moved
