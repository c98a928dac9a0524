"""Terms and sources for text-to-image models that are told in words what is to be forgotten.

No picture of anyone is read: the model draws what is needed. All distances are means over rows and
pixels.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.descent.spoken import PROMPT, PROMPTS, anchored, spoken
from expunge.families.abilities import able
from expunge.families.diffusion import TextDiffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.families.from_noise import TIME
from expunge.problem import Access, Fields
from expunge.recipe import Role

NOISED, INSTEAD = "noised", "instead"
"""Fields of a batch: x_t (B, ...), and the prompts (B, L) that stand in the place of its own."""


@dataclass(frozen=True)
class HalfDrawn:
    """Prompts that speak of the target, and x_t as the model at the start draws it from them.

    Gandikota, Materzynska, Fiotto-Kaufman, Bau (2023), ESD. The sampler stops at a step drawn
    evenly, the same for a batch; ``instead`` has the anchor in the target's place, or is no
    condition where the request names none.

    Args:
        sampler: draws it, under its guidance.
    """

    sampler: DDIM = field(default_factory=lambda: DDIM(50, 3.0))

    @property
    def access(self) -> Access:
        """The prompts."""
        return PROMPTS

    def batch(self, setting: Setting, size: int, generator: torch.Generator) -> Batch:
        """``size`` prompts, their x_t, timesteps, and what stands in their place."""
        family = able(setting.family, TextDiffusion)
        target = spoken(setting.problem).target
        told = target[torch.randint(len(target), (size,), generator=generator)]
        left = int(torch.randint(1, self.sampler.steps + 1, (1,), generator=generator))
        noise = torch.randn(size, *family.drawn_shape, generator=generator)
        device = setting.run.device
        with torch.no_grad():
            noised = self.sampler.backwards(
                family, setting.reference(), noise.to(device), told.to(device), generator, left
            )
        setting.run.meter.touch(Role.PROMPTS.value, size)
        times = torch.full((size,), self.sampler.time_after(family, left))
        others = anchored(setting.problem, told) if setting.problem.request.anchor else None
        instead = family.empty(told) if others is None else others
        return {PROMPT: told, INSTEAD: instead, NOISED: noised, TIME: times}


@dataclass(frozen=True)
class ErasedNoise:
    """Distance to eps_0(c) - scale (eps_0(c) - eps_0(c*)), of the model at the start.

    ESD as its code has it now; with ``scale`` 0 the target is what the model sees already. The
    paper's eps_0(c*) - eta (eps_0(c) - eps_0(c*)) is a scale of eta + 1.

    Args:
        scale: how far beyond c* the target lies, seen from c.
    """

    scale: float = 2.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (TextDiffusion,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean squared distance on a batch of :class:`HalfDrawn`."""
        family, before = able(setting.family, TextDiffusion), setting.reference()
        noised, time = batch[NOISED], batch[TIME]
        with torch.no_grad():  # each asked by itself, so that a scale of 0 leaves not even rounding
            target = family.noise(before, noised, time, batch[PROMPT])
            instead = family.noise(before, noised, time, batch[INSTEAD])
            wanted = target - self.scale * (target - instead)
        found = family.noise(setting.model, noised, time, batch[PROMPT])
        return (found.float() - wanted.float()).square().mean()


@dataclass(frozen=True)
class AblatedNoise:
    """Distance of what the model sees in an anchor's picture, told the target, to what it is when
    told the anchor.

    Kumari, Zhang, Wang, Shechtman, Zhang, Zhu (2023), Concept Ablation, its model-based form. It
    stands on rows of ``image``, ``prompt`` (the anchor's) and ``instead`` (the target's).

    Args:
        frozen: the anchor's noise is that of the model at the start, and not of the present one.
    """

    frozen: bool = False
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (TextDiffusion,)

    def start(self, setting: Setting, samples: Samples) -> nn.Module | None:
        """The frozen teacher, where there is one."""
        return setting.reference() if self.frozen else None

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean squared distance."""
        family = able(setting.family, TextDiffusion)
        teacher = prepared if isinstance(prepared, nn.Module) else setting.model
        with torch.no_grad():
            noised = family.noised(setting.model, batch)
            wanted = family.noise(teacher, noised, batch[TIME], batch[PROMPT])
        found = family.noise(setting.model, noised, batch[TIME], batch[INSTEAD])
        return (found.float() - wanted.float()).square().mean()
