"""ESD: erased stable diffusion. The model is led away from its own guidance towards a concept.

Gandikota, Materzynska, Fiotto-Kaufman, Bau (2023). Erasing Concepts from Diffusion Models.

A frozen copy draws x_t from a prompt of the target, up to a random step, and says what is to be
seen there: eps_0(c) - scale (eps_0(c) - eps_0(c*)), c* the anchor's prompt or none. Prompts are all
that is read. ESD-x moves the layers that attend to the text: what the words lead to. ESD-u moves
the others: what the network draws, told or untold.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.attention_selections import BesideCrossAttention, CrossAttention
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Parameters, Player
from expunge.descent.prompt_terms import ErasedNoise, HalfDrawn
from expunge.families.diffusion_sampling import DDIM
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, Uniform


@dataclass(frozen=True)
class Erased(ByDescent):
    """What both forms have in common; a leaf says which parameters move.

    Args:
        scale: how far beyond c* the target lies, seen from c; 0 changes nothing. As the code counts
            now: one more than the paper's eta.
        steps: of Adam. The paper's own code took 1,000 at a rate of 1e-5.
        learning_rate: of Adam.
        batch_size: prompts a step.
        sampler_steps: of the DDIM sampler that draws x_t.
        guidance: of that sampler.
        sequential: start from the current model instead of the base.
    """

    paper: ClassVar[str] = "Gandikota et al. 2023, Erasing Concepts from Diffusion Models"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-3),
        "scale": Uniform(1.0, 4.0),
    }

    scale: float = 2.0
    steps: int = 200
    learning_rate: float = 5e-5
    batch_size: int = 1
    sampler_steps: int = 50
    guidance: float = 3.0
    sequential: bool = False

    @abstractmethod
    def moves(self) -> Parameters:
        """Which parameters move."""

    def descent(self) -> Descent:
        """One player, one term on half drawn pictures."""
        source = HalfDrawn(DDIM(self.sampler_steps, self.guidance))
        return Descent(
            Player(
                others={"erase": On(source, ErasedNoise(self.scale))},
                parameters=self.moves(),
                optimiser=AdamW(self.learning_rate),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class ESDX(Erased):
    """The layers that attend to the text move."""

    name: ClassVar[str] = "esd-x"

    def moves(self) -> Parameters:
        """Queries, keys, values and outputs of the attention to the text."""
        return CrossAttention()


@dataclass(frozen=True)
class ESDU(Erased):
    """All other convolutions and linear layers of the U-Net move."""

    name: ClassVar[str] = "esd-u"

    def moves(self) -> Parameters:
        """Everything beside the attention to the text."""
        return BesideCrossAttention()
