"""The quantisation attack: rounded weights, in which a small change on top of old ones can drown.

Zhang, Wang, Li, Wu, Tang, Liu, He, Yin, Wang (2025). Catastrophic Failure of LLM Unlearning via
Quantization. Rounding is to the nearest of levels that are symmetric about zero, with one scale for
each output channel; what is stored stays floating point, at the rounded values.
"""

import torch
from torch import Tensor, nn

from expunge.changes.weights import is_finite, with_weights
from expunge.errors import ExpungeError

BITS = (8, 4)
"""The widths that models are served with."""

FEWEST, MOST = 2, 16
"""The widths that weights can be rounded to."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Layers whose weight has the output channels on its second axis."""

NORMS = (nn.LayerNorm, nn.RMSNorm)
"""Norms whose scales may have several dimensions; they are never rounded."""


def quantised(model: nn.Module, bits: int) -> nn.Module:
    """A copy with the weights of its layers rounded to 2^bits - 1 levels for each output channel.

    Rounded are floating-point parameters of two or more dimensions; biases, norms and buffers stay
    as they are, and tied weights stay tied.

    Args:
        model: it stays as it is.
        bits: 2 to 16; models are served with :data:`BITS`.

    Raises:
        ExpungeError: another number of bits, or a weight that is not finite.
    """
    if not FEWEST <= bits <= MOST:
        raise ExpungeError(
            f"Weights of {bits} bits were asked for; {FEWEST} to {MOST} are expected."
        )
    rounded: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if not weight.is_floating_point() or weight.dim() < 2:
            continue
        if isinstance(owner, NORMS) or name.rpartition(".")[2] == "bias":
            continue
        if not is_finite(weight):
            raise ExpungeError(
                f"The weight {name!r} is not finite and cannot be rounded; finite weights are "
                "expected. The model has probably diverged."
            )
        rounded[name] = _rounded(weight.detach(), bits, int(isinstance(owner, TRANSPOSED)))
    return with_weights(model, rounded)


def _rounded(weight: Tensor, bits: int, axis: int) -> Tensor:
    """The nearest levels; ``axis`` is that of the output channels, each with its own largest."""
    steps = 2 ** (bits - 1) - 1
    values = weight.double()
    others = [place for place in range(values.dim()) if place != axis]
    unit = values.abs().amax(others, keepdim=True) / steps
    levels: Tensor = torch.where(unit > 0, values / unit, 0.0).round() * unit
    return levels.to(weight.dtype)
