"""Terms that turn a denoiser away from data: the moderation of score-based models.

Jiang, Wang, Zhang, Guo, Fan, Diao, Hong (2025). Moderating the Generalization of Score-based
Generative Model, with its released losses. A network n predicts the noise z that was drawn; the
score s has s sigma = -n, and that of one noising is -z / sigma. All are means over the pixels.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.player import Setting
from expunge.families.abilities import HasNoise, able
from expunge.problem import Fields


@dataclass(frozen=True)
class OrthogonalScore:
    """(n z)^2 pixel by pixel, the loss named "square". Its smallest value is that of n = 0."""

    weight: float = 0.01
    every: int = 4
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasNoise,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean of the squared products."""
        found, drawn = able(setting.family, HasNoise).noises(setting.model, batch)
        return (found.float() * drawn).square().mean()


@dataclass(frozen=True)
class PerpendicularScore:
    """The squared inner product <n, z>^2 / D: the angle that "orthogonal" speaks of.

    Ours: the released loss squares every pixel's product instead.
    """

    weight: float = 0.01
    every: int = 4
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasNoise,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean over the batch."""
        found, drawn = able(setting.family, HasNoise).noises(setting.model, batch)
        inner = (found.float() * drawn).flatten(1).sum(1)
        return (inner.square() / drawn[0].numel()).mean()


@dataclass(frozen=True)
class ObtuseScore:
    """The inner product of the score with -z, the loss named "norm": n z.

    It has no lower bound. As published it is -n z, which drives the score ALONG -z without end.
    """

    weight: float = 0.01
    every: int = 4
    as_published: bool = False
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasNoise,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean of the products."""
        found, drawn = able(setting.family, HasNoise).noises(setting.model, batch)
        product = (found.float() * drawn).mean()
        return -product if self.as_published else product


@dataclass(frozen=True)
class ErasedScore:
    """(n - z')^2 with z' uniform in [0, 1): noise that has nothing to do with the picture.

    The paper's ablation "erase", and EraseDiff's target.
    """

    weight: float = 0.01
    every: int = 4
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasNoise,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean of the squared distances."""
        found, drawn = able(setting.family, HasNoise).noises(setting.model, batch)
        other = torch.rand(drawn.shape, generator=setting.generator()).to(drawn.device)
        return (found.float() - other).square().mean()


@dataclass(frozen=True)
class BoundedScore:
    """D cos(n, z), D the number of pixels: bounded below and free of scale. Ours."""

    weight: float = 0.1
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasNoise,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean over the batch."""
        found, drawn = able(setting.family, HasNoise).noises(setting.model, batch)
        angles = F.cosine_similarity(found.float().flatten(1), drawn.flatten(1))
        return drawn[0].numel() * angles.mean()
