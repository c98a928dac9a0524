"""Random copies of drawings: shifts, turns, scaling and colour, on a white page.

Nothing is mirrored: arrows, pointing hands and letters would change their meaning.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

TURN = math.radians(12)  # largest angle
ZOOM = 0.18  # largest relative change of size
STRETCH = 0.08  # largest relative change of width against height
SHIFT = 0.08  # largest shift, as a share of the side
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.25, 0.25, 0.4, 0.25
CHUNK = 512  # pictures at a time

# Luminance of red, green and blue, and the two axes of colour that go with it (YIQ).
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Returns one random copy of each picture.

    Args:
        images: uint8 (n, 3, s, s), drawings on white.
        generator: the only source of randomness.

    Returns:
        uint8 (n, 3, s, s).
    """
    if len(images) == 0:
        return images.clone()
    return torch.cat([_copy(part.float() / 255, generator) for part in torch.split(images, CHUNK)])


def _copy(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    moved = _moved(images, generator)
    return (_recoloured(moved, generator) * 255).round().clamp(0, 255).to(torch.uint8)


def _spread(count: int, width: float, generator: torch.Generator) -> torch.Tensor:
    """Draws `count` numbers uniformly from -width to width."""
    return (torch.rand(count, generator=generator) * 2 - 1) * width


def _moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    count = len(images)
    angle = _spread(count, TURN, generator)
    zoom = torch.exp(_spread(count, ZOOM, generator))
    stretch = torch.exp(_spread(count, STRETCH, generator))
    across, down = zoom * stretch, zoom / stretch
    rows = [
        torch.stack(
            [angle.cos() / across, -angle.sin() / across, _spread(count, SHIFT, generator)]
        ),
        torch.stack([angle.sin() / down, angle.cos() / down, _spread(count, SHIFT, generator)]),
    ]
    rows = [row * torch.tensor([[1.0], [1.0], [2.0]]) for row in rows]  # the page is 2 wide
    maps = torch.stack(rows).permute(2, 0, 1)  # (n, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    ink = F.grid_sample(1 - images, grid, mode="bilinear", align_corners=False)
    return 1 - ink  # outside the page there is no ink, which is white


def _recoloured(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    count = len(images)
    turn = _spread(count, HUE, generator)
    colour = 1 + _spread(count, SATURATION, generator)
    contrast = 1 + _spread(count, CONTRAST, generator)
    brightness = _spread(count, BRIGHTNESS, generator)
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
