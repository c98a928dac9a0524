"""Drawing from conditional diffusion models: DDIM under a guidance, and one step.

Song, Meng, Ermon (2021). Denoising Diffusion Implicit Models, by the scheduler of ``diffusers``.
The noise at the start and in the steps is fixed by a name and the seed of the run, so that two
models answer the same question; the network is asked in evaluation mode and without gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.families.diffusion import Diffusion
from expunge.models.modes import evaluating
from expunge.run import Run, on_device

Asked = Callable[[Tensor], Tensor]
"""The noise that a model sees in the present pictures, told some conditions."""


class Steering(Protocol):
    """How the answers to several conditions become one noise; made anew for every drawing."""

    def noise(self, asked: Asked, condition: Tensor, empty: Tensor, scale: float) -> Tensor:
        """The noise of the present step.

        Args:
            asked: from conditions (B, ...) to noise.
            condition: what is to be drawn (B, ...).
            empty: no condition (B, ...).
            scale: of the guidance.
        """
        ...


@runtime_checkable
class Steered(Protocol):
    """A guarded model that says how its drawings are steered."""

    def steering(self) -> Steering:
        """One for a drawing."""
        ...


@dataclass(frozen=True)
class ClassifierFree:
    """Ho, Salimans (2022): eps(none) + scale (eps(c) - eps(none)). A scale of 1 asks once."""

    def noise(self, asked: Asked, condition: Tensor, empty: Tensor, scale: float) -> Tensor:
        """The guided noise."""
        if scale == 1:
            return asked(condition)
        both = asked(torch.cat([condition, empty]))
        told, untold = both.chunk(2)
        return untold + scale * (told - untold)


@dataclass(frozen=True)
class DDIM:
    """Steps from noise to pictures.

    Args:
        steps: of the sampler.
        guidance: scale; 1 is none.
        at_once: pictures that are drawn together.
        eta: how much of the noise that a step takes away is drawn anew (Equation 16): 0 is DDIM,
            1 is ancestral, in which later steps mend what earlier ones left. Above 0 a step leads
            to the posterior of the clipped picture, as ancestral sampling does.
    """

    steps: int = 25
    guidance: float = 2.0
    at_once: int = 256
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.guidance < 0 or self.at_once < 1 or not 0 <= self.eta <= 1:
            raise ExpungeError(
                f"A sampler got {self.steps} steps, the guidance {self.guidance:g}, "
                f"{self.at_once} pictures at once and the eta {self.eta:g}; at least 1 step and "
                "picture, no negative guidance and an eta from 0 to 1 are expected."
            )

    def drawn(
        self, family: Diffusion, model: nn.Module, conditions: Tensor, run: Run, name: str
    ) -> Tensor:
        """Pictures (n, C, H, W) from 0 to 1, one for each condition.

        Args:
            family: of the model.
            model: the network, perhaps under a guard that steers it.
            conditions: what to draw (n, ...).
            run: its seed and ``name`` fix the noise at the start and in the steps.
            name: of the bank of noise.
        """
        draws = run.generator(f"drawing/{name}/steps")

        def made(family: Diffusion, model: nn.Module, noise: Tensor, condition: Tensor) -> Tensor:
            return self.backwards(family, model, noise, condition, draws)

        return _drawn(family, model, conditions, run, name, self.at_once, made)

    def backwards(
        self,
        family: Diffusion,
        model: nn.Module,
        noise: Tensor,
        condition: Tensor,
        draws: torch.Generator,
        until: int = 0,
    ) -> Tensor:
        """From noise (B, ...) to what is left of it after all steps but the last ``until``.

        With ``until`` above 0 it is x_t at the timestep :meth:`time_after` of it. ``draws`` is
        asked for the noise of all steps at once, picture by picture, and not with an ``eta`` of 0.
        """
        scheduler = self._scheduler(family)
        unknown, x = family.empty(condition), noise
        anew = self._anew(noise, draws)
        steering = model.steering() if isinstance(model, Steered) else ClassifierFree()
        for place, time in enumerate(scheduler.timesteps[: self.steps - until]):

            def asked(told: Tensor, x: Tensor = x, time: Tensor = time) -> Tensor:
                copies = x.repeat(len(told) // len(x), *[1] * (x.dim() - 1))
                return family.noise(model, copies, time.expand(len(told)).to(x.device), told)

            predicted = steering.noise(asked, condition, unknown, self.guidance)
            fresh = None if anew is None else anew[:, place]
            x = scheduler.step(
                predicted,
                time,
                x,
                eta=self.eta,
                use_clipped_model_output=self.eta > 0,
                variance_noise=fresh,
            ).prev_sample
        return x

    def _anew(self, noise: Tensor, draws: torch.Generator) -> Tensor | None:
        """The noise of the steps (B, steps, ...)."""
        if self.eta == 0:
            return None
        shape = (len(noise), self.steps, *noise.shape[1:])
        return torch.randn(shape, generator=draws).to(noise.device)

    def time_after(self, family: Diffusion, until: int) -> int:
        """The timestep of what :meth:`backwards` returns where ``until`` steps are left."""
        if not 1 <= until <= self.steps:
            raise ExpungeError(
                f"{until} steps of {self.steps} were to be left; 1 to {self.steps} are expected."
            )
        return int(self._scheduler(family).timesteps[self.steps - until])

    def _scheduler(self, family: Diffusion) -> Any:
        from diffusers import DDIMScheduler

        its = family.schedule
        if self.steps > its.steps:
            raise ExpungeError(
                f"{self.steps} steps were asked of a model of {its.steps} timesteps; as many at "
                "most are expected."
            )
        scheduler = DDIMScheduler(
            num_train_timesteps=its.steps,
            beta_start=its.first,
            beta_end=its.last,
            beta_schedule=its.betas,
            prediction_type=its.prediction,
            timestep_spacing="trailing",
            clip_sample=family.drawn_shape == family.shape,  # pixels end at -1 and 1, latents not
            set_alpha_to_one=True,
        )
        scheduler.set_timesteps(self.steps)
        return scheduler


@dataclass(frozen=True)
class OneStep:
    """A generator: x_0 as predicted from noise alone, at a fixed timestep, in one call.

    Chen, Zhang, Zhou (2025). Score Forgetting Distillation.

    Args:
        initial: the timestep.
        at_once: pictures that are drawn together.
    """

    initial: int = 440
    at_once: int = 256

    def drawn(
        self, family: Diffusion, model: nn.Module, conditions: Tensor, run: Run, name: str
    ) -> Tensor:
        """Pictures (n, C, H, W) from 0 to 1, as :meth:`DDIM.drawn` from the same noise."""
        return _drawn(family, model, conditions, run, name, self.at_once, self.made)

    def made(self, family: Diffusion, model: nn.Module, z: Tensor, condition: Tensor) -> Tensor:
        """What the network denoises of standard normal ``z`` (B, ...); gradients flow."""
        time = torch.full((len(z),), self.initial, device=z.device)
        _, deviation = family.schedule.marginal(time[:1])
        noised = deviation * z
        return family.clean(noised, time, family.noise(model, noised, time, condition))


Sampler = DDIM | OneStep


def _drawn(
    family: Diffusion,
    model: nn.Module,
    conditions: Tensor,
    run: Run,
    name: str,
    at_once: int,
    made: Callable[[Diffusion, nn.Module, Tensor, Tensor], Tensor],
) -> Tensor:
    """Pictures (n, C, H, W), as many at once as are said, from the bank of noise ``name``."""
    bank = run.generator(f"drawing/{name}")
    start = torch.randn(len(conditions), *family.drawn_shape, generator=bank)
    pairs = zip(torch.split(start, at_once), torch.split(conditions, at_once), strict=True)
    with evaluating(on_device(model, run)) as asked, torch.inference_mode():
        found = [
            family.decoded(asked, made(family, asked, z.to(run.device), told.to(run.device))).cpu()
            for z, told in pairs
        ]
    return torch.cat(found) if found else torch.zeros(0, *family.shape)
