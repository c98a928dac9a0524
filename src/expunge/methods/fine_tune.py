"""Fine-tuning on the retain set: forgetting by interference alone.

Golatkar, Achille, Soatto (2020). Eternal Sunshine of the Spotless Net (as a baseline). The defaults
are those of the baseline in Lin et al. (2026), CATA: Adam at 1e-6, two epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.recipe import Role


@dataclass(frozen=True)
class FineTune(ByDescent):
    """Descent on the retain set alone.

    Args:
        epochs: passes over the retain set.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "fine-tune"
    paper: ClassVar[str] = "Golatkar et al. 2020, Eternal Sunshine of the Spotless Net"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 10),
    }

    epochs: int = 2
    learning_rate: float = 1e-6
    weight_decay: float = 0.0
    batch_size: int = 64
    sequential: bool = False

    def descent(self) -> Descent:
        """One player, one term."""
        return Descent(
            Player(
                retain=Loss(),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
            ),
            length=Epochs(self.epochs, of=Role.RETAIN),
            batch_size=self.batch_size,
        )
