"""Selective Amnesia: causal tracing finds the layers that hold the facts, and only those move.

Agrawal, Huang (2025). SHA256 at SemEval-2025 Task 4: Selective Amnesia - Constrained Unlearning for
Large Language Models via Knowledge Isolation. (A diffusion method has the same short name.)

The paper mixes equal numbers of forget and retain rows in one stream; here every step has as many
of each, so that no batch lacks one. It keeps the checkpoint with the lowest total loss
``-CE_f + m CE_r``; that has no lower bound, so that it prefers the most destroyed forget set, and
here the last one is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.descent.forget_terms import Ascent
from expunge.descent.layer_selections import Mlps
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.multipliers import BrakingLoss
from expunge.descent.optimisers import AdamW, Linear
from expunge.descent.player import Player
from expunge.descent.until import Until
from expunge.errors import ExpungeError
from expunge.families.abilities import HasTaps
from expunge.methods.language_presets import RULE, answering, speaks
from expunge.methods.protocol import ByDescent
from expunge.methods.search import LogUniform, Range, Uniform, WholeNumber
from expunge.problem import Missing, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.causal_tracing import (
    PLACES,
    EffectMap,
    causal_trace,
    facts_of,
    untold,
)

STRIDE = 0.1
"""Share of a typical weight that a step of the preset moves weights by: few of them move."""

ASCENT = 0.3
"""Weight of the ascent in the preset."""

SHARE = 6 / 16
"""Layers that move, as a share of the depth: 6 of the 16 of the paper's smaller model."""


@dataclass(frozen=True)
class TracedMlps:
    """The feed-forward parts of the layers with the largest effect at one token of the prompts.

    It reads the forget set, which a term of the same player must open.

    Args:
        place: one of :data:`~expunge.signals.causal_tracing.PLACES`; None for the one with the
            largest effect of all.
        count: layers; None for :data:`SHARE` of the depth.
        facts: rows of the forget set that are traced at most, drawn at random.
        noise: on the subject, in standard deviations of its embeddings.
        copies: draws of the noise.
        window: see :func:`~expunge.signals.causal_tracing.causal_trace`.
    """

    place: str | None
    count: int | None
    facts: int
    noise: float
    copies: int
    window: int | None

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All their entries.

        Raises:
            ExpungeError: the rows do not say where their subjects are, the model answers none
                right, or it has no layers with such parts.
        """
        return Mlps(self.layers(module, problem, run)).select(module, problem, run)

    def layers(self, module: nn.Module, problem: Problem, run: Run) -> tuple[int, ...]:
        """The positions of the layers."""
        return self.of(self.traced(module, problem, run))

    def traced(self, module: nn.Module, problem: Problem, run: Run) -> EffectMap:
        """The effects that they are chosen by."""
        samples = problem.data[Role.FORGET]
        order = torch.randperm(len(samples), generator=run.generator("traced facts"))
        chosen = samples.select(order[: self.facts])
        run.meter.touch(Role.FORGET.value, len(chosen))
        return causal_trace(
            problem.family,
            module,
            facts_of(chosen),
            run,
            noise=self.noise,
            copies=self.copies,
            window=self.window,
        )

    def of(self, found: EffectMap) -> tuple[int, ...]:
        """The positions of the layers with the largest effects of a map."""
        depth = found.effects.shape[1]
        count = max(1, round(SHARE * depth)) if self.count is None else self.count
        place = found.strongest("mlp") if self.place is None else self.place
        return found.largest("mlp", count, place)


@dataclass(frozen=True)
class SelectiveAmnesia(ByDescent):
    """Ascent on the forget set and a braking loss on the retain set, in a few feed-forward parts.

    The forget rows need a field ``subject`` (start, stop), the positions of the tokens that name
    whom or what the row is about, unless ``layers`` are given.

    Args:
        layers: positions of the layers that move, from 0; None finds them by causal tracing.
        place: the token at which a layer's effect counts: the last of the subject in the paper.
            None for the one with the largest effect, which in a small model is another one.
        count: how many are to be found; None for 6 of 16 in proportion.
        traced: rows of the forget set that are traced at most.
        noise: on the subject, in standard deviations of its embeddings.
        copies: draws of the noise.
        window: layers that are put back together; None for 10 of 48 in proportion. The paper has 10
            at any depth, which on a small model is all of them.
        epochs: passes over the forget set.
        learning_rate: of AdamW, falling in a line to zero.
        weight_decay: of AdamW, decoupled.
        batch_size: rows of the forget set a step, and of the retain set: half of the paper's 12
            rows in 10 accumulated batches.
        retain_batch_size: rows of the retain set a step; None for as many as of the forget set.
        forget_weight: factor of the ascent; 1 in the paper.
        least: factor of the retain loss at the start (alpha_min).
        largest: factor that is not exceeded (alpha_max); 2.3 in the code, 2.8 in its description.
        sequential: start from the current model instead of the base.
        until: ends the descent before its last epoch is over; a preset's.

    Raises:
        ExpungeError: no layer, fact or pass is asked for, or no place has this name.
    """

    name: ClassVar[str] = "selective-amnesia"
    paper: ClassVar[str] = "Agrawal, Huang 2025, SHA256 at SemEval-2025 Task 4: Selective Amnesia"
    preset_rule: ClassVar[str] = RULE
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(1, 20),
        "least": Uniform(0.5, 2.3),
    }

    layers: tuple[int, ...] | None = None
    place: str | None = "last subject"
    count: int | None = None
    traced: int = 100
    noise: float = 3.0
    copies: int = 10
    window: int | None = None
    epochs: int = 8
    learning_rate: float = 1.5e-5
    weight_decay: float = 0.0
    batch_size: int = 60
    retain_batch_size: int | None = None
    forget_weight: float = 1.0
    least: float = 1.2
    largest: float = 2.3
    sequential: bool = False
    until: Until | None = None

    def __post_init__(self) -> None:
        if self.traced < 1 or (self.count is not None and self.count < 1) or self.layers == ():
            raise ExpungeError(
                f"Selective Amnesia was given traced = {self.traced}, count = {self.count} and "
                f"layers = {self.layers}; at least one fact and one layer are expected."
            )
        if self.place is not None and self.place not in PLACES:
            raise ExpungeError(
                f"Selective Amnesia was given place = {self.place!r}; one of {', '.join(PLACES)} "
                "is expected, or null for the one with the largest effect."
            )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """The rule for language models; for others the published fields."""
        if not speaks(problem):
            return self
        return answering(self, problem, STRIDE, forget_weight=ASCENT)

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """Where the subjects of the forget rows are, unless the layers are given."""
        return untold(problem.data[Role.FORGET]) if self.layers is None else ()

    @property
    def needs(self) -> tuple[type, ...]:
        """What the terms need, and layers that can be told apart."""
        return (*super().needs, HasTaps)

    @property
    def tracing(self) -> TracedMlps:
        """How the layers are found."""
        return TracedMlps(self.place, self.count, self.traced, self.noise, self.copies, self.window)

    def descent(self) -> Descent:
        """One player, two terms, a few feed-forward parts."""
        return Descent(
            Player(
                forget=Ascent(self.forget_weight),
                retain=BrakingLoss(
                    self.epochs, self.least, self.largest, batch_size=self.retain_batch_size
                ),
                parameters=self.tracing if self.layers is None else Mlps(self.layers),
                optimiser=AdamW(
                    self.learning_rate, weight_decay=self.weight_decay, schedule=Linear()
                ),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
            until=self.until,
        )
