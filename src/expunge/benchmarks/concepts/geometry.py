"""Concepts of handwritten digits that follow from their pixels."""

from collections.abc import Mapping

import torch
from torch import Tensor

INKED = 0.35
"""Grey value from which a pixel of a digit holds ink, as a share of the darkest."""


def geometric_concepts(images: Tensor) -> Mapping[str, Tensor]:
    """Which of the pictures have each concept.

    Quantities that every picture has are compared with their median over the pictures.

    Args:
        images: (n, 1, H, W) from 0 to 1, ink is bright, H and W even.

    Returns:
        Truth values (n,) by the name of the concept.
    """
    grey = images[:, 0].double()
    height, width = grey.shape[1:]
    mass = grey.sum((1, 2)).clamp(min=1e-9)
    rows, columns = torch.arange(height).double(), torch.arange(width).double()
    down = (grey.sum(2) @ rows) / mass
    right = (grey.sum(1) @ columns) / mass
    off_down = rows.view(1, -1, 1) - down.view(-1, 1, 1)
    off_right = columns.view(1, 1, -1) - right.view(-1, 1, 1)
    tall = (grey * off_down.square()).sum((1, 2)) / mass
    wide = (grey * off_right.square()).sum((1, 2)) / mass
    lean = (grey * off_down * off_right).sum((1, 2)) / mass
    half, middle = height // 2, slice(width // 2 - 1, width // 2 + 1)
    holes = torch.tensor([_holes(one) for one in grey])
    quantities = {
        "much ink": mass,
        "tall": tall,
        "wide": wide,
        "leaning to the left": lean,
        "ink at the top": grey[:, 0].sum(1),
        "ink at the bottom": grey[:, -1].sum(1),
        "like its mirror image": _likeness(grey, grey.flip(2)),
        "like itself upside down": _likeness(grey, grey.flip(1)),
        "ink in the upper left": grey[:, :half, : width // 2].sum((1, 2)),
        "ink in the lower left": grey[:, half:, : width // 2].sum((1, 2)),
        "ink in the centre": grey[:, half - 1 : half + 1, middle].sum((1, 2)),
    }
    return {
        "a hole": holes > 0,
        "heavier on the left": right < (width - 1) / 2,
        "heavier at the top": down < (height - 1) / 2,
        **{name: found > found.median() for name, found in quantities.items()},
    }


def _holes(grey: Tensor) -> int:
    """Parts of the ground that ink cuts off from the border."""
    from scipy.ndimage import label

    ground = torch.nn.functional.pad(grey < INKED, (1, 1, 1, 1), value=True)
    return int(label(ground.numpy())[1]) - 1


def _likeness(one: Tensor, other: Tensor) -> Tensor:
    """Cosine (n,) of pictures (n, H, W)."""
    return torch.nn.functional.cosine_similarity(one.flatten(1), other.flatten(1))
