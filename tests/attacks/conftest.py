"""Margins drawn from known normals: shadow models and a target whose memberships are known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from expunge.attacks import Shadows, Target


@pytest.fixture(scope="session")
def known_normals() -> Callable[..., tuple[Target, Shadows, Tensor]]:
    """Draws a target, its shadows and its members (samples,).

    A sample's margin is its own level (normal, ``spread``), ``gain`` more for members, and a normal
    with deviation 1 over models and queries. Every sample is in half of the shadow models.
    """

    def draw(
        models: int, samples: int, gain: float, seed: int = 0, spread: float = 3.0, queries: int = 1
    ) -> tuple[Target, Shadows, Tensor]:
        drawn = torch.Generator().manual_seed(seed)
        ranks = torch.rand(models, samples, generator=drawn).argsort(0).argsort(0)
        own = torch.rand(1, samples, generator=drawn) < 0.5
        member = torch.cat([ranks < models // 2, own])
        level = spread * torch.randn(samples, 1, generator=drawn, dtype=torch.float64)
        noise = torch.randn(models + 1, samples, queries, generator=drawn, dtype=torch.float64)
        margins = level + gain * member.unsqueeze(2).double() + noise
        ids = tuple(f"row:{i}" for i in range(samples))
        names = tuple(f"shadow {i}" for i in range(models))
        return Target(margins[-1], ids), Shadows(margins[:-1], member[:-1], ids, names), member[-1]

    return draw
