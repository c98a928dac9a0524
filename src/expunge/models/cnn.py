"""A small convolutional classifier for 28 x 28 grey pictures."""

from __future__ import annotations

import torch
from torch import nn

from expunge.models import initial

CHANNELS, HIDDEN, CLASSES = (16, 32), 128, 10


class SmallCnn(nn.Module):
    """Two convolutions with pooling, one hidden layer, one linear classifier."""

    def __init__(self, generator: torch.Generator, classes: int = CLASSES) -> None:
        """Draws the weights.

        Args:
            generator: draws the weights.
            classes: number of classes.
        """
        super().__init__()
        first, second = CHANNELS
        self.features = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * 7 * 7, HIDDEN),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(HIDDEN, classes)
        initial.draw(self, generator)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (n, 1, 28, 28), from 0 to 1, to logits (n, classes)."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits
