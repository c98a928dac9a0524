"""RMU: representation misdirection, which leads the hidden states of forget rows astray.

Li, Pan, Gopal et al. (2024). The WMDP Benchmark: Measuring and Reducing Malicious Use with
Unlearning. Rate, steps, batches and the three matrices are those of the paper's runs (layer 7 and
the down projections of layers 5 to 7, of 32); the coefficient and the weights those of
open-unlearning. The weights that move are few and early: the layers above read states that mean
nothing to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from expunge.descent.layer_selections import MlpOutputs
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.representation_terms import KeptStates, Misdirection, steered_layer
from expunge.errors import ExpungeError
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.run import Run


@dataclass(frozen=True)
class Below:
    """The matrices by which feed-forward parts write, of the layer that is read and those before
    it."""

    layer: int | None
    count: int

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All their entries."""
        last = steered_layer(len(problem.family.anatomy(module).taps), self.layer)
        layers = tuple(range(max(0, last - self.count + 1), last + 1))
        return MlpOutputs(layers).select(module, problem, run)


@dataclass(frozen=True)
class RMU(ByDescent):
    """Misdirection of forget rows, the reference's states on retain rows.

    Args:
        layer: position of the layer whose states are steered; None for 7 of 32 in proportion.
        moving: layers that move: that one and those before it.
        coefficient: length of the target of forget rows. It is to be set against the length of the
            model's own states, which differs from model to model.
        steps: of the descent.
        learning_rate: of AdamW.
        weight_decay: of AdamW, decoupled.
        batch_size: rows of the forget set a step.
        retain_batch_size: rows of the retain set a step.
        forget_weight: factor of the misdirection (gamma).
        retain_weight: factor of the retain term (alpha).
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: no layer is to move.
    """

    name: ClassVar[str] = "rmu"
    paper: ClassVar[str] = "Li et al. 2024, The WMDP Benchmark"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "steps": WholeNumber(20, 400),
        "coefficient": LogUniform(0.5, 100.0),
        "retain_weight": LogUniform(0.1, 1000.0),
    }

    layer: int | None = None
    moving: int = 3
    coefficient: float = 2.0
    steps: int = 80
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    batch_size: int = 4
    retain_batch_size: int = 4
    forget_weight: float = 1.0
    retain_weight: float = 1.0
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.moving < 1:
            raise ExpungeError(
                f"RMU was to move {self.moving} layers; at least 1 is expected: 3 in the paper."
            )

    def descent(self) -> Descent:
        """One player that moves a few matrices."""
        return Descent(
            Player(
                forget=Misdirection(self.layer, self.coefficient, self.forget_weight),
                retain=KeptStates(
                    self.layer, self.retain_weight, batch_size=self.retain_batch_size
                ),
                parameters=Below(self.layer, self.moving),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
        )
