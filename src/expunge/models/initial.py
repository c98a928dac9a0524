"""Drawing the initial weights of small networks from an explicit generator."""

from __future__ import annotations

import torch
from torch import nn


def draw(model: nn.Module, generator: torch.Generator) -> None:
    """Redraws the weights of all linear layers and convolutions, in module order.

    Weights and biases are uniform in plus and minus 1 / sqrt(fan-in), the range that
    PyTorch gives these layers.

    Args:
        model: changed in place.
        generator: the only source of randomness.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
