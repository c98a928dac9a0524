"""A dual encoder of drawings and concept texts, on an EfficientNet-lite0 image tower.

The way of scoring is CLIP's: A. Radford et al. (2021), "Learning Transferable Visual Models From
Natural Language Supervision": cosine of projected image and text, times a scale. The text side is
a stored matrix of all-MiniLM-L6-v2 sentence embeddings, one row a concept.

Only the last blocks of the image tower and the two projections are edited; everything below is
the published ImageNet network. `activation` computes that fixed lower part, whose output can
therefore be stored, and `image_features` the rest.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from expunge.errors import ExpungeError
from expunge.models import efficientnet_lite

EDITABLE = 5  # blocks of the image tower that training and requests change, counted from the end
SIDE = 96  # pixels: pictures are resized to this before the tower
JOINT = 256  # width of the joint space
TEXT = 384  # width of the stored text embeddings
SCALE = 30.0  # of the cosines


class EmojiDualEncoder(nn.Module):
    """Scores drawings against the texts of all concepts.

    Batch normalisation always uses its stored statistics, in training mode too, so that a stored
    activation stays valid and the pictures of a batch do not influence each other.
    """

    text_embeddings: torch.Tensor
    logit_scale: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, text_embeddings: torch.Tensor) -> None:
        """Builds the network with random weights; see `from_imagenet` for the published tower.

        Args:
            text_embeddings: (C, 384), one row a concept, in the order of the labels.
        """
        super().__init__()
        if text_embeddings.ndim != 2 or text_embeddings.shape[1] != TEXT:
            raise ExpungeError(
                f"Text embeddings of shape {tuple(text_embeddings.shape)} were given; (concepts, "
                f"{TEXT}) was expected. Compute them with scripts/build_text_embeddings.py."
            )
        blocks = efficientnet_lite.blocks()
        self.lower = nn.Sequential(efficientnet_lite.stem(), *blocks[:-EDITABLE])
        self.upper = nn.Sequential(*blocks[-EDITABLE:], efficientnet_lite.head())
        self.image_projection = nn.Linear(efficientnet_lite.HEAD_CHANNELS, JOINT, bias=False)
        self.text_projection = nn.Linear(TEXT, JOINT, bias=False)
        self.register_buffer("text_embeddings", text_embeddings.detach().float().clone())
        self.register_buffer("logit_scale", torch.tensor(math.log(SCALE)))
        mean = torch.tensor(efficientnet_lite.MEAN).reshape(1, 3, 1, 1)
        deviation = torch.tensor(efficientnet_lite.DEVIATION).reshape(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.lower.requires_grad_(False)

    @classmethod
    def from_imagenet(cls, text_embeddings: torch.Tensor, generator: torch.Generator) -> Self:
        """Builds the network on the published ImageNet tower, with drawn projections.

        Args:
            text_embeddings: (C, 384), one row a concept.
            generator: draws the two projections.

        Raises:
            ExpungeError: the package that holds the published weights is not installed.
        """
        model = cls(text_embeddings)
        tower = efficientnet_lite.EfficientNetLite0()
        tower.load_state_dict(efficientnet_lite.imagenet_weights())
        parts = [tower.stem, *tower.blocks, tower.head]
        for mine, published in zip([*model.lower, *model.upper], parts, strict=True):
            mine.load_state_dict(published.state_dict())
        for projection in (model.image_projection, model.text_projection):
            bound = projection.in_features**-0.5
            nn.init.normal_(projection.weight, std=bound, generator=generator)
        return model

    def activation(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the part of the tower that never changes.

        Args:
            images: (n, 3, s, s), uint8 from 0 to 255 or floating point from 0 to 1.

        Returns:
            float32 (n, 112, 6, 6).
        """
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        if scaled.shape[-2:] != (SIDE, SIDE):
            scaled = F.interpolate(
                scaled, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
            )
        lower: torch.Tensor = self.lower((scaled - self.mean) / self.deviation)
        return lower

    def image_features(self, activation: torch.Tensor) -> torch.Tensor:
        """Maps the output of `activation`, of any floating type, to unit vectors (n, 256)."""
        pooled = self.upper(activation.to(self.image_projection.weight.dtype)).mean(dim=(2, 3))
        return F.normalize(self.image_projection(pooled), dim=-1)

    def text_features(self) -> torch.Tensor:
        """Returns the unit vectors of all concepts (C, 256)."""
        return F.normalize(self.text_projection(self.text_embeddings), dim=-1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores images (n, 3, s, s) against all concepts: logits (n, C)."""
        features = self.image_features(self.activation(images))
        return self.logit_scale.exp() * features @ self.text_features().T
