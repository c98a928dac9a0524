"""SalUn for diffusion models: relabelling on the weights with the largest forget-loss gradient.

Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn: Empowering Machine Unlearning via Gradient-based
Weight Saliency in Both Image Classification and Generation. The gradient is that of the denoising
loss of the GUIDED prediction, summed with its sign over the forget set.

Weights outside the mask keep their bits. The norm that is clipped is that of the masked gradient,
where the released code clips before it masks: Adam hardly tells the two apart. The timesteps of the
mask are drawn one by one, not as pairs t, T - 1 - t.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.denoising_terms import GuidedLosses
from expunge.descent.player import Parameters
from expunge.descent.selections import ForgetGradient, Saliency
from expunge.methods.relabel_diffusion import Relabelled
from expunge.methods.search import LogUniform, Range, Uniform


@dataclass(frozen=True)
class SalUnDiffusion(Relabelled):
    """:class:`~expunge.methods.relabel_diffusion.RelabelDiffusion` on the most salient weights.

    Args:
        kept: share of the weights that may move, ranked over the whole model.
        guidance: scale of the prediction that the mask follows from; 8.5 for Stable Diffusion.
        passes: over the forget set for the mask, each with other noise; one as published.
    """

    name: ClassVar[str] = "salun-diffusion"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-5, 3e-3),
        "retain_weight": LogUniform(0.03, 10.0),
        "kept": Uniform(0.1, 1.0),
    }

    kept: float = 0.5
    guidance: float = 2.0
    passes: int = 1

    def parameters(self) -> Parameters:
        """The salient ones."""
        gradient = ForgetGradient(self.batch_size, GuidedLosses(self.guidance), self.passes, 1.0)
        return Saliency(self.kept, gradient)
