"""A miniature dual encoder for the digits: an image MLP against fixed unit text vectors.

It has the interface of `EmojiDualEncoder`, so one family serves both. It is the small setting in
which CATA is checked: S. Lin et al. (2026), "CATA: Continual Machine Unlearning via
Conflict-Averse Task Arithmetic".
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from expunge.models import initial

PIXELS, HIDDEN, JOINT = 64, 96, 32  # widths of the layers
CONCEPTS = 10
SCALE = 20.0  # of the cosines


class DigitsDualEncoder(nn.Module):
    """Scores 8 x 8 digits against ten fixed text vectors."""

    text_embeddings: torch.Tensor
    logit_scale: torch.Tensor

    def __init__(self, generator: torch.Generator, concepts: int = CONCEPTS) -> None:
        """Draws the text vectors and the weights.

        Args:
            generator: draws everything that is random.
            concepts: number of text vectors.
        """
        super().__init__()
        self.upper = nn.Sequential(
            nn.Flatten(),
            nn.Linear(PIXELS, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, JOINT),
        )
        initial.draw(self, generator)
        texts = F.normalize(torch.randn(concepts, JOINT, generator=generator), dim=-1)
        self.register_buffer("text_embeddings", texts)
        self.register_buffer("logit_scale", torch.tensor(math.log(SCALE)))

    def activation(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the images (n, 1, 8, 8): no part of this network is fixed."""
        return images

    def image_features(self, activation: torch.Tensor) -> torch.Tensor:
        """Maps images (n, 1, 8, 8) or (n, 64), from 0 to 1, to unit vectors (n, 32)."""
        return F.normalize(self.upper(activation), dim=-1)

    def text_features(self) -> torch.Tensor:
        """Returns the fixed unit vectors of the ten classes (10, 32)."""
        return self.text_embeddings

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores images (n, 1, 8, 8) against all classes: logits (n, 10)."""
        features = self.image_features(self.activation(images))
        return self.logit_scale.exp() * features @ self.text_features().T
