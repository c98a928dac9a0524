"""Drawing from score models: backwards through the diffusion, with noise or without.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-Based Generative Modeling through
Stochastic Differential Equations (Algorithms 2 and 3, Sections 4.3 and 5, Appendices G and I.2).
All return pictures (B, C, H, W) from 0 to 1; the network is asked in evaluation mode and without
gradients.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.families.from_noise import centred, wide
from expunge.families.score import Score
from expunge.models.modes import evaluating
from expunge.run import Run, on_device


@dataclass(frozen=True)
class PredictorCorrector:
    """Euler-Maruyama steps backwards, each followed by steps of Langevin dynamics.

    Args:
        steps: of the predictor.
        corrections: Langevin steps after each of them; none in the paper of MSGM.
        ratio: signal-to-noise ratio of a correction.
        last: time at which the noise is left out and the mean taken.
    """

    steps: int = 1000
    corrections: int = 0
    ratio: float = 0.16
    last: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.corrections < 0 or not 0 < self.last < 1:
            raise ExpungeError(
                f"A sampler got {self.steps} steps, {self.corrections} corrections and the last "
                f"time {self.last:g}; at least 1 step, no negative number of corrections and a "
                "time between 0 and 1 are expected."
            )

    def drawn(
        self, family: Score, model: nn.Module, shape: tuple[int, ...], run: Run, name: str
    ) -> Tensor:
        """Pictures of ``shape`` (B, C, H, W); ``name`` fixes the noise for a seed of the run."""
        return self._backwards(family, model, torch.zeros(shape), torch.zeros(shape), run, name)

    def inpainted(
        self, family: Score, model: nn.Module, images: Tensor, known: Tensor, run: Run, name: str
    ) -> Tensor:
        """Pictures whose unknown part is drawn again, given the known one.

        Before every step the known part is put to its value with the noise of the present time.

        Args:
            family: of the model.
            model: the score network.
            images: (B, C, H, W) from 0 to 1.
            known: 1 where a pixel is given and 0 where it is drawn, of the same shape.
            run: its seed and ``name`` fix the noise.
            name: of the stream of random numbers.
        """
        return self._backwards(family, model, centred(images), known, run, name)

    def _backwards(
        self,
        family: Score,
        model: nn.Module,
        given: Tensor,
        known: Tensor,
        run: Run,
        name: str,
    ) -> Tensor:
        noise = run.generator(f"sampler/{name}")
        sde, inpaints = family.sde, bool(known.any())
        x = mean = sde.prior * _normal(given, noise, run)
        given, known = given.to(run.device), known.to(run.device)
        times = torch.linspace(1.0, self.last, self.steps + 1, device=run.device)
        with evaluating(on_device(model, run)) as asked, torch.inference_mode():
            for here, there in itertools.pairwise(times):
                time = here.expand(len(x))
                if inpaints:
                    factor, deviation = sde.marginal(time)
                    then = wide(factor, x) * given + wide(deviation, x) * _normal(x, noise, run)
                    x = known * then + (1 - known) * x
                for _ in range(self.corrections):
                    x = self._corrected(family, asked, x, time, noise, run)
                length = here - there
                diffusion = wide(sde.diffusion(time), x)
                score = family.score(asked, x, time)
                drift = wide(sde.drift(time), x) * x - diffusion.square() * score
                mean = x - drift * length
                x = mean + diffusion * length.sqrt() * _normal(x, noise, run)
        found = known * given + (1 - known) * mean
        return ((found + 1) / 2).cpu()

    def _corrected(
        self,
        family: Score,
        model: nn.Module,
        x: Tensor,
        time: Tensor,
        generator: torch.Generator,
        run: Run,
    ) -> Tensor:
        score, noise = family.score(model, x, time), _normal(x, generator, run)
        lengths = [part.flatten(1).norm(dim=1).mean() for part in (noise, score)]
        step: Tensor = 2 * (self.ratio * lengths[0] / lengths[1].clamp(min=1e-12)).square()
        found: Tensor = x + step * score + (2 * step).sqrt() * noise
        return found


@dataclass(frozen=True)
class ProbabilityFlow:
    """The ordinary differential equation with the same marginals, by Heun's method.

    Steps grow with the time, since the score is steep next to the data: of a small U-Net on
    digits, 20 of them find a likelihood that is a few hundredths of a bit from that of 80, while
    50 steps of one length are 0.2 bits off.

    Args:
        steps: of the solver, two evaluations each.
        first: time next to the data.
    """

    steps: int = 50
    first: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.first < 1:
            raise ExpungeError(
                f"A solver got {self.steps} steps and the first time {self.first:g}; at least 1 "
                "step and a time between 0 and 1 are expected."
            )

    def times(self, device: str | torch.device = "cpu") -> Tensor:
        """The ``steps`` + 1 times from ``first`` to 1, even in their cubic root."""
        even = torch.linspace(self.first ** (1 / 3), 1.0, self.steps + 1, device=device)
        return even**3

    def velocity(self, family: Score, model: nn.Module, x: Tensor, time: Tensor) -> Tensor:
        """dx/dt (B, C, H, W) = f(x, t) - g(t)^2 score / 2."""
        diffusion = wide(family.sde.diffusion(time), x)
        pulled = diffusion.square() * family.score(model, x, time) / 2
        return wide(family.sde.drift(time), x) * x - pulled

    def drawn(
        self, family: Score, model: nn.Module, shape: tuple[int, ...], run: Run, name: str
    ) -> Tensor:
        """Pictures of ``shape`` (B, C, H, W); ``name`` fixes the noise for a seed of the run."""
        noise = run.generator(f"sampler/{name}")
        x = family.sde.prior * _normal(torch.zeros(shape), noise, run)
        return ((self._moved(family, model, x, run, self.times().flip(0)) + 1) / 2).cpu()

    def reconstructed(
        self, family: Score, model: nn.Module, images: Tensor, run: Run, name: str, noise: float
    ) -> Tensor:
        """Pictures encoded to noise, lightly noised there, and decoded again.

        What the model has learned comes back; what it never saw, or was turned away from, does not.

        Args:
            family: of the model.
            model: the score network.
            images: (B, C, H, W) from 0 to 1.
            run: its seed and ``name`` fix the noise.
            name: of the stream of random numbers.
            noise: time of the marginal by which the code is noised (0.02 in MSGM's code).
        """
        code = self._moved(family, model, centred(images).to(run.device), run, self.times())
        factor, deviation = family.sde.marginal(torch.tensor([noise], device=run.device))
        drawn = _normal(code, run.generator(f"sampler/{name}"), run)
        code = factor * code + deviation * family.sde.prior * drawn
        return ((self._moved(family, model, code, run, self.times().flip(0)) + 1) / 2).cpu()

    def _moved(self, family: Score, model: nn.Module, x: Tensor, run: Run, times: Tensor) -> Tensor:
        with evaluating(on_device(model, run)) as asked, torch.inference_mode():
            for here, there in itertools.pairwise(times.to(run.device)):
                rows, length = len(x), there - here
                begun = self.velocity(family, asked, x, here.expand(rows))
                ended = self.velocity(family, asked, x + length * begun, there.expand(rows))
                x = x + length * (begun + ended) / 2
        return x


def _normal(like: Tensor, generator: torch.Generator, run: Run) -> Tensor:
    """Noise of a shape, drawn on the CPU so that every device sees the same."""
    return torch.randn(like.shape, generator=generator).to(run.device)
