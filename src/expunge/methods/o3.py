"""O3: an adapter for each request, orthogonal to all earlier ones, and a detector that lets it act.

Gao, Wang et al. (2025). On Large Language Model Continual Unlearning (ICLR). No retained rows are
opened, ever: each request is learned on its own rows alone, with the answers of other rows, and
what else the adapter would change is kept from it by a detector of the request's texts.

The paper has one adapter that grows: each request starts where the one before it ended, and is
pushed away from what that one was. That form is ``o3-published``. In a bank, ``o3``, each request
has an adapter of its own, and any of them can be withdrawn.

It deletes nothing: the weights still hold all of it, and are run without the bank by whoever has
them. The figures of a report belong beside those with the gate open and shut.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from expunge.changes.adapter import Factors, LowRank
from expunge.changes.adapter_bank import AdapterBank, GatedAdapter, GrowingAdapter
from expunge.changes.branches import thin
from expunge.changes.guarded import unguarded
from expunge.changes.weights import digest_of
from expunge.descent.factor_terms import Orthogonality
from expunge.descent.factors import Shape
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.random_answers import RandomAnswers
from expunge.descent.sources import NoRows
from expunge.families.abilities import HasAnswers, HasLoss
from expunge.methods.low_rank import descended
from expunge.methods.o3_detector import Fitting
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run

PAPER = "Gao, Wang et al. 2025, On Large Language Model Continual Unlearning"
SEARCH: Mapping[str, Range] = {
    "learning_rate": LogUniform(1e-5, 1e-2),
    "epochs": WholeNumber(5, 40),
    "detector_learning_rate": LogUniform(1e-6, 1e-3),
}


@dataclass(frozen=True)
class Gatekeeping(ABC):
    """What both forms of O3 share.

    Args:
        rank: of the factors, beside every linear layer but the head.
        alpha: their product is scaled by alpha / rank.
        dropout: share of inputs dropped while training.
        epochs: passes over the forget set.
        learning_rate: of Adam.
        batch_size: rows a step.
        orthogonality: factor of the penalty against earlier down-projections (lambda).
        detector_rank: of the factors of a detector, beside the linear layers that it reads.
        detector_alpha: see ``alpha``.
        detector_epochs: passes of the detector over four fifths of the forget set.
        detector_learning_rate: of AdamW.
        detector_batch_size: texts that are contrasted with one another.
        masked: share of the tokens that are replaced in the masked view.
        layers: share of the layers that the detector reads, from the lowest.
        outliers: of the one-class support vector machine (nu).
        held_out: share of the forget set that the detector is calibrated on.
        missed: share of those on which the adapter need not act fully.
    """

    name: ClassVar[str]
    kind: ClassVar[type[AdapterBank]]
    paper: ClassVar[str] = PAPER
    sequential: ClassVar[bool] = True  # adapters and detectors belong to the weights in use
    needs: ClassVar[tuple[type, ...]] = (HasLoss, HasAnswers)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET)
    search: ClassVar[Mapping[str, Range]] = SEARCH
    suppresses_by: ClassVar[str] = "guard"

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    epochs: int = 15
    learning_rate: float = 3e-4
    batch_size: int = 128
    orthogonality: float = 0.1
    detector_rank: int = 8
    detector_alpha: float = 32.0
    detector_epochs: int = 2
    detector_learning_rate: float = 1e-5
    detector_batch_size: int = 8
    masked: float = 0.15
    layers: float = 0.5
    outliers: float = 0.1
    held_out: float = 0.2
    missed: float = 0.05

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A bank with one entry.

        Raises:
            ExpungeError: the request has too few rows for a detector, or one answer in all of them.
        """
        bare = replace(problem, model=unguarded(problem.model))
        entry = GatedAdapter(
            problem.request.digest(), self._adapter(bare, run), self.fitting.fitted(bare, run)
        )
        facts = {"method": self.name, "request": entry.request}
        return Outcome((self.kind(digest_of(bare.model), (entry,), facts),))

    @property
    def fitting(self) -> Fitting:
        """How its detectors are fitted."""
        return Fitting(
            layers=self.layers,
            held_out=self.held_out,
            missed=self.missed,
            outliers=self.outliers,
            shape=Shape(self.detector_rank, self.detector_alpha),
            learning_rate=self.detector_learning_rate,
            epochs=self.detector_epochs,
            batch_size=self.detector_batch_size,
            masked=self.masked,
        )

    def descent(self, earlier: Sequence[Mapping[str, Tensor]] = ()) -> Descent:
        """Other rows' answers on the forget set, away from earlier down-projections.

        Args:
            earlier: these (r, in) by the name of their layer, one mapping an adapter.
        """
        others = {}
        if earlier:
            penalty = Orthogonality(tuple(earlier), self.orthogonality)
            others["orthogonality"] = On(NoRows(), penalty)
        return Descent(
            Player(forget=RandomAnswers(), others=others, optimiser=AdamW(self.learning_rate)),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )

    def _adapter(self, problem: Problem, run: Run) -> LowRank:
        before = [entry.adapter for bank in self.banks(problem) for entry in bank.entries]
        shape = Shape(self.rank, self.alpha, self.dropout)
        # the same seed would draw the same factors for every request, and so the least orthogonal
        own = replace(run, seed=run.generator(problem.request.digest()).initial_seed() % 2**31)
        descent = self.descent([_down(adapter, problem) for adapter in before])
        start = self.start(before)
        return descended(descent, problem, own, shape, name="adapter", start=start)

    def banks(self, problem: Problem) -> list[AdapterBank]:
        """The banks of earlier requests."""
        changes = [c for entry in problem.history.current.served for c in entry.changes]
        return [c for c in changes if isinstance(c, AdapterBank) and c.kind == self.kind.kind]

    @abstractmethod
    def start(self, before: Sequence[LowRank]) -> Mapping[str, Factors] | None:
        """The factors that a request begins with; None for new ones."""


@dataclass(frozen=True)
class O3(Gatekeeping):
    """A bank: an adapter of its own for each request."""

    name: ClassVar[str] = "o3"
    kind: ClassVar[type[AdapterBank]] = AdapterBank

    def start(self, before: Sequence[LowRank]) -> None:
        """New factors."""


@dataclass(frozen=True)
class O3Published(Gatekeeping):
    """As published: one adapter, which every request goes on from."""

    name: ClassVar[str] = "o3-published"
    kind: ClassVar[type[AdapterBank]] = GrowingAdapter

    def start(self, before: Sequence[LowRank]) -> Mapping[str, Factors] | None:
        """Those of the request before."""
        return before[-1].factors if before else None


def _down(adapter: LowRank, problem: Problem) -> dict[str, Tensor]:
    """The down-projections of an adapter, by the name of their layer."""
    found = {}
    for name, factors in adapter.factors.items():
        layer = name.removesuffix(".weight")
        found[layer] = thin(problem.model.get_submodule(layer), factors)[0]
    return found
