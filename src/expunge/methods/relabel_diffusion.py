"""Relabelling in a diffusion model: what was drawn for the target is drawn for another condition.

Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn: Empowering Machine Unlearning via Gradient-based
Weight Saliency in Both Image Classification and Generation. Its loss without its mask is the
baseline "random labelling" of the generative literature.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from expunge.descent.conditions import INSTEAD, AnchorOrNext, AnyOther, Instead, unsaid
from expunge.descent.denoising_terms import RelabelledNoise
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Parameters, Player, Trainable
from expunge.descent.retain_terms import Loss
from expunge.descent.transforms import ClipNorm
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range
from expunge.problem import Missing, Problem
from expunge.run import Run

PAPER = "Fan et al. 2024, SalUn"


@dataclass(frozen=True)
class Relabelled(ByDescent):
    """The relabelled noise on the forget set, the denoising loss on the retain set; a leaf says
    which weights move.

    Args:
        instead: what is drawn for the target: the request's anchor or, as published, the next
            label. A random one for every row keeps the pictures of its condition apart.
        frozen_teacher: the other condition is asked of the model at the start; as published it is
            asked of the present one.
        steps: of Adam.
        learning_rate: of Adam, without decay: that would move what a mask holds.
        batch_size: rows a step of each set.
        retain_weight: alpha between two means; published is 1e-3 with a sum over 3,072 pixels.
        clip: largest norm of the gradient of the weights that move.
        sequential: start from the current model instead of the base.
    """

    paper: ClassVar[str] = PAPER
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-5, 3e-3),
        "retain_weight": LogUniform(0.03, 10.0),
    }
    preset_rule: ClassVar[str] = (
        "100 steps of 64 rows at a rate of 1e-3, both losses of weight 1: the published length is "
        "that of a network of 35 million weights"
    )

    choices: ClassVar[Mapping[str, Mapping[str, type]]] = INSTEAD

    instead: Instead = field(default_factory=AnchorOrNext)
    frozen_teacher: bool = False
    steps: int = 1000
    learning_rate: float = 1e-4
    batch_size: int = 128
    retain_weight: float = 3.0
    clip: float = 1.0
    sequential: bool = False

    @abstractmethod
    def parameters(self) -> Parameters:
        """The weights that move."""

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """A condition to forget, where others take its place at random."""
        return unsaid(problem) if isinstance(self.instead, AnyOther) else ()

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """A short descent; see :attr:`preset_rule`."""
        return replace(self, steps=100, learning_rate=1e-3, batch_size=64, retain_weight=1.0)

    def descent(self) -> Descent:
        """One player, two terms."""
        return Descent(
            Player(
                forget=RelabelledNoise(instead=self.instead, frozen=self.frozen_teacher),
                retain=Loss(self.retain_weight),
                parameters=self.parameters(),
                optimiser=AdamW(self.learning_rate),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
        )


@dataclass(frozen=True)
class RelabelDiffusion(Relabelled):
    """All weights: a mask of ones."""

    name: ClassVar[str] = "relabel-diffusion"

    def parameters(self) -> Parameters:
        """Everything that requires a gradient."""
        return Trainable()
