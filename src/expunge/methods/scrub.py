"""SCRUB: a student disobeys its teacher on the forget set and obeys on the retain set, in turns.

Kurmanji, Triantafillou, Hayes, Triantafillou (2023). Towards Unbounded Machine Unlearning. Defaults
and order are those of Choi, Na (2023), Towards Machine Unlearning Benchmarks: Forgetting the
Personal Identities in Facial Recognition Systems.

At the start the student is the teacher, where their divergence has no slope: a first pass over the
forget set moves nothing unless dropout, batch norm or the loss does. In the form of Goel et al.
(2024), Corrective Machine Unlearning, it comes first and the maximised sum is the minimised one:
``Scrub(alpha=a, forget_divergence=a, forget_loss=1.0, retain_first=False)``, with a learning rate
of 0.0025, momentum 0.9, weight decay 5e-4 and batches of 512. Theirs also has the schedule of
:mod:`~expunge.methods.cf_k`, where the rate is constant here, counts the steps on the forget set
(100 of 1,000) instead of passes, and keeps the best iterate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch

from expunge.descent.distillation import Divergence
from expunge.descent.length import InTurns, Turn
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player
from expunge.errors import ExpungeError
from expunge.methods.presets import PASSES, Reach, climbed, passes, retain_batch
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

REACH = Reach(classes=0.8, rows=0.1)
"""How far the preset's descent could lead; see methods/presets.py."""

RISE = Reach(classes=5.0, rows=0.03)
"""How far its loss on the forget set is to rise when it is tried; what the retain set repairs after
that is not in it."""


@dataclass(frozen=True)
class Scrub(ByDescent):
    """Passes that raise the divergence from the model at the start on the forget set, and passes
    that lower it, with the loss, on the retain set.

    Args:
        epochs: passes over the retain set.
        forget_epochs: the first of them have a pass over the forget set too (msteps).
        temperature: of the divergence, which is multiplied with its square.
        alpha: factor of the divergence in the minimised sum, beside the loss.
        forget_divergence: factor of the divergence in the maximised sum.
        forget_loss: factor of the loss in the maximised sum.
        retain_first: order of the two passes of an epoch.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        batch_size: rows a step.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: no pass over the forget set is asked for, or the temperature is not positive.
    """

    name: ClassVar[str] = "scrub"
    paper: ClassVar[str] = "Kurmanji et al. 2023, Towards Unbounded Machine Unlearning"
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-4, 1e-1),
        "epochs": WholeNumber(1, 10),
        "forget_epochs": WholeNumber(1, 5),
        "alpha": LogUniform(1e-3, 10.0),
    }
    preset_rule: ClassVar[str] = (
        "the sums and the order of Goel et al. (2024), in 4 passes; of rising learning rates, each "
        "tried on the forget set and as many retain rows, the first that lifts the forget loss to "
        "five times that of guessing (where the classes stay: by 0.03 of the way to it)"
    )

    epochs: int = 2
    forget_epochs: int = 2
    temperature: float = 4.0
    alpha: float = 1.0
    forget_divergence: float = 1.0
    forget_loss: float = 0.0
    retain_first: bool = True
    learning_rate: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 64
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.forget_epochs < 1 or self.temperature <= 0:
            raise ExpungeError(
                f"SCRUB got {self.forget_epochs} passes over the forget set and the temperature "
                f"{self.temperature}; at least one pass and a temperature above 0 are expected."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The sums of Goel et al. (2024), at the smallest rate around :data:`REACH` that lifts the
        loss enough. It is tried beside as many retain rows as forget rows."""
        size = retain_batch(problem, self.batch_size)
        steps = passes(problem, Role.FORGET, self.forget_epochs, size)
        fitting = replace(
            self,
            epochs=PASSES,
            alpha=0.1,
            forget_divergence=0.1,
            forget_loss=1.0,
            retain_first=False,
            momentum=0.9,
            batch_size=size,
        )
        rate = REACH.sgd_rate(problem, steps, fitting.momentum, run)
        retain, forget = problem.data[Role.RETAIN], problem.data[Role.FORGET]
        order = torch.randperm(len(retain), generator=run.generator("preset/retain"))
        data = {Role.FORGET: forget, Role.RETAIN: retain.select(order[: len(forget)])}
        return climbed(fitting, rate, RISE, problem, run, replace(problem, data=data))

    def descent(self) -> Descent:
        """One player, two terms in turns."""
        turns = Turn(Role.FORGET, self.forget_epochs), Turn(Role.RETAIN)
        return Descent(
            Player(
                forget=Divergence(-1.0, self.temperature, self.forget_divergence, self.forget_loss),
                retain=Divergence(1.0, self.temperature, self.alpha, 1.0),
                optimiser=SGD(self.learning_rate, self.momentum, self.weight_decay),
            ),
            length=InTurns(self.epochs, turns[::-1] if self.retain_first else turns),
            batch_size=self.batch_size,
        )
