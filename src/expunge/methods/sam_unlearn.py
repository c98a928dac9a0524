"""NPO made flat: what was forgotten is to stay so when the model is trained on.

Fan, Jia, Zhang, Ramakrishna, Hong, Liu (2025). Towards LLM Unlearning Resilient to Relearning
Attacks: A Sharpness-Aware Minimization Perspective and Beyond. Each is ``npo-rt`` with one thing
around its forget term (descent/smoothing.py) or over its weights (descent/averages.py), at the
defaults of ``npo-rt`` but for the factor of the retain term, which is the paper's. Any other method
is smoothed by ``Smoothed`` (methods/smoothed.py).

The paper's inverse temperatures are of the MEAN loss of an answer's tokens, ours as in NPO of their
sum. ``NPOSAM.as_published()`` gives the values of its run script (WMDP-Bio, Zephyr-7B-beta, 125
steps of 4 rows) with ``reduction="mean"``; how many passes that is depends on the forget set, and
``epochs`` stays ours. In the code that the paper released the penalties of npo-gp and npo-cr have
no gradient, and curvature counts the forget gradient twice: its figures for these two are those of
NPO at other settings.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from expunge.descent.averages import Average, MeanOfSamples
from expunge.descent.loop import Descent
from expunge.descent.per_token_preference import PerTokenPreference
from expunge.descent.player import Term
from expunge.descent.retain_terms import Loss
from expunge.descent.smoothing import (
    CurvatureRegularisation,
    GradientPenalty,
    RandomisedSmoothing,
    SharpnessAware,
    Smoothing,
)
from expunge.descent.until import Until
from expunge.errors import ExpungeError
from expunge.methods.language_presets import RULE, answering, speaks
from expunge.methods.npo import BESIDE, PAPER, NPORetain
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber
from expunge.methods.smoothed import Smoothed
from expunge.methods.two_terms import TwoTerms
from expunge.problem import Problem
from expunge.run import Run

Reduction = Literal["sum", "mean"]
"""Whether the preference is of the sum of the losses of an answer's tokens, or of their mean."""


@dataclass(frozen=True)
class PerTokenNPO(TwoTerms):
    """``npo-rt`` on mean losses."""

    name: ClassVar[str] = "npo-rt"
    paper: ClassVar[str] = PAPER

    weight_decay: float = 0.01
    beta: float = 0.015
    retain_weight: float = 1.0
    retain_batch_size: int = 32

    def forget(self) -> Term:
        """The preference term, per token."""
        return PerTokenPreference(self.beta, self.forget_weight)

    def retain(self) -> Term:
        """The loss."""
        return Loss(self.retain_weight, batch_size=self.retain_batch_size)


@dataclass(frozen=True)
class SmoothNPO(ByDescent):
    """NPO beside the retain loss, smoothed; a leaf says by what.

    Args:
        epochs: passes over the forget set.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW, decoupled.
        batch_size: rows of the forget set a step.
        retain_batch_size: rows of the retain set a step.
        warm_up: epochs over which the rate rises to its peak.
        clip: largest norm of the smoothed gradient.
        beta: inverse temperature.
        reduction: what beta is of: the ``sum`` of the losses of an answer's tokens, or their
            ``mean``.
        retain_weight: factor of the retain term (gamma).
        sequential: start from the current model instead of the base.
        until: ends the descent before its last epoch is over; a preset's. Where weights are
            averaged it ends nothing.

    Raises:
        ExpungeError: the reduction is another word.
    """

    paper: ClassVar[str] = "Fan et al. 2025, Towards LLM Unlearning Resilient to Relearning Attacks"
    search: ClassVar[Mapping[str, Range]] = BESIDE
    published: ClassVar[Mapping[str, float]]
    preset_rule: ClassVar[str] = RULE
    preset_weights: ClassVar[Mapping[str, float]] = {"retain_weight": 10.0}
    """The weights of the preset for language models."""

    epochs: int = 10
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    retain_batch_size: int = 32
    warm_up: float = 1.0
    clip: float = 1.0
    beta: float = 0.1
    reduction: Reduction = "sum"
    retain_weight: float = 1.0
    sequential: bool = False
    until: Until | None = None

    def __post_init__(self) -> None:
        if self.reduction not in ("sum", "mean"):
            raise ExpungeError(
                f"The reduction {self.reduction!r} of an answer's losses was given; 'sum' or "
                "'mean' is expected."
            )

    @classmethod
    def as_published(cls) -> Self:
        """At the values of the paper's run script, which belong to a model of 7 B parameters."""
        given: dict[str, Any] = dict(cls.published)
        return cls(reduction="mean", batch_size=4, retain_batch_size=4, **given)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The rule for language models; for others the fields as they are."""
        return answering(self, problem, **self.preset_weights) if speaks(problem) else self

    @abstractmethod
    def smoothing(self) -> Smoothing | None:
        """What is around the forget term."""

    @abstractmethod
    def average(self) -> Average | None:
        """Which average of the weights the descent ends at."""

    def around(self) -> TwoTerms:
        """The method that is smoothed."""
        plain = NPORetain if self.reduction == "sum" else PerTokenNPO
        return plain(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            warm_up=self.warm_up,
            clip=self.clip,
            beta=self.beta,
            retain_weight=self.retain_weight,
            retain_batch_size=self.retain_batch_size,
            until=self.until,
        )

    def descent(self) -> Descent:
        """That of NPO, smoothed."""
        return Smoothed(self.around(), self.smoothing(), self.average()).descent()


@dataclass(frozen=True)
class NPOSAM(SmoothNPO):
    """Sharpness-aware: the forget gradient is taken a small way uphill.

    Args:
        rho: that way, in the space of all moving weights.
    """

    name: ClassVar[str] = "npo-sam"
    search: ClassVar[Mapping[str, Range]] = {**BESIDE, "rho": LogUniform(1e-3, 1.0)}
    published: ClassVar[Mapping[str, float]] = {"learning_rate": 5e-6, "beta": 0.015}

    retain_weight: float = 2.25
    rho: float = 0.01

    def smoothing(self) -> Smoothing:
        """Sharpness awareness."""
        return SharpnessAware(self.rho)

    def average(self) -> None:
        """None."""


@dataclass(frozen=True)
class NPORS(SmoothNPO):
    """Randomised smoothing: the forget gradient is a mean at weights with noise.

    Args:
        sigma: standard deviation of the noise on every weight.
        draws: points at each step.
    """

    name: ClassVar[str] = "npo-rs"
    search: ClassVar[Mapping[str, Range]] = {**BESIDE, "sigma": LogUniform(1e-5, 1e-2)}
    published: ClassVar[Mapping[str, float]] = {"learning_rate": 1e-5, "beta": 0.0125}

    retain_weight: float = 2.0
    sigma: float = 1e-4
    draws: int = 3

    def smoothing(self) -> Smoothing:
        """Randomised smoothing."""
        return RandomisedSmoothing(self.sigma, self.draws)

    def average(self) -> None:
        """None."""


@dataclass(frozen=True)
class NPOGP(SmoothNPO):
    """Gradient penalty: the norm of the forget gradient is minimised, too.

    Args:
        strength: factor of the norm (lambda): 10 in the paper's script, 0.01 in its code.
        radius: how far differences of gradients look; see descent/smoothing.py.
    """

    name: ClassVar[str] = "npo-gp"
    search: ClassVar[Mapping[str, Range]] = {**BESIDE, "strength": LogUniform(1e-3, 100.0)}
    published: ClassVar[Mapping[str, float]] = {"learning_rate": 7.5e-6, "beta": 0.04}
    preset_weights: ClassVar[Mapping[str, float]] = {"retain_weight": 10.0, "strength": 0.01}

    strength: float = 10.0
    radius: float = 1e-3

    def smoothing(self) -> Smoothing:
        """The penalty."""
        return GradientPenalty(self.strength, self.radius)

    def average(self) -> None:
        """None."""


@dataclass(frozen=True)
class NPOCR(SmoothNPO):
    """Curvature regularisation: how fast the forget gradient changes along itself is minimised.

    Args:
        strength: factor of that change (lambda).
        mu: how far along the gradient it is measured; the paper gives no figure.
        radius: how far differences of gradients look; see descent/smoothing.py.
    """

    name: ClassVar[str] = "npo-cr"
    search: ClassVar[Mapping[str, Range]] = {**BESIDE, "strength": LogUniform(1e-3, 100.0)}
    published: ClassVar[Mapping[str, float]] = {"learning_rate": 8.5e-6, "beta": 0.035}
    preset_weights: ClassVar[Mapping[str, float]] = {"retain_weight": 10.0, "strength": 0.03}

    strength: float = 10.0
    mu: float = 0.01
    radius: float = 1e-3

    def smoothing(self) -> Smoothing:
        """The regularisation."""
        return CurvatureRegularisation(self.strength, self.mu, self.radius)

    def average(self) -> None:
        """None."""


@dataclass(frozen=True)
class NPOWA(SmoothNPO):
    """Weight averaging: the mean of the weights of the last part of the descent.

    Args:
        averaged_from: share of the steps after which weights are sampled.
        averaged_every: steps between two samples.
    """

    name: ClassVar[str] = "npo-wa"
    search: ClassVar[Mapping[str, Range]] = {
        **BESIDE,
        "averaged_from": Uniform(0.0, 0.95),
        "averaged_every": WholeNumber(1, 10),
    }
    published: ClassVar[Mapping[str, float]] = {"learning_rate": 5.5e-6, "beta": 0.05}

    retain_weight: float = 2.0
    averaged_from: float = 0.8
    averaged_every: int = 5

    def smoothing(self) -> None:
        """None."""

    def average(self) -> Average:
        """The mean of samples."""
        return MeanOfSamples(self.averaged_from, self.averaged_every)
