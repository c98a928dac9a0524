"""A score network of fully connected layers, for pictures of a few hundred pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from expunge.models import initial


class ScoreMlp(nn.Module):
    """Residual blocks on flattened pictures; the time enters each of them.

    It is called as U-Nets of ``diffusers`` are: pictures (B, C, H, W) and timesteps (B,).
    """

    def __init__(
        self,
        generator: torch.Generator,
        shape: tuple[int, int, int] = (1, 8, 8),
        width: int = 256,
        blocks: int = 2,
    ) -> None:
        """Draws the weights.

        Args:
            generator: draws the weights.
            shape: channels, height and width of a picture.
            width: units of a layer; an even number.
            blocks: number of residual blocks.
        """
        super().__init__()
        self.shape, self.width = shape, width
        pixels = math.prod(shape)
        self.read = nn.Linear(pixels, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, pixels)
        initial.draw(self, generator)

    def forward(self, images: Tensor, timesteps: Tensor) -> Tensor:
        """Noise (B, C, H, W) in pictures (B, C, H, W) at timesteps (B,) from 0 to 999."""
        told = self.time(_waves(timesteps, self.width))
        hidden = self.read(images.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, told)
        noise: Tensor = self.write(nn.functional.silu(self.norm(hidden)))
        return noise.view(-1, *self.shape)


class _Block(nn.Module):
    """Two layers on the sum of what was seen and the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.told = nn.Linear(width, width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, hidden: Tensor, told: Tensor) -> Tensor:
        """Hidden units (B, W) and the time (B, W) to hidden units."""
        inner = nn.functional.silu(self.first(self.norm(hidden)) + self.told(told))
        found: Tensor = hidden + self.second(inner)
        return found


def _waves(timesteps: Tensor, width: int) -> Tensor:
    """Sines and cosines (B, width) of timesteps (B,) at frequencies from 1 to 1/10,000."""
    half = width // 2
    powers = torch.arange(half, device=timesteps.device, dtype=timesteps.dtype) / half
    angles = timesteps.unsqueeze(1) * torch.exp(-math.log(10_000) * powers)
    return torch.cat([angles.sin(), angles.cos()], 1)
