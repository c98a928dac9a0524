"""Score models: networks that predict the noise in a picture, at any time of a diffusion.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-Based Generative Modeling through
Stochastic Differential Equations. The network n(x, t) predicts z in x_t = m_t x_0 + sigma_t z, so
that the score is -n / sigma_t; it is trained by the mean of |n - z|^2 (denoising score matching
without likelihood weighting). It is called as U-Nets of ``diffusers`` are, with the time as a
timestep from 0 to 999.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.from_noise import NOISE, TIME, FromNoise, centred, pictures, predicted, wide
from expunge.families.sde import SDE, VE, VP, SubVP

TIMESTEPS = 999.0
"""Timestep of a U-Net at t = 1."""


@dataclass(frozen=True)
class Score(FromNoise):
    """Family ``score``: unconditional, in continuous time.

    A batch holds ``image`` (B, C, H, W) from 0 to 1; the diffusion works on it from -1 to 1.

    Args:
        sde: the diffusion.
        earliest: t at which the noise is smallest while training; below it the score explodes.
    """

    sde: SDE = field(default_factory=VP)
    earliest: float = 1e-5
    name: str = "score"
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "sde": {"vp": VP, "sub-vp": SubVP, "ve": VE}
    }

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
            ExpungeError: the network does not take these pictures, or answers with another shape.
        """
        _, deviation = self.sde.marginal(time)
        scale = (1 + deviation.square()).rsqrt() if self.sde.prior > 1 else torch.ones_like(time)
        try:
            answer = model(wide(scale, noised) * noised, TIMESTEPS * time)
        except RuntimeError as error:
            raise ExpungeError(
                f"The score network was given pictures of shape {tuple(noised.shape)} and failed "
                f"({str(error).splitlines()[0]}); pictures of the channels and the size that it "
                "was made for are expected."
            ) from error
        return predicted(answer, noised)

    def score(self, model: nn.Module, noised: Tensor, time: Tensor) -> Tensor:
        """The gradient of log p_t at ``noised``: minus the noise over its deviation."""
        _, deviation = self.sde.marginal(time)
        return -self.noise(model, noised, time) / wide(deviation, noised)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The predicted noise (B, C, H, W) of a drawn batch."""
        return self.noise(model, self.noised(batch), batch[TIME])
