"""A small vision transformer: pictures in patches of a few pixels, a class token, pre-norm blocks.

Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer, Heigold, Gelly,
Uszkoreit, Houlsby (2021). An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale. The default sizes are those of ViT-tiny (Touvron et al. 2021, DeiT).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.models import initial
from expunge.models.normalisation import Normalisation

SPREAD = 0.02  # standard deviation of the class token and the positions at the start
EXPANSION = 4  # hidden units of a block's second half, in widths


class Patches(nn.Module):
    """Pictures as a row of patches behind a class token, each with its position added."""

    def __init__(
        self, generator: torch.Generator, side: int, patch: int, channels: int, width: int
    ) -> None:
        """Draws the class token and the positions; the projection is drawn by its owner.

        Args:
            generator: draws them.
            side: of the square pictures, in pixels.
            patch: side of a patch, in pixels.
            channels: of the pictures.
            width: numbers of a token.
        """
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + (side // patch) ** 2, width))
        for drawn in (self.token, self.positions):
            nn.init.normal_(drawn, std=SPREAD, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (n, channels, side, side) to tokens (n, 1 + patches, width)."""
        patches = self.projection(images).flatten(2).transpose(1, 2)
        token = self.token.expand(len(images), -1, -1)
        return torch.cat([token, patches], 1) + self.positions


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        """Builds the layers.

        Args:
            width: numbers of a token.
            heads: each sees width / heads of them.
        """
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (n, T, width) to the same shape."""
        count, length, width = tokens.shape
        parts = self.inputs(tokens).reshape(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each (n, heads, T, width / h)
        # Written out, since the fused form has no rule for gradients of single samples (vmap).
        alike = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        seen = alike.softmax(-1) @ value
        mixed: Tensor = self.output(seen.transpose(1, 2).reshape(count, length, width))
        return mixed


class Block(nn.Module):
    """Attention and two linear layers, each on normalised tokens and added to them."""

    def __init__(self, width: int, heads: int) -> None:
        """Builds the layers.

        Args:
            width: numbers of a token.
            heads: of the attention.
        """
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, EXPANSION * width),
            nn.GELU(),
            nn.Linear(EXPANSION * width, width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (n, T, width) to the same shape."""
        seen = tokens + self.attention(tokens)
        moved: Tensor = seen + self.mlp(seen)
        return moved


class ClassToken(nn.Module):
    """The first token, normalised."""

    def __init__(self, width: int) -> None:
        """Builds the norm of tokens of ``width`` numbers."""
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (n, T, width) to (n, width)."""
        first: Tensor = self.norm(tokens[:, 0])
        return first


class VisionTransformer(nn.Sequential):
    """Normalisation, patches, blocks, the class token, head.

    The children stand in forward order; the last one is the linear head. At 32 pixels in colour, 12
    blocks have 5.4 million parameters and 6 have 2.7 million.
    """

    def __init__(
        self,
        generator: torch.Generator,
        side: int = 32,
        depth: int = 12,
        width: int = 192,
        heads: int = 3,
        patch: int = 4,
        channels: int = 3,
        classes: int = 10,
        means: Sequence[float] = (0.5,),
        deviations: Sequence[float] = (0.5,),
    ) -> None:
        """Draws the weights.

        Args:
            generator: draws the weights.
            side: of the square pictures, in pixels; a multiple of ``patch``.
            depth: number of blocks.
            width: numbers of a token; a multiple of ``heads``.
            heads: of each attention.
            patch: side of a patch, in pixels.
            channels: of the pictures.
            classes: number of classes.
            means: of the pictures, one for each channel or one for all.
            deviations: of the pictures, alike.

        Raises:
            ExpungeError: sizes that do not divide, a number below 1, or normalisation that does not
                fit the channels.
        """
        sizes = {"side": side, "depth": depth, "width": width, "heads": heads, "patch": patch}
        _check({**sizes, "channels": channels, "classes": classes})
        super().__init__(
            OrderedDict(
                [
                    ("normalisation", Normalisation(channels, means, deviations)),
                    ("patches", Patches(generator, side, patch, channels, width)),
                    *((f"block{i + 1}", Block(width, heads)) for i in range(depth)),
                    ("token", ClassToken(width)),
                    ("head", nn.Linear(width, classes)),
                ]
            )
        )
        initial.draw(self, generator)


def _check(sizes: dict[str, int]) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise ExpungeError(
                f"A vision transformer of {name} {value} was asked for; 1 is the least."
            )
    for whole, part in (("side", "patch"), ("width", "heads")):
        if sizes[whole] % sizes[part]:
            raise ExpungeError(
                f"A vision transformer of {whole} {sizes[whole]} and {part} {sizes[part]} was "
                f"asked for; {whole} must be a multiple of {part}."
            )
