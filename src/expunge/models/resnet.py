"""ResNet-18 for small pictures: the first convolution keeps the size, and nothing is pooled early.

He, Zhang, Ren, Sun (2016). Deep Residual Learning for Image Recognition; with the stem of their
CIFAR networks (3 x 3, stride 1), as everywhere in the unlearning literature.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.models import initial
from expunge.models.normalisation import Normalisation

STAGES = 4  # each but the first halves the size and doubles the channels
BLOCKS = 2  # in each stage


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Builds the layers.

        Args:
            inputs: channels that come in.
            outputs: channels that go out.
            stride: of the first convolution and of the shortcut.
        """
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        moved: Tensor = self.second(F.relu(self.first(features)))
        return F.relu(moved + self.shortcut(features))


class ResNet18(nn.Sequential):
    """Normalisation, stem, four stages of two residual blocks, mean over the picture, head.

    The children stand in forward order; the last one is the linear head. Width 64 is the usual
    network (11.2 million parameters); 32 has 2.8 and 16 has 0.70 million.
    """

    def __init__(
        self,
        generator: torch.Generator,
        width: int = 64,
        channels: int = 3,
        classes: int = 10,
        means: Sequence[float] = (0.5,),
        deviations: Sequence[float] = (0.5,),
    ) -> None:
        """Draws the weights.

        Args:
            generator: draws the weights.
            width: channels of the first stage; the last has eight times as many.
            channels: of the pictures.
            classes: number of classes.
            means: of the pictures, one for each channel or one for all.
            deviations: of the pictures, alike.

        Raises:
            ExpungeError: a number below 1, or normalisation that does not fit the channels.
        """
        for name, value in {"width": width, "channels": channels, "classes": classes}.items():
            if value < 1:
                raise ExpungeError(f"A ResNet-18 of {name} {value} was asked for; 1 is the least.")
        stages = [
            (f"stage{i + 1}", _stage(width * 2 ** max(0, i - 1), width * 2**i, 1 if i == 0 else 2))
            for i in range(STAGES)
        ]
        super().__init__(
            OrderedDict(
                [
                    ("normalisation", Normalisation(channels, means, deviations)),
                    ("stem", nn.Sequential(_convolution(channels, width, 3, 1), nn.ReLU())),
                    *stages,
                    ("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
                    ("head", nn.Linear(width * 2 ** (STAGES - 1), classes)),
                ]
            )
        )
        initial.draw(self, generator)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    later = (Residual(outputs, outputs, 1) for _ in range(BLOCKS - 1))
    return nn.Sequential(Residual(inputs, outputs, stride), *later)


def _convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Sequential:
    """A convolution without bias, and the batch norm that has it."""
    padding = side // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, padding, bias=False), nn.BatchNorm2d(outputs)
    )
