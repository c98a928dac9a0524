"""Second moments of what weight matrices read: which directions of their inputs some rows fill.

A linear layer answers a change of its weight matrix by ``change @ x``. What a change does to rows
is therefore in the second moments ``E[x x^T]`` of their inputs x: the mean squared length of what
it adds is ``trace(change E[x x^T] change^T)``. A convolution is such a matrix over the patches that
it reads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.models.modes import evaluating
from expunge.run import Run, on_device
from expunge.signals.gradients import losses_of

Read = Callable[[Tensor], Tensor]
"""From what a layer is given to what its matrix reads: (N, inputs), float32."""


def input_moments(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 128
) -> dict[str, Tensor]:
    """Mean of ``x x^T`` over everything that each weight matrix reads on samples.

    Matrices are the weights of ``nn.Linear``, of ``nn.Conv2d`` in one group (over patches), and any
    other weight of 1 x 1 filters over all channels. Those that do not require a gradient are left
    out, and those that two layers share. Padding that a layer reads counts as read.

    Args:
        family: has the loss, by which the model is asked.
        model: asked in evaluation mode; it stays as it is.
        samples: n rows.
        run: device.
        batch_size: rows at a time.

    Returns:
        Float32 (inputs, inputs) on the CPU, by the canonical name of the weight.

    Raises:
        ExpungeError: no rows, or no matrix that requires a gradient reads anything.
    """
    if len(samples) == 0:
        raise ExpungeError("Moments were asked of no rows; at least one row is expected.")
    totals, counts = dict[str, Tensor](), dict[str, int]()

    def told(name: str, rows: Tensor) -> None:
        product = rows.T @ rows
        totals[name] = totals[name] + product if name in totals else product
        counts[name] = counts.get(name, 0) + len(rows)

    values = losses_of(family)
    with (
        evaluating(on_device(model, run)) as asked,
        torch.inference_mode(),
        _listening(asked, told),
    ):
        for raw in batches(samples, batch_size):
            values(asked, {name: tensor.to(run.device) for name, tensor in raw.items()})
    if not totals:
        raise ExpungeError(
            f"No weight matrix of {type(model).__name__} that requires a gradient read any input; "
            "linear layers and convolutions in one group are looked at. Take a method that needs "
            "none, or let such weights require a gradient."
        )
    return {name: (total / counts[name]).cpu() for name, total in totals.items()}


def as_matrix(weight: Tensor) -> Tensor:
    """A weight as the matrix (outputs, inputs) over what :func:`input_moments` describes."""
    return weight.flatten(1)


@contextmanager
def _listening(model: nn.Module, told: Callable[[str, Tensor], None]) -> Iterator[None]:
    hooks = []
    for name, (module, read) in _matrices(model).items():

        def hook(_: nn.Module, given: Any, name: str = name, read: Read = read) -> None:
            told(name, read(given[0].detach().float()))

        hooks.append(module.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _matrices(model: nn.Module) -> dict[str, tuple[nn.Module, Read]]:
    """The layers whose weight is a matrix of its own, by the weight's name."""
    layers = [(m, m.weight) for m in model.modules() if isinstance(_weight(m), Tensor)]
    holders = [id(weight) for _, weight in layers]
    found = {}
    for module, weight in layers:
        read = _reading(module)
        if read is not None and weight.requires_grad and holders.count(id(weight)) == 1:
            found[id(weight)] = (module, read)
    return {name: found[id(p)] for name, p in model.named_parameters() if id(p) in found}


def _reading(module: nn.Module) -> Read | None:
    """How the weight of a layer reads what the layer is given; None where it is no matrix."""
    if isinstance(module, nn.Linear):
        return lambda given: given.reshape(-1, given.shape[-1])
    if isinstance(module, nn.Conv2d):
        return None if module.groups > 1 else _patches(module)
    weight = _weight(module)
    if (
        isinstance(weight, Tensor)
        and weight.ndim == 4
        and weight.shape[1] > 1 == weight[0, 0].numel()
    ):
        return lambda given: given.permute(0, 2, 3, 1).reshape(-1, given.shape[1])
    return None


def _weight(module: nn.Module) -> object:
    return getattr(module, "weight", None)


def _patches(layer: nn.Conv2d) -> Read:
    def read(given: Tensor) -> Tensor:
        # What conv2d pads with is not always zeros, and "same" is no number
        around, mode = layer._reversed_padding_repeated_twice, layer.padding_mode
        padded = F.pad(given, around, mode="constant" if mode == "zeros" else mode)
        patches = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        return patches.transpose(1, 2).reshape(-1, patches.shape[1])

    return read
