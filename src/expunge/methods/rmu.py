"""RMU: representation misdirection, which leads the hidden states of forget rows astray.

Li, Pan, Gopal et al. (2024). The WMDP Benchmark: Measuring and Reducing Malicious Use with
Unlearning. Rate, steps, batches and the three matrices are those of the paper's runs (layer 7 and
the down projections of layers 5 to 7, of 32); the coefficient and the weights those of
open-unlearning. The weights that move are few and early: the layers above read states that mean
nothing to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.data.samples import batches
from expunge.descent.layer_selections import MlpOutputs
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.representation_terms import KeptStates, Misdirection, steered_layer
from expunge.descent.until import Until
from expunge.errors import ExpungeError
from expunge.families.abilities import HasTaps, able
from expunge.methods.language_presets import RULE, STEPS, answering, speaks
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.models.modes import evaluating
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run, on_device

STRIDE = 0.1
"""Share of a typical weight that a step of the preset moves weights by: few of them move."""

LENGTH, BALANCE = 3.0, 10.0
"""Length of the preset's target in lengths of the model's own states, and its weight of the retain
term."""

READ_AT_ONCE = 256
"""Rows whose states are measured at a time."""


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
        until: ends the descent before its last step; a preset's.

    Raises:
        ExpungeError: no layer is to move.
    """

    name: ClassVar[str] = "rmu"
    paper: ClassVar[str] = "Li et al. 2024, The WMDP Benchmark"
    preset_rule: ClassVar[str] = f"{RULE}; a target three times as long as the model's own states"
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
    until: Until | None = None

    def __post_init__(self) -> None:
        if self.moving < 1:
            raise ExpungeError(
                f"RMU was to move {self.moving} layers; at least 1 is expected: 3 in the paper."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The rule for language models, a target of :data:`LENGTH` times the length of the model's
        own states, and the weights of :data:`BALANCE`; for others the published fields."""
        if not speaks(problem):
            return self
        length = self._state_length(problem, run)
        fitting = replace(self, coefficient=LENGTH * length, steps=STEPS, retain_weight=BALANCE)
        return answering(fitting, problem, STRIDE)

    def _state_length(self, problem: Problem, run: Run) -> float:
        """Mean length of the states after the layer that is steered, at the forget rows."""
        reader, forget = able(problem.family, HasTaps), problem.data[Role.FORGET]
        taps = list(problem.family.anatomy(problem.model).taps)
        tap, total, count = taps[steered_layer(len(taps), self.layer)], 0.0, 0
        run.meter.touch(Role.FORGET.value, len(forget))
        with evaluating(on_device(problem.model, run)) as asked, torch.no_grad():
            for raw in batches(forget, READ_AT_ONCE):
                batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
                states = reader.tapped(asked, batch, tap).values
                total += float(torch.linalg.vector_norm(states.float(), dim=1).sum())
                count += len(states)
        return total / count

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
            until=self.until,
        )
