"""Batches for denoisers that no row of data is in: noise pictures, and a generator's own."""

from dataclasses import dataclass, field

import torch

from expunge.data.samples import Batch
from expunge.descent.conditions import AnchorOrNext, Instead, kept_of, target_of
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import able
from expunge.families.diffusion import DROPPED, Diffusion
from expunge.families.from_noise import NOISE, TIME

START, ANCHOR, TARGET = "start", "anchor", "target"
"""Fields of a batch of :class:`OwnPictures`: the noise that the generator starts from (B, ...), the
condition that the teacher is told (B, ...), and which rows are of the target (B,)."""


@dataclass(frozen=True)
class UniformPictures:
    """Pictures of uniform noise under the target's condition: the surrogate of Selective Amnesia.

    Heng, Soh (2023). No condition is left out, so that drawing without any stays as it is.

    Args:
        prompts: how the target is spoken of; by default in its own words alone.
    """

    prompts: tuple[str, ...] = ()

    def batch(self, setting: Setting, size: int, generator: torch.Generator) -> Batch:
        """Drawn rows: ``image`` from 0 to 1, its condition, timesteps and noise."""
        family = able(setting.family, Diffusion)
        told = family.conditions(self.prompts or (target_of(setting.problem),))
        chosen = torch.randint(len(told), (size,), generator=generator)
        images = torch.rand(size, *family.shape, generator=generator)
        drawn = family.draw({"image": images, family.told_by: told[chosen]}, generator)
        return {**drawn, DROPPED: torch.zeros(size, dtype=torch.bool)}


@dataclass(frozen=True)
class OwnPictures:
    """What a one-step generator is asked to draw, and how its pictures are noised again.

    Chen, Zhang, Zhou (2025). Score Forgetting Distillation. The condition is one of those that
    stay, evenly, and the target's for further rows; those are shown to the teacher under another.

    Args:
        targets: rows of the target beside those of a batch; 0 for none.
        first: earliest timestep.
        last: the one after the latest.
        instead: what the teacher is told in the target's place.
        prompts: what stays, where the model is told sentences.
        target_prompts: how the target is spoken of; by default in its own words alone.

    Raises:
        ExpungeError: there are no timesteps in between.
    """

    targets: int = 0
    first: int = 38
    last: int = 712
    instead: Instead = field(default_factory=AnchorOrNext)
    prompts: tuple[str, ...] = ()
    target_prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.last or self.targets < 0:
            raise ExpungeError(
                f"Timesteps from {self.first} to {self.last} and {self.targets} rows of the target "
                "were asked for; rising timesteps from 0 on and at least 0 rows are expected."
            )

    def batch(self, setting: Setting, size: int, generator: torch.Generator) -> Batch:
        """Starts, conditions, anchors, timesteps and noise of ``size`` kept rows and the targets.

        Raises:
            ExpungeError: the schedule has fewer timesteps.
        """
        family, problem = able(setting.family, Diffusion), setting.problem
        if self.last > family.schedule.steps:
            raise ExpungeError(
                f"Timesteps up to {self.last} were asked of a schedule of {family.schedule.steps}; "
                "give smaller ones, in proportion to its length."
            )
        kept, about = kept_of(problem, self.prompts), target_of(problem)
        told = kept[torch.randint(len(kept), (size,), generator=generator)]
        spoken = family.conditions(self.target_prompts or (about,))
        targets = spoken[torch.randint(len(spoken), (self.targets,), generator=generator)]
        others = self.instead.of(problem, targets, generator) if self.targets else targets
        rows = size + self.targets
        times = torch.randint(self.first, self.last, (rows,), generator=generator)
        return {
            START: torch.randn(rows, *family.drawn_shape, generator=generator),
            NOISE: torch.randn(rows, *family.drawn_shape, generator=generator),
            TIME: times,
            family.told_by: torch.cat([told, targets]),
            ANCHOR: torch.cat([told, others]),
            TARGET: torch.arange(rows) >= size,
        }
