"""EraseDiff: keep the retain set under the constraint that forgetting goes on.

Wu, Le, Hayat, Harandi (2024). EraseDiff: Erasing Data Influence in Diffusion Models. A bilevel
problem in its value-function form, one factor of the forget gradient a step; see
descent/gradient_conflicts.py, also for the inner descent of the released code that changes nothing.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from expunge.descent.conditions import INSTEAD, AnyOther, Instead, unsaid
from expunge.descent.denoising_terms import RelabelledNoise
from expunge.descent.gradient_conflicts import ValueFunction
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.moderation_terms import ErasedScore
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player, Term
from expunge.descent.retain_terms import Loss
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, Uniform
from expunge.problem import Missing, Problem
from expunge.run import Run


@dataclass(frozen=True)
class Bilevel(ByDescent):
    """One player with the combined gradient; a leaf says what forgetting is.

    Args:
        eta: least share of the forget gradient in every step; 0.5 as in BOME, our choice.
        steps: of Adam.
        learning_rate: of Adam.
        batch_size: rows a step of each set.
        clip: largest norm of the combined gradient.
        sequential: start from the current model instead of the base.
    """

    paper: ClassVar[str] = "Wu et al. 2024, EraseDiff"
    search: ClassVar[Mapping[str, Range]] = {
        "eta": Uniform(0.0, 2.0),
        "learning_rate": LogUniform(1e-5, 3e-3),
    }
    preset_rule: ClassVar[str] = "100 steps of 64 rows at a rate of 1e-3"

    eta: float = 0.5
    steps: int = 1000
    learning_rate: float = 1e-4
    batch_size: int = 128
    clip: float = 1.0
    sequential: bool = False

    @abstractmethod
    def forgetting(self) -> Term:
        """The term on the forget set."""

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """A short descent; see :attr:`preset_rule`."""
        return replace(self, steps=100, learning_rate=1e-3, batch_size=64)

    def descent(self) -> Descent:
        """One player, two terms."""
        return Descent(
            Player(
                forget=self.forgetting(),
                retain=Loss(),
                optimiser=AdamW(self.learning_rate),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ValueFunction(self.eta, self.clip),
        )


@dataclass(frozen=True)
class EraseDiff(Bilevel):
    """The form of the released code: the noise of another condition, at random for every row.

    Args:
        instead: what is drawn for the target.
    """

    name: ClassVar[str] = "erase-diff"

    choices: ClassVar[Mapping[str, Mapping[str, type]]] = INSTEAD

    instead: Instead = field(default_factory=AnyOther)

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """A condition to forget, where others take its place at random."""
        return unsaid(problem) if isinstance(self.instead, AnyOther) else ()

    def forgetting(self) -> Term:
        """Relabelled noise."""
        return RelabelledNoise(instead=self.instead)


@dataclass(frozen=True)
class EraseDiffNoise(Bilevel):
    """The form of the paper: uniform noise from 0 to 1 as the target of the forget set.

    It leads to pictures of nothing: see the share of garbage before its forgetting is praised.
    """

    name: ClassVar[str] = "erase-diff-noise"

    def forgetting(self) -> Term:
        """Distance to noise that has nothing to do with the picture."""
        return ErasedScore(weight=1.0, every=1)
