"""Score models: networks that predict the noise in a picture, at any time of a diffusion.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-Based Generative Modeling through
Stochastic Differential Equations. The network n(x, t) predicts z in x_t = m_t x_0 + sigma_t z, so
that the score is -n / sigma_t; it is trained by the mean of |n - z|^2 (denoising score matching
without likelihood weighting). It is called as U-Nets of ``diffusers`` are, with the time as a
timestep from 0 to 999.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from expunge.changes.weights import buffers_of
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy, UnitLosses
from expunge.families.blocks import blocks_of
from expunge.families.sde import SDE, VP

TIMESTEPS = 999.0
"""Timestep of a U-Net at t = 1."""

TIME, NOISE = "time", "noise"
"""Fields that :meth:`Score.draw` adds to a batch."""


@dataclass(frozen=True)
class Score:
    """Family ``score``: unconditional, in continuous time.

    A batch holds ``image`` (B, C, H, W) from 0 to 1; the diffusion works on it from -1 to 1.

    Args:
        sde: the diffusion.
        earliest: t at which the noise is smallest while training; below it the score explodes.
    """

    sde: SDE = field(default_factory=VP)
    earliest: float = 1e-5
    name: str = "score"

    def __post_init__(self) -> None:
        if not 0 < self.earliest < 1:
            raise ExpungeError(
                f"The earliest time of a score model was given as {self.earliest:g}; a number "
                "between 0 and 1 is expected, such as 1e-5."
            )

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with a time (B,) uniform in [earliest, 1] and noise of the pictures' shape.

        Raises:
            ExpungeError: the batch has no pictures (B, C, H, W).
        """
        images = pictures(batch)
        share = torch.rand(len(images), generator=generator)
        time = self.earliest + (1 - self.earliest) * share
        noise = torch.randn(images.shape, generator=generator)
        return {**batch, TIME: time, NOISE: noise}

    def noised(self, batch: Batch) -> Tensor:
        """x_t (B, C, H, W) of a drawn batch."""
        factor, deviation = self.sde.marginal(batch[TIME])
        images = centred(pictures(batch))
        return wide(factor, images) * images + wide(deviation, images) * batch[NOISE]

    def noise(self, model: nn.Module, noised: Tensor, time: Tensor) -> Tensor:
        """The noise that the network sees in ``noised`` (B, C, H, W) at ``time`` (B,).

        Raises:
            ExpungeError: the network answers with another shape.
        """
        _, deviation = self.sde.marginal(time)
        scale = (1 + deviation.square()).rsqrt() if self.sde.prior > 1 else torch.ones_like(time)
        answer: Any = model(wide(scale, noised) * noised, TIMESTEPS * time)
        found: Tensor = getattr(answer, "sample", answer)
        if found.shape != noised.shape:
            raise ExpungeError(
                f"The score network answered pictures of shape {tuple(noised.shape)} with "
                f"{tuple(found.shape)}; the noise in them is expected, of the same shape. Check "
                "its channels and its image size."
            )
        return found

    def score(self, model: nn.Module, noised: Tensor, time: Tensor) -> Tensor:
        """The gradient of log p_t at ``noised``: minus the noise over its deviation."""
        _, deviation = self.sde.marginal(time)
        return -self.noise(model, noised, time) / wide(deviation, noised)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The predicted noise (B, C, H, W) of a drawn batch."""
        return self.noise(model, self.noised(batch), batch[TIME])

    def noises(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The predicted and the drawn noise (B, C, H, W)."""
        return self.outputs(model, batch), batch[NOISE]

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Squared error of the predicted noise; a unit is a pixel of a channel."""
        errors = (self.outputs(model, batch).float() - batch[NOISE]).square().flatten(1)
        return UnitLosses(errors, torch.ones_like(errors, dtype=torch.bool))

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Blocks as :func:`blocks_of` finds them; the head is the last of them."""
        blocks = blocks_of(model)
        return Anatomy(blocks, blocks[next(reversed(blocks))], buffers=tuple(buffers_of(model)))


def pictures(batch: Batch) -> Tensor:
    """The pictures (B, C, H, W) of a batch.

    Raises:
        ExpungeError: there are none, or they have another shape.
    """
    images = batch.get("image")
    if images is None or images.dim() != 4:
        given = "none" if images is None else f"one of shape {tuple(images.shape)}"
        raise ExpungeError(
            f"A score model reads the field `image` of shape (rows, channels, height, width) and "
            f"was given {given}; map a picture column to it."
        )
    return images


def centred(images: Tensor) -> Tensor:
    """From [0, 1] to [-1, 1]."""
    return 2 * images - 1


def wide(values: Tensor, like: Tensor) -> Tensor:
    """Values (B,) as a column that multiplies (B, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))
