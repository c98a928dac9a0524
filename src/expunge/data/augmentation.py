"""Random copies of drawings: shifts, turns, scaling and colour, on a white page.

Nothing is mirrored: arrows, pointing hands and letters would change their meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

CHUNK = 512  # pictures at a time


@dataclass(frozen=True)
class Jitter:
    """How far a copy may be from its drawing.

    Args:
        turn: largest angle in radians.
        zoom: largest relative change of size, in logarithms.
        shrink: taken from the logarithm of every size.
        stretch: largest relative change of width against height.
        shift: largest shift, as a share of the side.
        hue: largest turn of the hues in radians.
        saturation: largest relative change of colour.
        contrast: largest relative change of the ink.
        brightness: as much again, drawn by itself.
    """

    turn: float = math.radians(12)
    zoom: float = 0.18
    shrink: float = 0.0
    stretch: float = 0.08
    shift: float = 0.08
    hue: float = 0.25
    saturation: float = 0.4
    contrast: float = 0.25
    brightness: float = 0.25


JITTER = Jitter()

# Luminance of red, green and blue, and the two axes of colour that go with it (YIQ).
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augmented(
    images: torch.Tensor, generator: torch.Generator, jitter: Jitter = JITTER
) -> torch.Tensor:
    """Returns one random copy of each picture.

    Args:
        images: uint8 (n, 3, s, s), drawings on white.
        generator: the only source of randomness.
        jitter: how far the copies may go.

    Returns:
        uint8 (n, 3, s, s).
    """
    if len(images) == 0:
        return images.clone()
    return torch.cat(
        [_copy(part.float() / 255, generator, jitter) for part in torch.split(images, CHUNK)]
    )


def _copy(images: torch.Tensor, generator: torch.Generator, jitter: Jitter) -> torch.Tensor:
    moved = _moved(images, generator, jitter)
    return (_recoloured(moved, generator, jitter) * 255).round().clamp(0, 255).to(torch.uint8)


def _spread(count: int, width: float, generator: torch.Generator) -> torch.Tensor:
    """Draws `count` numbers uniformly from -width to width."""
    return (torch.rand(count, generator=generator) * 2 - 1) * width


def _moved(images: torch.Tensor, generator: torch.Generator, jitter: Jitter) -> torch.Tensor:
    count = len(images)
    angle = _spread(count, jitter.turn, generator)
    zoom = torch.exp(_spread(count, jitter.zoom, generator) - jitter.shrink)
    stretch = torch.exp(_spread(count, jitter.stretch, generator))
    across, down = zoom * stretch, zoom / stretch
    rows = [
        torch.stack(
            [angle.cos() / across, -angle.sin() / across, _spread(count, jitter.shift, generator)]
        ),
        torch.stack(
            [angle.sin() / down, angle.cos() / down, _spread(count, jitter.shift, generator)]
        ),
    ]
    rows = [row * torch.tensor([[1.0], [1.0], [2.0]]) for row in rows]  # the page is 2 wide
    maps = torch.stack(rows).permute(2, 0, 1)  # (n, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    ink = F.grid_sample(1 - images, grid, mode="bilinear", align_corners=False)
    return 1 - ink  # outside the page there is no ink, which is white


def _recoloured(images: torch.Tensor, generator: torch.Generator, jitter: Jitter) -> torch.Tensor:
    count = len(images)
    turn = _spread(count, jitter.hue, generator)
    colour = 1 + _spread(count, jitter.saturation, generator)
    contrast = 1 + _spread(count, jitter.contrast, generator)
    brightness = _spread(count, jitter.brightness, generator)
    change = torch.zeros(count, 3, 3)
    change[:, 0, 0] = 1
    change[:, 1, 1] = change[:, 2, 2] = colour * turn.cos()
    change[:, 1, 2] = -colour * turn.sin()
    change[:, 2, 1] = colour * turn.sin()
    axes = torch.tensor(YIQ)
    mixing = torch.linalg.inv(axes) @ change @ axes  # (n, 3, 3), keeps white and greys
    # Contrast and brightness act on the ink, so that the page stays white.
    ink = 1 - torch.einsum("nij,njhw->nihw", mixing, images)
    strength = (contrast + brightness).clamp(min=0.3)
    return (1 - ink * strength[:, None, None, None]).clamp(0, 1)
