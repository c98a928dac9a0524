"""Populations of models whose margins are given."""

from torch import Tensor

from expunge.signals import Signals


def population(margins: Tensor, name: str) -> Signals:
    """Models called ``name`` with these margins (models, samples)."""
    models, samples = margins.shape
    return Signals(
        margins.float().unsqueeze(2),
        tuple(f"{name} {i}" for i in range(models)),
        tuple(f"x{i}" for i in range(samples)),
        ("margin",),
        ("all",) * samples,
    )
