"""Transforms of gradients that any descent can carry."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.descent.player import StepGradients


def norm(gradient: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm over all parameters together, a scalar."""
    lengths = torch.stack([torch.linalg.vector_norm(g) for g in gradient])
    found: Tensor = torch.linalg.vector_norm(lengths)
    return found


def clipped(gradient: Sequence[Tensor], limit: float) -> list[Tensor]:
    """The gradient, scaled down to norm ``limit`` where it is longer."""
    factor = (limit / norm(gradient).clamp(min=1e-12)).clamp(max=1.0)
    return [g * factor for g in gradient]


@dataclass(frozen=True)
class ClipNorm:
    """Scale the whole gradient down to Euclidean norm ``limit`` where it is longer."""

    limit: float = 1.0

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """The clipped gradient of the sum of all terms."""
        return clipped(at.total(), self.limit)


@dataclass(frozen=True)
class ClipValue:
    """Cut every entry of the gradient to the range from minus ``limit`` to ``limit``."""

    limit: float = 1.0

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """The cut gradient of the sum of all terms."""
        return [g.clamp(-self.limit, self.limit) for g in at.total()]


@dataclass(frozen=True)
class ProjectConflicts:
    """Take from each term's gradient the part that opposes another term's, then add them.

    Yu, Kumar, Gupta, Levine, Hausman, Finn (2020). Gradient Surgery for Multi-Task Learning
    (PCGrad, Algorithm 1, with the other terms in role order instead of a random one). The
    projection is over all parameters together.
    """

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """Sum of the projected gradients."""
        original = at.per_term()
        flat = {role: torch.cat([g.reshape(-1) for g in gs]) for role, gs in original.items()}
        total = torch.zeros_like(next(iter(flat.values())))
        for role, own in flat.items():
            projected = own.clone()
            for other, direction in flat.items():
                along = torch.dot(projected, direction)
                if other != role and along < 0:
                    projected -= along / direction.square().sum().clamp(min=1e-24) * direction
            total += projected
        pieces = torch.split(total, [p.numel() for p in at.parameters])
        return [piece.reshape(p.shape) for piece, p in zip(pieces, at.parameters, strict=True)]
