"""A classifier of fully connected layers, for pictures of a few pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from expunge.models import initial

DIGITS = (64, 96, 96, 10)
"""Widths for the 8 x 8 digits, from pixels to classes."""
SMALL_DIGITS = (64, 64, 10)
"""Widths of a network that is trained by the hundred."""


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, generator: torch.Generator, widths: Sequence[int] = DIGITS) -> None:
        """Draws the weights.

        Args:
            generator: draws the weights.
            widths: number of inputs, of each hidden layer's units, and of classes.
        """
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        initial.draw(self, generator)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (n, ...) with as many numbers as the first width to logits (n, classes)."""
        logits: torch.Tensor = self.layers(images)
        return logits


def digits_classifier(seed: int = 0) -> Mlp:
    """The classifier of the 8 x 8 digits, its weights drawn with ``seed``."""
    return Mlp(torch.Generator().manual_seed(seed))


def small_digits_classifier(seed: int = 0) -> Mlp:
    """The one of :data:`SMALL_DIGITS`, likewise."""
    return Mlp(torch.Generator().manual_seed(seed), SMALL_DIGITS)
