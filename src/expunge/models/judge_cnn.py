"""A judge of pictures: what they show, and the features by which sets of them are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expunge.models import initial

CHANNELS = (32, 64, 128)


class JudgeCnn(nn.Module):
    """Three convolutions with group norm and pooling, a few features, one linear classifier.

    Group norm, since a judge sees single pictures of many models, which batch norm would mix.
    """

    def __init__(
        self,
        generator: torch.Generator,
        classes: int = 10,
        channels: int = 1,
        side: int = 8,
        features: int = 32,
    ) -> None:
        """Draws the weights.

        Args:
            generator: draws the weights.
            classes: number of classes.
            channels: of a picture.
            side: height and width of a picture, a multiple of 4.
            features: numbers of a picture's features.
        """
        super().__init__()
        blocks: list[nn.Module] = []
        before = channels
        for width in CHANNELS:
            blocks += [
                nn.Conv2d(before, width, kernel_size=3, padding=1),
                nn.GroupNorm(8, width),
                nn.GELU(),
            ]
            if width != CHANNELS[-1]:
                blocks.append(nn.MaxPool2d(2))
            before = width
        flat = before * (side // 4) ** 2
        self.features = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(flat, features), nn.GELU())
        self.classifier = nn.Linear(features, classes)
        initial.draw(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Maps pictures (n, C, H, W), from 0 to 1, to logits (n, classes)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def judge_cnn(classes: int = 10, channels: int = 1, side: int = 8, features: int = 32) -> nn.Module:
    """A :class:`JudgeCnn` for run files, which seed a builder themselves."""
    return JudgeCnn(torch.default_generator, classes, channels, side, features)
