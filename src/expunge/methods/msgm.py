"""MSGM: moderated score-based generation. The data that must go are used, with a loss that turns
the score away from them.

Jiang, Wang, Zhang, Guo, Fan, Diao, Hong (2025). Moderating the Generalization of Score-based
Generative Model. Leaving data out of the training need not unlearn them, since the model
generalises; so each fourth step adds a moderation on the forget set to the denoising loss on the
retain set, (1 - lambda) L_g + lambda L_u. The losses are in descent/moderation_terms.py.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from expunge.descent.averages import MovingAverage
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.moderation_terms import (
    BoundedScore,
    ErasedScore,
    ObtuseScore,
    OrthogonalScore,
    PerpendicularScore,
)
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player, Term
from expunge.descent.retain_terms import Loss
from expunge.descent.schedules import WarmUp
from expunge.descent.transforms import ClipNorm
from expunge.methods.protocol import Artifact, ByDescent, Outcome
from expunge.methods.search import LogUniform, Range
from expunge.problem import Access, Problem
from expunge.run import Run

PAPER = "Jiang et al. 2025, Moderating the Generalization of Score-based Generative Model"


@dataclass(frozen=True)
class Moderated(ByDescent):
    """Fine-tuning with a moderation; a leaf says which.

    Args:
        weight: lambda, the moderation's share of the loss; the retain set has the rest.
        every: steps from one moderation to the next.
        steps: of the whole descent.
        learning_rate: of Adam.
        warm_up: steps over which the rate rises.
        batch_size: rows a step of the retain set.
        forget_batch_size: rows a step of the forget set.
        clip: largest norm of a gradient.
        decay: of the moving average that the descent ends at.
        sequential: start from the current model instead of the base.
    """

    paper: ClassVar[str] = PAPER
    search: ClassVar[Mapping[str, Range]] = {
        "weight": LogUniform(1e-2, 0.5),
        "learning_rate": LogUniform(1e-4, 1e-3),
    }
    preset_rule: ClassVar[str] = (
        "500 steps of 128 rows at a rate of 3e-4, every one with a moderation of weight 0.1: the "
        "published length is that of a training from scratch"
    )

    weight: float = 0.01
    every: int = 4
    steps: int = 660_000
    learning_rate: float = 2e-4
    warm_up: int = 5000
    batch_size: int = 400
    forget_batch_size: int = 400
    clip: float = 1.0
    decay: float = 0.9999
    sequential: bool = False

    @abstractmethod
    def moderation(self) -> Term:
        """The term on the forget set."""

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """A short descent from a trained model; see :attr:`preset_rule`."""
        return replace(
            self,
            weight=0.1,
            every=1,
            steps=500,
            learning_rate=3e-4,
            warm_up=0,
            batch_size=128,
            forget_batch_size=128,
            decay=0.99,
        )

    def descent(self) -> Descent:
        """Denoising on the retain set, moderation on the forget set."""
        return Descent(
            Player(
                forget=self.moderation(),
                retain=Loss(1 - self.weight),
                optimiser=AdamW(self.learning_rate, schedule=WarmUp(self.warm_up)),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
            average=MovingAverage(self.decay),
        )


@dataclass(frozen=True)
class MSGMOrthogonal(Moderated):
    """The paper's Orthogonal-MSGM ("square")."""

    name: ClassVar[str] = "msgm-orthogonal"

    def moderation(self) -> Term:
        """Squared products, pixel by pixel."""
        return OrthogonalScore(self.weight, self.every, self.forget_batch_size)


@dataclass(frozen=True)
class MSGMPerpendicular(Moderated):
    """The squared inner product instead (ours): orthogonal as vectors are."""

    name: ClassVar[str] = "msgm-perpendicular"

    def moderation(self) -> Term:
        """Squared inner products."""
        return PerpendicularScore(self.weight, self.every, self.forget_batch_size)


@dataclass(frozen=True)
class MSGMObtuse(Moderated):
    """The paper's Obtuse-MSGM ("norm").

    Args:
        as_published: the sign of the released code, which drives the score along the one of the
            forget rows, without bound.
    """

    name: ClassVar[str] = "msgm-obtuse"

    as_published: bool = False

    def moderation(self) -> Term:
        """Products, of either sign."""
        return ObtuseScore(self.weight, self.every, self.as_published, self.forget_batch_size)


@dataclass(frozen=True)
class MSGMErase(Moderated):
    """The paper's ablation: independent noise as the target."""

    name: ClassVar[str] = "msgm-erase"

    def moderation(self) -> Term:
        """Distance to noise that has nothing to do with the picture."""
        return ErasedScore(self.weight, self.every, self.forget_batch_size)


@dataclass(frozen=True)
class MSGMBounded(Moderated):
    """The cosine of the angle (ours): bounded below, so that no step overshoots for ever."""

    name: ClassVar[str] = "msgm-bounded"

    def moderation(self) -> Term:
        """Cosines."""
        return BoundedScore(self.weight, self.every, self.forget_batch_size)


@dataclass(frozen=True)
class MSGMFromScratch:
    """The re-training form: the same descent from untrained weights.

    The forget set is read, so that the new weights are no oracle's: they are an edit by name.

    Args:
        around: the moderation and its settings.
    """

    name: ClassVar[str] = "msgm-from-scratch"
    paper: ClassVar[str] = PAPER
    sequential: ClassVar[bool] = True
    prepares_with: ClassVar[Access] = Access()
    search: ClassVar[Mapping[str, Range]] = {}  # a training of its own, as long as the recipe's

    around: Moderated = field(default_factory=MSGMOrthogonal)

    @property
    def needs(self) -> tuple[type, ...]:
        """Those of the fine-tuning form."""
        return self.around.needs

    @property
    def unlearns_with(self) -> Access:
        """Its roles, and the recipe for the untrained weights."""
        return self.around.unlearns_with | Access(recipe=True)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A Replacement with the moderated model."""
        assert problem.recipe is not None  # opened by the access
        begun = replace(problem, model=problem.recipe.builder(problem.recipe.seed))
        after = self.around.descent().minimise(begun, run).model
        return Outcome.of(after, problem.model, sequential=True, method=self.name)
