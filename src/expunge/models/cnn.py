"""A small convolutional classifier for small pictures, by default of 28 x 28 grey pixels."""

from __future__ import annotations

import torch
from torch import nn

from expunge.models import initial

CHANNELS, HIDDEN, CLASSES = (16, 32), 128, 10


class SmallCnn(nn.Module):
    """Two convolutions with pooling, one hidden layer, one linear classifier."""

    def __init__(
        self, generator: torch.Generator, classes: int = CLASSES, colours: int = 1, side: int = 28
    ) -> None:
        """Draws the weights.

        Args:
            generator: draws the weights.
            classes: number of classes.
            colours: channels of the pictures.
            side: of the pictures in pixels, a multiple of four.
        """
        super().__init__()
        first, second = CHANNELS
        self.features = nn.Sequential(
            nn.Conv2d(colours, first, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (side // 4) ** 2, HIDDEN),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(HIDDEN, classes)
        initial.draw(self, generator)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (n, colours, side, side), from 0 to 1, to logits (n, classes)."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
