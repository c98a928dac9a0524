"""Transforms for a term that forgets beside one that keeps, where their gradients oppose.

Both need every term's gradient of its own, so that a step costs two backward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.descent.player import StepGradients
from expunge.descent.transforms import clipped
from expunge.errors import ExpungeError


def inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """The inner product over all parameters together, a scalar."""
    pairs = zip(first, second, strict=True)
    return torch.stack([torch.dot(a.reshape(-1), b.reshape(-1)) for a, b in pairs]).sum()


@dataclass(frozen=True)
class ValueFunction:
    """Keep, under the constraint that forgetting goes on: g_r + lambda g_f.

    Liu, Ye, Wright, Stone, Liu (2022), BOME!, as Wu, Le, Hayat, Harandi (2024), EraseDiff, use it:
    lambda = max(0, eta - <g_r, g_f> / |g_f|^2), so that <step, g_f> is at least eta |g_f|^2.
    The released code first finds how low the forget loss gets in a few steps and takes that off it,
    as a constant, which has no gradient: it changes no step and is left out here.

    Args:
        eta: least share of the forget gradient in every step.
        clip: largest norm of the result.
        keep: name of the term that keeps.
        forget: name of the term that forgets, of weight 1.
    """

    eta: float = 0.5
    clip: float = 1.0
    keep: str = "retain"
    forget: str = "forget"

    def __post_init__(self) -> None:
        if self.eta < 0 or not self.clip > 0:
            raise ExpungeError(
                f"A value function got eta = {self.eta:g} and the clip {self.clip:g}; numbers of "
                "at least 0 and above 0 are expected."
            )

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """The combination, clipped."""
        found = at.per_term()
        keep, forget = found[self.keep], found[self.forget]
        along = inner(keep, forget) / inner(forget, forget).clamp(min=1e-24)
        factor = (self.eta - along).clamp(min=0)
        return clipped([k + factor * f for k, f in zip(keep, forget, strict=True)], self.clip)


@dataclass(frozen=True)
class EpisodicProjection:
    """No step against forgetting: where <g, g_f> < 0, g + v g_f with v at least the margin.

    Lopez-Paz, Ranzato (2017), Gradient Episodic Memory, whose quadratic programme has a closed form
    for one constraint, v = max(margin, -<g, g_f> / |g_f|^2); as Wu, Harandi (2024), Scissorhands,
    use it. g is the gradient of all terms, g_f that of the term that forgets, with its weight.

    Args:
        margin: of the programme.
        clip: largest norm of the result.
        forget: name of the term that forgets.
    """

    margin: float = 0.5
    clip: float = 1.0
    forget: str = "forget"

    def gradients(self, at: StepGradients) -> list[Tensor]:
        """The projected sum, clipped."""
        found = at.per_term()
        total = [torch.stack(parts).sum(0) for parts in zip(*found.values(), strict=True)]
        forget = found[self.forget]
        along = inner(total, forget)
        if float(along) < 0:
            least = -along / inner(forget, forget).clamp(min=1e-24)
            factor = least.clamp(min=self.margin)
            total = [t + factor * f for t, f in zip(total, forget, strict=True)]
        return clipped(total, self.clip)
