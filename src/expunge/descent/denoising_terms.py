"""Terms on the noise that a conditional denoiser predicts.

All are means over rows and over the pixels of a picture, so that weights carry over from one size
to another. Published code mixes sums and means: see :class:`RelabelledNoise`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.conditions import AnchorOrNext, Instead
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, able
from expunge.families.diffusion import DROPPED, Diffusion
from expunge.families.from_noise import NOISE, TIME
from expunge.models.modes import evaluating
from expunge.problem import Fields


@dataclass(frozen=True)
class RelabelledNoise:
    """The distance of what the model sees when told the target to what it sees when told another.

    Fan, Liu, Zhang, Wong, Wei, Liu (2024), SalUn: MSE(eps(x_t, t, c), sg eps(x_t, t, c')) at the
    same noise. Every row is told its condition; none is left out.

    Its released code takes this as a mean over pixels and the loss on the retain set as a sum, so
    that its alpha of 1e-3 is one of 3.07 between two means at 3,072 pixels.

    Args:
        instead: what c' is.
        frozen: c' is asked of the model at the start, and not of the present one, which drifts.
    """

    weight: float = 1.0
    instead: Instead = field(default_factory=AnchorOrNext)
    frozen: bool = False
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (Diffusion,)

    def start(self, setting: Setting, samples: Samples) -> nn.Module | None:
        """The frozen teacher, where there is one."""
        return setting.reference() if self.frozen else None

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean squared distance."""
        family = able(setting.family, Diffusion)
        told, noised = family.condition(batch), family.noised(setting.model, batch)
        others = self.instead.of(setting.problem, told, setting.generator())
        teacher = prepared if isinstance(prepared, nn.Module) else setting.model
        with torch.no_grad():
            wanted = family.noise(teacher, noised, batch[TIME], others)
        found = family.noise(setting.model, noised, batch[TIME], told)
        return (found.float() - wanted.float()).square().mean()


@dataclass(frozen=True)
class GuidedLosses:
    """The denoising loss (B,) of the guided prediction, eps(none) + scale (eps(c) - eps(none)).

    What SalUn's mask is the gradient of: 2 for DDPM, 1 + 7.5 for Stable Diffusion, whose code
    counts its scale from 0.
    """

    scale: float = 2.0

    def __call__(self, family: Family, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error over the pixels of each row."""
        diffusion = able(family, Diffusion)
        told, noised = diffusion.condition(batch), diffusion.noised(model, batch)
        both = torch.cat([told, diffusion.empty(told)])
        answers = diffusion.noise(model, torch.cat([noised] * 2), batch[TIME].repeat(2), both)
        with_it, without = answers.float().chunk(2)
        guided = without + self.scale * (with_it - without)
        return (guided - batch[NOISE]).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Elastic:
    """Distance to the weights at the start, each as much as it mattered: sum F (w - w_0)^2.

    Heng, Soh (2023), Selective Amnesia. F is the empirical Fisher information of the denoising
    losses: for every row one gradient of the losses of all timesteps, squared, and the mean over
    rows. Its scale hangs on the number of timesteps and of pixels, so that here it is divided by
    its mean over all weights (ours).

    It stands on the role whose rows F is read from.

    Args:
        rows: that F is read from at most, the first of the role.
        stride: of the timesteps; 1 reads all of them.
        at_once: timesteps whose losses are computed together.

    Raises:
        ExpungeError: a number is below 1.
    """

    weight: float = 1.0
    rows: int = 50
    stride: int = 1
    at_once: int = 250
    every: int = 1
    batch_size: int | None = 1
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (Diffusion,)

    def __post_init__(self) -> None:
        if min(self.rows, self.stride, self.at_once) < 1:
            raise ExpungeError(
                f"Fisher information was asked of {self.rows} rows at every {self.stride} "
                f"timesteps, {self.at_once} at once; at least 1 of each is expected."
            )

    def start(self, setting: Setting, samples: Samples) -> Mapping[str, tuple[Tensor, Tensor]]:
        """F and the weight at the start, by parameter.

        Raises:
            ExpungeError: no loss depends on any weight.
        """
        model = setting.reference()
        named = dict(model.requires_grad_().named_parameters())
        total = {n: torch.zeros_like(p) for n, p in named.items()}
        chosen = samples.select(torch.arange(min(self.rows, len(samples))))
        with evaluating(model):
            for row in batches(chosen, 1):
                for name, gradient in self._gradient(setting, model, row, named).items():
                    total[name] += gradient.square()
        model.requires_grad_(False)
        count = sum(t.numel() for t in total.values())
        mean = sum(float(t.double().sum()) for t in total.values()) / count
        if not (math.isfinite(mean) and mean > 0):
            raise ExpungeError(
                f"The mean Fisher information of the weights is {mean:g}; a number above 0 is "
                "expected. Check that the model is sound and draws pictures."
            )
        return {n: (total[n] / mean, named[n].detach()) for n in named}

    def _gradient(
        self, setting: Setting, model: nn.Module, row: Batch, named: Mapping[str, nn.Parameter]
    ) -> dict[str, Tensor]:
        """Of the summed losses of one row at every timestep; a timestep has noise of its own."""
        family, run = able(setting.family, Diffusion), setting.run
        times = torch.arange(0, family.schedule.steps, self.stride)
        draws = run.generator(f"{setting.label}/fisher/{int(row[ROW])}")
        found = {n: torch.zeros_like(p) for n, p in named.items()}
        for chunk in torch.split(times, self.at_once):
            copies = {n: t.repeat(len(chunk), *[1] * (t.dim() - 1)) for n, t in row.items()}
            drawn = family.draw(copies, draws)
            told = {TIME: chunk, DROPPED: torch.zeros(len(chunk), dtype=torch.bool)}
            batch = {n: t.to(run.device) for n, t in {**drawn, **told}.items()}
            loss = family.losses(model, batch).means().sum()
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, gradients, strict=True):
                if gradient is not None:
                    found[name] += gradient
        return found

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The sum over all weights; the batch is not read."""
        assert isinstance(prepared, dict)
        live = dict(setting.model.named_parameters())
        parts = [
            (fisher.to(live[n].device) * (live[n] - start.to(live[n].device)).square()).sum()
            for n, (fisher, start) in prepared.items()
        ]
        return torch.stack(parts).sum()
