"""The DCGAN generator: noise in, a picture of 64 x 64 pixels out.

A. Radford, L. Metz, S. Chintala (2016), "Unsupervised Representation Learning with Deep
Convolutional Generative Adversarial Networks". Published weights for faces: the catalogue entry
``dcgan-faces``. 3.58 million parameters.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import nn

from expunge.models.published import FILE, filled
from expunge.storage import read_tensors

NOISE, SIDE = 100, 64
CHANNELS = (NOISE, 512, 256, 128, 64, 3)


class Generator(nn.Module):
    """Five transposed convolutions; all but the last with batch normalisation.

    The names of its parts are those of the published tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(CHANNELS):
            stride, padding = (2, 1) if layers else (1, 0)
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False))
            last = outputs == CHANNELS[-1]
            layers += [nn.Tanh()] if last else [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.main = nn.Sequential(*layers)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The generator with the published weights, in evaluation mode.

        Args:
            folder: of the prepared catalogue entry ``dcgan-faces``.

        Raises:
            IntegrityError: the weights are missing, damaged, or of another network.
        """
        return filled(cls(), read_tensors(folder / FILE), "dcgan-faces")

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Maps standard normal noise (n, 100) to pictures (n, 3, 64, 64), from -1 to 1."""
        pictures: torch.Tensor = self.main(noise[:, :, None, None])
        return pictures
