"""Likelihood of pictures under a score model, by the probability-flow equation.

Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-Based Generative Modeling through
Stochastic Differential Equations (Section 4.3, Appendix D.2): log p_0(x) = log p_1(x_1) + the
integral of the divergence of the flow, estimated by Hutchinson's trace with signs of one half each.
"""

import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.from_noise import centred, pictures
from expunge.families.score import Score
from expunge.families.score_sampling import ProbabilityFlow
from expunge.models.modes import evaluating
from expunge.run import Run, on_device
from expunge.signals.metric import Metric

BITS = Metric(
    "negative log-likelihood",
    "higher",
    "bits a dimension of undesired pictures; of all others it is to stay as it was",
)

MOST = 100.0
"""Bits a dimension above which nothing is told apart: the solver follows a score that goes too
far."""


@dataclass(frozen=True)
class Likelihood:
    """How likelihoods are computed.

    Args:
        flow: the solver; the density at its ``first`` time stands for that of the data.
        levels: grey values that a pixel can have; each is spread over its interval (uniform
            dequantisation), so that densities of whole numbers are bounded.
        probes: draws of Hutchinson's estimate, averaged.
    """

    flow: ProbabilityFlow = field(default_factory=ProbabilityFlow)
    levels: int = 256
    probes: int = 1

    def __post_init__(self) -> None:
        if self.levels < 2 or self.probes < 1:
            raise ExpungeError(
                f"A likelihood got {self.levels} grey levels and {self.probes} probes; at least 2 "
                "levels and 1 probe are expected."
            )

    def bits(
        self, family: Score, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
    ) -> Tensor:
        """Bits a dimension (n,) float64 of every picture: -log2 p / D, of the whole grey levels.

        Values above :data:`MOST` stand for "very large" and are cut there.

        Raises:
            ExpungeError: there is no row, or the solver met a number that is NaN.
        """
        if len(samples) == 0:
            raise ExpungeError("Likelihoods were asked of no rows; at least one row is expected.")
        draws, found = run.generator("likelihood"), []
        with evaluating(on_device(model, run)) as asked:
            for batch in batches(samples, batch_size):
                images = pictures(batch)
                spread = torch.rand(images.shape, generator=draws)
                whole = (images * (self.levels - 1)).round()
                x = centred((whole + spread) / self.levels).to(run.device)
                density = torch.zeros(len(x), dtype=torch.float64)
                for _ in range(self.probes):
                    signs = torch.randint(2, x.shape, generator=draws).to(x) * 2 - 1
                    density += self.log_density(family, asked, x, signs) / self.probes
                nats = -density / x[0].numel()
                found.append(nats / math.log(2) + math.log2(self.levels) - 1)
        bits = torch.cat(found)
        if bool(torch.isnan(bits).any()):
            raise ExpungeError(
                f"The likelihood of {int(torch.isnan(bits).sum())} of {len(bits)} pictures came "
                "out as NaN; numbers are expected. The score has diverged, or the pictures are not "
                "scaled to 0 to 1; more steps of the solver may help a steep score."
            )
        return bits.clamp(max=MOST)

    def log_density(self, family: Score, model: nn.Module, x: Tensor, signs: Tensor) -> Tensor:
        """Log p (B,) float64 in nats of x (B, ...) from -1 to 1, with Hutchinson's ``signs``."""
        times = self.flow.times(x.device)
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for here, there in itertools.pairwise(times):
            length = there - here
            begun, spread = self._moved(family, model, x, here, signs)
            ended, after = self._moved(family, model, x + length * begun, there, signs)
            x = x + length * (begun + ended) / 2
            total += length * (spread + after) / 2
        deviation = family.sde.prior
        count = x[0].numel()
        normal = -x.flatten(1).double().square().sum(1) / (2 * deviation**2)
        normal -= count * math.log(deviation * math.sqrt(2 * math.pi))
        return (normal + total).cpu()

    def _moved(
        self, family: Score, model: nn.Module, x: Tensor, time: Tensor, signs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The velocity (B, ...) at x, and the estimate (B,) of its divergence."""
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            velocity = self.flow.velocity(family, model, at, time.expand(len(x)))
            (gradient,) = torch.autograd.grad((velocity * signs).sum(), at)
        return velocity.detach(), (gradient * signs).flatten(1).double().sum(1)
