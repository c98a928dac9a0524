"""UNSIR: learn noise that maximises the error of what is forgotten, impair with it, then repair.

Tarun, Chundawat, Mandal, Kankanhalli (2023). Fast Yet Effective Machine Unlearning (IEEE TNNLS).
The method never looks at an input of the forget set, only at its labels ("zero-glance"). Penalty,
optimisers and epochs are those of the baseline in Foster et al. (2024), Selective Synaptic
Dampening; 40 steps on 256 rows of noise, each of them 20 times in the stream, are those of the
original code (5 rounds of 8 steps; beside 8,000 retain rows). Noise and retain rows are shuffled
into one stream, so that batch norm sees them together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from expunge.data.samples import ROW, Samples
from expunge.descent.length import Epochs, Steps
from expunge.descent.loop import Descent
from expunge.descent.noise_terms import NOISE, MaximalError, Noise, NoiseRows
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.descent.sources import Pool
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss
from expunge.methods.presets import TRAINING, Reach, held_back, passes, retain_batch
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Missing, Problem
from expunge.recipe import Role
from expunge.run import Run

REACH = Reach(classes=0.9, rows=0.2)
"""How far each pass of the preset could lead; see methods/presets.py."""

SHARE = 256 * 20 / 8000
"""Rows of noise to one of the retain set in the original code's stream."""

STREAM = Pool((Role.CONTRAST, Role.RETAIN))
"""Noise and retain rows as they come; for this pass the noise takes the role of contrast."""


@dataclass(frozen=True)
class Unsir:
    """Three descents: on the noise, on noise and retain set, on the retain set.

    The labels of the noise are those of the forget set. Where the retain set has these labels too,
    as in random forgetting, they are unlearned there as well until the repair. In the form of Choi,
    Na (2023), the result before the repair is UNSIR-1 (``repair_epochs=0``).

    Args:
        noise_rows: rows of noise.
        noise_steps: steps on the noise, each on a batch of all its rows.
        noise_learning_rate: of Adam, on the noise.
        penalty: factor of the mean squared norm of a row of noise.
        copies: how often each row of noise is in the stream of the impairing pass.
        impair_epochs: passes over the noise and the retain set, shuffled into one stream.
        impair_learning_rate: of Adam.
        repair_epochs: passes over the retain set alone.
        repair_learning_rate: of Adam.
        batch_size: rows a step, of noise and retain set together where both are read.
        target: the field of the forget set that says what its rows teach.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: no row, step or impairing pass is asked for.
    """

    name: ClassVar[str] = "unsir"
    paper: ClassVar[str] = "Tarun et al. 2023, Fast Yet Effective Machine Unlearning"
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)
    prepares_with: ClassVar[Access] = Access()
    search: ClassVar[Mapping[str, Range]] = {
        "impair_learning_rate": LogUniform(1e-5, 1e-2),
        "repair_learning_rate": LogUniform(1e-5, 1e-2),
        "impair_epochs": WholeNumber(1, 5),
        "repair_epochs": WholeNumber(0, 5),
    }
    preset_rule: ClassVar[str] = (
        "the learning rates at which a pass over the retain set could move the weights by 0.9 of "
        "their norm (0.2 where the classes stay), less where the retain rows are lost"
    )

    noise_rows: int = 256
    noise_steps: int = 40
    noise_learning_rate: float = 0.1
    penalty: float = 0.1
    copies: int = 20
    impair_epochs: int = 1
    impair_learning_rate: float = 1e-4
    repair_epochs: int = 1
    repair_learning_rate: float = 1e-4
    batch_size: int = 64
    target: str = "label"
    sequential: bool = False

    def __post_init__(self) -> None:
        for name in ("noise_rows", "noise_steps", "copies", "impair_epochs"):
            if getattr(self, name) < 1:
                raise ExpungeError(
                    f"UNSIR got {name} {getattr(self, name)}; at least 1 is expected, since "
                    "without noise to impair with it forgets nothing."
                )

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """Smaller batches, the published :data:`SHARE` of noise, and the rates that lead in one
        pass over the retain set as far as :data:`REACH` says."""
        size = retain_batch(problem, self.batch_size)
        impair, repair = (
            REACH.adam_rate(problem, passes(problem, Role.RETAIN, max(1, epochs), size))
            for epochs in (self.impair_epochs, self.repair_epochs)
        )
        beside = SHARE * len(problem.data[Role.RETAIN])
        fitting = replace(
            self,
            batch_size=size,
            copies=max(1, round(beside / self.noise_rows)),
            impair_learning_rate=impair,
            repair_learning_rate=repair,
        )
        rates = "impair_learning_rate", "repair_learning_rate"
        return held_back(fitting, rates, problem, run, TRAINING)

    @property
    def unlearns_with(self) -> Access:
        """The labels of the forget set, and the retain set."""
        return Access({Role.FORGET: frozenset({self.target}), Role.RETAIN: None})

    def unreadable(self, problem: Problem) -> tuple[Missing, ...]:
        """The field ``target`` of the forget set, and inputs that noise can stand for."""
        forget, retain = problem.data[Role.FORGET], problem.data[Role.RETAIN]
        row = retain.batch(torch.tensor([0]))
        others = sorted(set(row) - {ROW, self.target})
        if not any(row[name].is_floating_point() for name in others):
            return (
                Missing(
                    "learns noise in the place of inputs that are real numbers; there are none",
                    "UNSIR learns noise in the place of inputs that are real numbers; the retain "
                    f"set has {', '.join(others) or 'none'} of whole numbers. Take a method that "
                    "does without: `expunge methods` lists them.",
                ),
            )
        if self.target not in forget.fields:
            has = ", ".join(sorted(forget.fields)) or "no such field"
            return (
                Missing(
                    f"reads the field {self.target!r} of the forget set; there is {has}",
                    f"UNSIR reads the field {self.target!r} of the forget set, which has {has}; "
                    "give `target` the name of the field that says what its rows teach.",
                ),
            )
        return ()

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Where the last descent ends: a Delta, or a Replacement if sequential.

        Raises:
            ExpungeError: the forget set has no field ``target``, or no input is a real number.
        """
        started = replace(
            problem, companions={**problem.companions, NOISE: self._noise(problem, run)}
        )
        learned = self.noise().minimise(started, run, name="noise").companions[NOISE]
        assert isinstance(learned, Noise)
        data = {Role.RETAIN: problem.data[Role.RETAIN], Role.CONTRAST: learned.samples(self.copies)}
        impaired = self.impair().minimise(replace(problem, data=data), run, name="impair")
        after = impaired.model
        if self.repair_epochs:
            after = self.repair().minimise(replace(problem, model=after), run, name="repair").model
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)

    def noise(self) -> Descent:
        """The noise moves, the model stays."""
        return Descent(
            Player(
                NOISE,
                others={NOISE: On(NoiseRows(), MaximalError(self.penalty))},
                optimiser=AdamW(self.noise_learning_rate),
            ),
            length=Steps(self.noise_steps),
            batch_size=self.noise_rows,
        )

    def impair(self) -> Descent:
        """The model learns the noise under the labels to be forgotten, among the retain rows."""
        return Descent(
            Player(
                others={"impair": On(STREAM, Loss())},
                optimiser=AdamW(self.impair_learning_rate),
            ),
            length=Epochs(self.impair_epochs, of=STREAM),
            batch_size=self.batch_size,
        )

    def repair(self) -> Descent:
        """Descent on the retain set alone."""
        return Descent(
            Player(retain=Loss(), optimiser=AdamW(self.repair_learning_rate)),
            length=Epochs(self.repair_epochs, of=Role.RETAIN),
            batch_size=self.batch_size,
        )

    def _noise(self, problem: Problem, run: Run) -> Noise:
        """Standard normal inputs in the shape of the retain set's, under labels to be forgotten."""
        for lack in self.unreadable(problem):
            raise ExpungeError(lack.sentence)
        generator = run.generator("unsir")
        targets = self._targets(problem.data[Role.FORGET], generator)
        retain = problem.data[Role.RETAIN]
        like = retain.batch(torch.arange(self.noise_rows) % len(retain))
        inputs = {
            name: torch.randn(tensor.shape, generator=generator)
            for name, tensor in like.items()
            if tensor.is_floating_point() and name != self.target
        }
        others = {name: t for name, t in like.items() if name not in {*inputs, ROW}}
        return Noise(inputs, {**others, self.target: targets})

    def _targets(self, forget: Samples, generator: torch.Generator) -> Tensor:
        """Targets (noise_rows, ...) of forget rows drawn at random."""
        rows = torch.randint(len(forget), (self.noise_rows,), generator=generator)
        return forget.batch(rows, {self.target})[self.target]
