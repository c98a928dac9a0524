"""DMM: predict what a retrained model would answer, and fine-tune the model to answer that.

Georgiev, Rinberg, Park, Garg, Ilyas, Madry, Neel (2024). Attribute-to-Delete: Machine Unlearning
via Datamodel Matching (ICLR 2025). An attribution, prepared once and for all requests, says what
the forget rows add to each output; the model's own outputs without it are the simulated oracle.
Every model is matched to its own: the mean of many oracles would take away the spread between
models. The magnitude of an attribution matters, so none is normalised; those of half the data are
too large at all of it, which :class:`~expunge.learning.attribution.LeaveOuts` can correct.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples
from expunge.descent.length import Epochs, batches_of
from expunge.descent.loop import Descent
from expunge.descent.matching import MatchOutputs, Proximity, Targets
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.schedules import Decay
from expunge.descent.sources import NoRows, Pool, Pooled
from expunge.errors import ExpungeError
from expunge.families.abilities import HasOutputs
from expunge.learning.attribution import Attribution, LeaveOuts, scale_of
from expunge.learning.datamodels import HalfDataModels
from expunge.learning.trak import Trak
from expunge.methods.presets import wandering_rate
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.outputs import outputs_of

FACTOR = "factor"
"""The fact of an artifact that holds c of the leave-outs."""

SHOWN = (Role.FORGET, Role.RETAIN)

PASSES, PASS, SMALLEST = 8, 10, 16
"""Passes of the preset, batches of a pass that it aims at, and rows of a batch at least."""

WANDERING = 0.06
"""How far the steps of the preset lead if each has a direction of its own, as a share."""


@dataclass(frozen=True)
class DMM:
    """Datamodel matching.

    Args:
        attribution: what the forget rows add to the outputs:
            :class:`~expunge.learning.datamodels.HalfDataModels`, which trains them from the recipe,
            or :class:`~expunge.learning.trak.Trak`, for which the model is enough. A run file gives
            their fields; which of them is meant follows from those.
        calibration: real leave-outs that find the scale of the attribution; none in the paper.
        epochs: passes over the repeated forget rows and the retain sample.
        learning_rate: of Adam.
        rate_decay: factor of the rate after each pass.
        batch_size: rows a step.
        retain_ratio: r_r; the retain sample has so many rows for each forget row, or all there are.
        forget_repeats: r_f; how often a pass shows each forget row.
        strength: c, the share of the attribution that is taken away.
        proximity: w, weight of the squared distance to the weights at the start.
        inputs: the fields that the family calls the model with; the only ones that are opened.
        sequential: start from the current model instead of the base.
    """

    name: ClassVar[str] = "dmm"
    paper: ClassVar[str] = (
        "Georgiev et al. 2024, Attribute-to-Delete: Machine Unlearning via Datamodel Matching"
    )
    search: ClassVar[Mapping[str, Range]] = {
        "learning_rate": LogUniform(1e-5, 1e-2),
        "epochs": WholeNumber(1, 20),
        "strength": LogUniform(0.3, 3.0),
    }
    preset_rule: ClassVar[str] = (
        "8 passes of about 10 batches, at the learning rate at which their steps, in directions of "
        "their own, move the weights by 0.06 of their norm"
    )

    attribution: HalfDataModels | Trak | Attribution = field(default_factory=HalfDataModels)
    calibration: LeaveOuts | None = None
    epochs: int = 4
    learning_rate: float = 1e-4
    rate_decay: float = 0.95
    batch_size: int = 512
    retain_ratio: int = 20
    forget_repeats: int = 5
    strength: float = 1.0
    proximity: float = 0.0
    inputs: tuple[str, ...] = ("image",)
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.forget_repeats < 1 or self.retain_ratio < 1 or self.proximity < 0:
            raise ExpungeError(
                f"DMM got {self.forget_repeats} repeats of the forget rows, {self.retain_ratio} "
                f"retain rows for each of them and a proximity of {self.proximity:g}; at least 1 "
                "of both, and a proximity of at least 0, are expected."
            )

    @property
    def needs(self) -> tuple[type, ...]:
        """Outputs, and what the attribution needs."""
        return tuple(dict.fromkeys([HasOutputs, *self.attribution.needs]))

    @property
    def prepares_with(self) -> Access:
        """What the attribution and its calibration read; never a request."""
        access = self.attribution.prepares_with
        return access if self.calibration is None else access | self.calibration.prepares_with

    @property
    def unlearns_with(self) -> Access:
        """The inputs of forget and retain rows; no label."""
        return Access(dict.fromkeys(SHOWN, frozenset(self.inputs)))

    @property
    def preparation(self) -> object:
        """What the artifact depends on."""
        return self.attribution.preparation, self._scaled_by

    @property
    def _scaled_by(self) -> object:
        return None if self.calibration is None else (self.attribution, self.calibration)

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Eight passes in small steps; the attribution and its scale stay as they are."""
        forget, retain = len(problem.data[Role.FORGET]), len(problem.data[Role.RETAIN])
        rows = self.forget_repeats * forget + min(retain, self.retain_ratio * forget)
        size = min(self.batch_size, max(SMALLEST, rows // PASS))
        rate = wandering_rate(problem, WANDERING, PASSES * batches_of(rows, size))
        return replace(self, epochs=PASSES, batch_size=size, learning_rate=rate)

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """The attribution, for any request among the training rows, and its scale."""
        artifact = self.attribution.prepare(problem, run)
        if self.calibration is None:
            return artifact

        def presence(rows: Sequence[str], asked: Samples) -> Tensor:
            return self.attribution.presence(artifact, problem, rows, asked, run)

        factor = scale_of(presence, self.calibration.effects(problem, run))
        return Artifact(artifact.tensors, {**artifact.facts, FACTOR: factor})

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """The model that matches its simulated oracle; the facts name the scale.

        Raises:
            ExpungeError: the artifact knows nothing of a row, or was prepared without the leave-
                outs that this method asks for.
        """
        shown = self.shown(problem, run)
        asked = Pooled.of(*(shown.data[role] for role in SHOWN))
        targets = Targets(asked.ids, self.direct(problem, artifact, asked, run))
        after = self.matched(shown, targets, run)
        facts = {"method": self.name, "scale": self._scale(artifact)}
        return Outcome.of(after, problem.model, sequential=self.sequential, **facts)

    def direct(self, problem: Problem, artifact: Artifact, asked: Samples, run: Run) -> Tensor:
        """The outputs (n, ...) of the simulated oracle: those of the model at hand, less what the
        forget rows add. To serve them as they are is DM-Direct.

        Args:
            problem: the model, and the ids of the forget rows.
            artifact: as prepared.
            asked: rows of which the attribution knows; with half-data models, training rows.
            run: device and random numbers.

        Raises:
            ExpungeError: as :meth:`unlearn`.
        """
        own = outputs_of(problem.family, problem.model, asked, run)
        forget = list(problem.data[Role.FORGET].ids)
        added = self.attribution.presence(artifact, problem, forget, asked, run)
        if added.shape != own.shape:
            raise ExpungeError(
                f"The attribution knows outputs of shape {tuple(added.shape)} and this model "
                f"answers {tuple(own.shape)}; prepare it again with this model's recipe."
            )
        return own - self._scale(artifact) * added.to(own.dtype)

    def shown(self, problem: Problem, run: Run) -> Problem:
        """The problem with the forget rows repeated and a random sample of the retain rows."""
        forget, retain = (problem.data[role] for role in SHOWN)
        order = torch.randperm(len(retain), generator=run.generator("dmm/retain"))
        data = {
            Role.FORGET: forget.select(torch.arange(len(forget)).repeat(self.forget_repeats)),
            Role.RETAIN: retain.select(order[: self.retain_ratio * len(forget)]),
        }
        return replace(problem, data=data)

    def matched(self, shown: Problem, targets: Targets, run: Run) -> nn.Module:
        """The model after it was fine-tuned to targets on the rows shown.

        With the mean outputs of retrained models as targets this is oracle matching (OM), the upper
        bound that datamodels are held against.
        """
        return self.descent(targets).minimise(shown, run).model

    def descent(self, targets: Targets) -> Descent:
        """One player, in evaluation mode: batch norm on so few rows would shift its statistics."""
        pool = Pool(SHOWN)
        fields = frozenset(self.inputs)
        others = {"match": On(pool, MatchOutputs(targets, fields=fields))}
        if self.proximity:
            others["near"] = On(NoRows(), Proximity(self.proximity))
        return Descent(
            Player(
                others=others,
                optimiser=AdamW(self.learning_rate, schedule=Decay(self.rate_decay, self.epochs)),
                training=False,
            ),
            length=Epochs(self.epochs, of=pool),
            batch_size=self.batch_size,
        )

    def _scale(self, artifact: Artifact) -> float:
        if self.calibration is None:
            return self.strength
        factor = artifact.facts.get(FACTOR)
        if not isinstance(factor, float):
            raise ExpungeError(
                "The attribution was prepared without leave-outs and this method scales by them; "
                "prepare it with the calibration, or leave that out."
            )
        return self.strength * factor
