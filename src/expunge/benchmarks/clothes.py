"""The clothes that are drawn: Fashion-MNIST at 16 x 16 pixels, and how models of it are made.

The pictures of 28 x 28 get a margin of two empty pixels and are halved by means of 2 x 2. That is
the largest side at which two processor cores train a network in minutes, and one that it can halve
twice, to 8 and to 4: of 14 x 14, without a margin, there would be one halving.
"""

import dataclasses
import functools
from collections.abc import Mapping

import torch.nn.functional as F

from expunge.benchmarks.classification import worlds
from expunge.benchmarks.picture_judge import Gallery, judge_of
from expunge.data.samples import TensorSamples
from expunge.data.sets.fashion_mnist import CLASSES
from expunge.descent.averages import MovingAverage
from expunge.descent.optimisers import AdamW, Cosine
from expunge.families.diffusion import LabelDiffusion
from expunge.families.diffusion_sampling import DDIM
from expunge.families.score import Score
from expunge.families.score_sampling import ProbabilityFlow
from expunge.families.sde import VP
from expunge.learning.supervised.averaged import Averaged
from expunge.learning.supervised.plain import Plain
from expunge.models.denoisers import LabelUNet, ScoreUNet
from expunge.recipe import Recipe

SIDE, MARGIN = 16, 2
"""Height and width of a picture, and the empty pixels around it before it is halved."""

LEVELS = 256
"""Grey values of a pixel: means are rounded to those of the set."""

WIDTHS = (16, 32, 64)
"""Channels of both U-Nets at 16, 8 and 4 pixels."""

LEARNER = Averaged(1300, 64, AdamW(2e-3, schedule=Cosine(0.05)), MovingAverage(0.995))
"""How the diffusion model is trained: 83,200 pictures of 50,000, six minutes of a core."""

SHAPE = (1, SIDE, SIDE)
DIFFUSION = Recipe(LabelUNet(SHAPE, widths=WIDTHS), LabelDiffusion(SHAPE, classes=CLASSES), LEARNER)
"""Told the class of what it draws."""

SCORE = Recipe(
    ScoreUNet(SHAPE, WIDTHS), Score(VP(0.1, 14.0)), dataclasses.replace(LEARNER, steps=900)
)
"""Told nothing. The last rate lies between the digits' 8 and the paper's 20, as the pictures do."""

SAMPLER, FLOW = DDIM(40, 1.5, eta=1.0), ProbabilityFlow(20)
"""How pictures are drawn from each; likelihoods are computed by the flow, too. The noise in the
steps mends the grain that a short training leaves."""

ASKED = 200
"""Test rows whose likelihood is computed."""

JUDGE = judge_of(
    len(CLASSES), SIDE, Plain(1, 128, AdamW(2e-3, weight_decay=0.01, schedule=Cosine()))
)
"""How a judge is made."""


@functools.cache
def rows() -> Mapping[str, TensorSamples]:
    """The clothes by split, ``train``, ``validation`` and ``test``; read once a process.

    Raises:
        ExpungeError: Fashion-MNIST was not fetched.
    """
    whole = worlds.world("clothes")
    parts = {"train": whole.train, "validation": whole.validation, "test": whole.test}
    found = {}
    for split, samples in parts.items():
        assert isinstance(samples, TensorSamples)  # as this world reads them
        found[split] = halved(samples)
    return found


def gallery() -> Gallery:
    """The clothes with their judge, which learns from every row and a moved copy of it."""
    return Gallery(rows(), JUDGE, 2)


def halved(samples: TensorSamples) -> TensorSamples:
    """The same samples with pictures (n, 1, 16, 16) in the place of those of 28 x 28 pixels."""
    small = F.avg_pool2d(F.pad(samples.columns["image"], [MARGIN] * 4), 2)
    grey = (small * (LEVELS - 1)).round() / (LEVELS - 1)
    return samples.with_column("image", grey)
