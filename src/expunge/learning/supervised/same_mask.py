"""Training under a mask: pruned weights stay exactly 0, and one part of a training at a time.

Retraining with the mask of a pruned model is the reference of unlearning on it: Jia, Liu, Ram, Yao,
Liu, Liu, Sharma, Liu (2023). Model Sparsity Can Simplify Machine Unlearning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from torch import nn

from expunge.changes.history import History
from expunge.data.samples import Samples
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.descent.schedules import Part, Scheduled
from expunge.families.abilities import Family, HasLoss, able
from expunge.learning.supervised.masks import Masks, pruned, record_of
from expunge.learning.supervised.plain import Plain
from expunge.problem import Problem
from expunge.recipe import Role, Trained
from expunge.requests import NO_REQUEST
from expunge.run import Run


@runtime_checkable
class Pruning(Protocol):
    """A registered learner that prunes on the way of an ordinary training."""

    name: ClassVar[str]

    @property
    def training(self) -> Plain:
        """The ordinary training."""
        ...


@dataclass(frozen=True)
class SameMask:
    """Train the sparse model that given masks make: its retraining reference.

    Args:
        training: as of the dense model.
        masks: by canonical name; True is kept.
        drawn_by: registered name of the learner that drew the masks, whose record the new one is.
    """

    training: Plain
    masks: Masks = field(repr=False)
    drawn_by: str

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """Train a copy of ``model`` whose pruned weights are 0; the record holds the masks."""
        whole = Stretch(self.training, 0, self.training.epochs, self.masks)
        trained = whole.fit(pruned(model, self.masks), family, data, run)
        return Trained(trained.model, record_of(self.masks, self.drawn_by))


@dataclass(frozen=True)
class Stretch:
    """The epochs from ``first`` up to ``last`` of a training, under masks (none by default).

    The learning rate is that of these epochs; the optimiser starts without momentum. Every stretch
    from the same epoch reads the rows in the same order, and the whole without masks is the
    training itself.
    """

    training: Plain
    first: int
    last: int
    masks: Masks = field(default_factory=dict, repr=False)

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """Train a copy of ``model`` on the role ``train``; it keeps no record."""
        able(family, HasLoss)
        training = self.training
        part = Part(
            training.optimiser.schedule, self.first / training.epochs, self.last / training.epochs
        )
        descent = Descent(
            Player(
                others={"train": On(Role.TRAIN, Loss())},
                optimiser=Scheduled(training.optimiser, part),
            ),
            length=Epochs(self.last - self.first, of=Role.TRAIN),
            batch_size=training.batch_size,
        )
        problem = Problem(model, family, NO_REQUEST, data, History(), support=self.masks)
        name = f"training from epoch {self.first}" if self.first else "training"
        return Trained(descent.minimise(problem, run, name).model)
