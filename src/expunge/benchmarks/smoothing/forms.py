"""What is compared: NPO beside the retain loss, its five smoothed forms, and longer descents of it.

Fan, Jia, Zhang, Ramakrishna, Hong, Liu (2025). Towards LLM Unlearning Resilient to Relearning
Attacks: A Sharpness-Aware Minimization Perspective and Beyond. All forms have the same rate,
batches and factor of the forget term, so that nothing but the smoothing differs; the plain one is
theirs with nothing around it.
"""

from dataclasses import dataclass, replace

from expunge.descent.averages import Average, MeanOfSamples
from expunge.descent.smoothing import (
    CurvatureRegularisation,
    GradientPenalty,
    RandomisedSmoothing,
    SharpnessAware,
    Smoothing,
)
from expunge.methods.language_presets import answering
from expunge.methods.npo import NPORetain
from expunge.methods.protocol import OverDescent
from expunge.methods.smoothed import Smoothed
from expunge.problem import Problem

RETAIN_WEIGHT = 10.0
"""Factor of the retain term in the preset of the smoothed forms."""


@dataclass(frozen=True)
class Form:
    """One way to forget.

    Args:
        name: the method, and what sets the form apart from its other ones.
        by: what smooths the forget term.
        average: of the weights, where the descent ends.
        gradients: backward passes of the forget term a step; the retain term has one.
        longer: factor of the number of steps.
        loudness: factor of both terms together; below 1 fewer gradients are long enough to be
            clipped.
        retain_weight: of the retain term beside a forget term of weight 1, where the search for the
            level begins; found on a draw of which nothing is reported.
    """

    name: str
    by: Smoothing | None = None
    average: Average | None = None
    gradients: int = 1
    longer: float = 1.0
    loudness: float = 1.0
    retain_weight: float = 110.0

    def at_preset(self, problem: Problem) -> OverDescent:
        """With the fields of the preset, which looks for its own end."""
        plain = self._fields(problem, RETAIN_WEIGHT)
        if self.by is None and self.average is None:
            return plain
        return Smoothed(plain, self.by, self.average)

    def weighed(self, problem: Problem, retain_weight: float) -> OverDescent:
        """Through all steps, at a weight of the retain term, and not averaged."""
        plain = self._fields(problem, retain_weight)
        plain = replace(plain, epochs=round(plain.epochs * self.longer), until=None)
        return plain if self.by is None else Smoothed(plain, self.by)

    def differentiated(self, steps: int, forget_rows: int, retain_rows: int) -> int:
        """Rows whose gradient is taken in a number of steps."""
        return steps * (self.gradients * forget_rows + retain_rows)

    def _fields(self, problem: Problem, retain_weight: float) -> NPORetain:
        weights = {"forget_weight": self.loudness, "retain_weight": self.loudness * retain_weight}
        return answering(NPORetain(), problem, **weights)


PLAIN = Form("npo-rt")
"""The form that all others are held against."""

SMOOTHED = (
    Form("npo-sam", SharpnessAware(0.01), gradients=2, retain_weight=95.0),
    Form("npo-rs", RandomisedSmoothing(1e-4), gradients=3),
    Form("npo-gp", GradientPenalty(0.01), gradients=3, retain_weight=85.0),
    Form("npo-cr", CurvatureRegularisation(0.03), gradients=6, retain_weight=60.0),
    Form("npo-wa", average=MeanOfSamples(), retain_weight=95.0),
)
"""The paper's five, at the fields of their presets."""

STRONGER = (
    Form("npo-sam, rho 0.1", SharpnessAware(0.1), gradients=2, retain_weight=50.0),
    Form("npo-rs, sigma 0.01", RandomisedSmoothing(0.01), gradients=3),
)
"""Those of which the paper's strength changes next to nothing on a small model."""

CONTROLS = (
    Form("npo-rt, 1.4 x steps", longer=1.4, retain_weight=170.0),
    Form("npo-rt, 2.9 x steps", longer=2.9, retain_weight=350.0),
    Form("npo-rt, seldom clipped", loudness=0.1),
)
"""The plain form with about as many gradients as sharpness awareness and as curvature; and with the
weights of its own preset."""

FORMS = (PLAIN, *SMOOTHED, *STRONGER, *CONTROLS)
"""Everything that is compared."""
