"""The face embedder: a residual network that puts pictures of one person close together.

Blocks: K. He, X. Zhang, S. Ren, J. Sun (2016), "Deep Residual Learning for Image Recognition".
Network, loss and threshold: D. King (2017), the face recognition network of dlib (29 convolutions,
128 numbers a face). Published weights: the catalogue entry ``face-embedder``. 5.61 million
parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from expunge.models.published import FILE, filled
from expunge.storage import read_tensors

SIDE = 150  # pixels of an aligned face
WIDTH = 128  # numbers of an embedding
MEAN = (122.782, 117.001, 104.298)  # red, green, blue, of pixels from 0 to 255
RANGE = 256.0
"""What the difference to the mean is divided by, as in dlib; face-api takes 255."""

BLOCKS = (
    {f"conv32_{i}": 32 for i in (1, 2, 3)}
    | {"conv64_down": 64, "conv64_1": 64, "conv64_2": 64, "conv64_3": 64}
    | {"conv128_down": 128, "conv128_1": 128, "conv128_2": 128}
    | {"conv256_down": 256, "conv256_1": 256, "conv256_2": 256, "conv256_down_out": 256}
)
"""Channels of the residual blocks, in their order; a block with "down" halves the resolution."""


class Scaled(nn.Module):
    """A convolution, then a gain and a shift for each channel."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.scale = Gain(outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (n, inputs, h, w) to (n, outputs, h', w')."""
        scaled: torch.Tensor = self.scale(self.conv(images))
        return scaled


class Gain(nn.Module):
    """What is left of a batch normalisation after training: one gain and one shift a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Keeps the shape (n, channels, h, w)."""
        return activation * self.weight[:, None, None] + self.bias[:, None, None]


class Residual(nn.Module):
    """Two convolutions of 3 x 3 beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Scaled(channels, channels), Scaled(channels, channels)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Keeps the shape (n, channels, h, w)."""
        return F.relu(self.conv2(F.relu(self.conv1(activation))) + activation)


class ResidualDown(nn.Module):
    """Two convolutions, the first with stride 2, beside the mean over 2 x 2 pixels.

    The shortcut has no weights: what it lacks in channels is zero. The first convolution sees no
    border, so on an even side its output is one row and one column smaller than the shortcut, and
    zeros are put below and on the right.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Scaled(inputs, outputs, stride=2, padding=0)
        self.conv2 = Scaled(outputs, outputs)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Maps (n, inputs, h, w) to (n, outputs, h // 2, w // 2)."""
        shortcut = F.avg_pool2d(activation, 2)
        found: torch.Tensor = self.conv2(F.relu(self.conv1(activation)))
        rows, columns = (shortcut.shape[axis] - found.shape[axis] for axis in (2, 3))
        more = found.shape[1] - shortcut.shape[1]
        return F.relu(F.pad(found, (0, columns, 0, rows)) + F.pad(shortcut, (0, 0, 0, 0, 0, more)))


class FaceEmbedder(nn.Module):
    """The whole network: stem, fourteen residual blocks, pooling, one linear map.

    The names of its parts are those of the published tensors.
    """

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv32_down = Scaled(3, 32, kernel=7, stride=2, padding=0)
        inputs = 32
        for name, channels in BLOCKS.items():
            down = "down" in name
            self.add_module(name, ResidualDown(inputs, channels) if down else Residual(channels))
            inputs = channels
        self.fc = nn.Linear(256, WIDTH, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The network with the published weights, in evaluation mode.

        Args:
            folder: of the prepared catalogue entry ``face-embedder``.

        Raises:
            IntegrityError: the weights are missing, damaged, or of another network.
        """
        return filled(cls(), read_tensors(folder / FILE), "face-embedder")

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Maps faces (n, 3, 150, 150), red, green, blue from 0 to 255, to embeddings (n, 128)."""
        activation = F.relu(self.conv32_down((faces - self.mean) / RANGE))
        activation = F.max_pool2d(activation, 3, 2)
        for name in BLOCKS:
            activation = self.get_submodule(name)(activation)
        embeddings: torch.Tensor = self.fc(activation.mean(dim=(2, 3)))
        return embeddings
