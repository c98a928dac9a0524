"""Score distillation under a request: a generator of one step, and a network that scores it.

Chen, Zhang, Zhou (2025). Score Forgetting Distillation: A Swift, Data-Free Method for Machine
Unlearning in Diffusion Models, on Score identity Distillation (Zhou et al. 2024). The generator is
the model that moves, the companion :data:`FAKE` follows what it draws, and the teacher is the model
at the start. All pictures are the generator's own. As published, a row's loss is a SUM over pixels:
gradients are cut by value, for which the scale counts.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples
from expunge.descent.denoising_sources import ANCHOR, START, TARGET
from expunge.descent.player import Setting
from expunge.families.abilities import able
from expunge.families.diffusion import Diffusion
from expunge.families.diffusion_sampling import OneStep
from expunge.families.from_noise import NOISE, TIME
from expunge.problem import Fields

FAKE = "fake_score"
"""The companion that learns the noise of the generator's pictures."""


@dataclass(frozen=True)
class FakeScore:
    """The denoising loss of the companion on what the generator draws, which stays as it is.

    Args:
        target_weight: factor of the mean over rows of the target.
        initial: timestep at which the generator draws.
    """

    weight: float = 1.0
    target_weight: float = 0.01
    initial: int = 440
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (Diffusion,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean over kept rows, and the weighted one over those of the target."""
        family = able(setting.family, Diffusion)
        told, time, noise = family.condition(batch), batch[TIME], batch[NOISE]
        with torch.no_grad():
            made = OneStep(self.initial).made(family, setting.model, batch[START], told)
        noised = family.noised_at(made, time, noise)
        found = family.noise(setting.modules[FAKE], noised, time, told)
        return _both((found.float() - noise).square(), batch, self.target_weight)


@dataclass(frozen=True)
class ScoreIdentity:
    """(y_p - y_s) ((y_p - x) - alpha (y_p - y_s)) / omega, summed over pixels.

    x is what the generator draws, y_p and y_s what teacher and companion make of it once it is
    noised again, and omega the mean of |y_p - x|, held fixed. The gradient flows through both
    networks to x. The teacher is told the anchor on rows of the target.

    Args:
        target_weight: factor of the mean over rows of the target.
        alpha: see above.
        initial: timestep at which the generator draws.
    """

    weight: float = 1.0
    target_weight: float = 0.01
    alpha: float = 1.2
    initial: int = 440
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (Diffusion,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean over kept rows, and the weighted one over those of the target."""
        family = able(setting.family, Diffusion)
        told, time = family.condition(batch), batch[TIME]
        made = OneStep(self.initial).made(family, setting.model, batch[START], told)
        noised = family.noised_at(made, time, batch[NOISE])

        def clean(network: nn.Module, condition: Tensor) -> Tensor:
            noise = family.noise(network, noised, time, condition)
            return family.clean(noised, time, noise).float()

        teacher = clean(setting.reference(), batch[ANCHOR])
        fake = clean(setting.modules[FAKE], told)
        apart = teacher - fake
        scale = (teacher - made).abs().flatten(1).mean(1).clamp(min=1e-5).detach()
        values = apart * ((teacher - made) - self.alpha * apart)
        return _both(values / scale.view(-1, *[1] * (made.dim() - 1)), batch, self.target_weight)


def _both(values: Tensor, batch: Batch, target_weight: float) -> Tensor:
    """The mean over kept rows of the sums of values (B, ...), and the weighted one over the
    target's."""
    rows, target = values.flatten(1).sum(1), batch[TARGET]
    kept = rows[~target].mean()
    return kept + target_weight * rows[target].mean() if bool(target.any()) else kept
