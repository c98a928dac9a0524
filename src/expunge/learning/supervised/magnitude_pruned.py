"""Magnitude pruning with rewinding: train, take the smallest weights, rewind, train again.

Frankle, Carbin (2019). The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks;
Frankle, Dziugaite, Roy, Carbin (2020). Linear Mode Connectivity and the Lottery Ticket Hypothesis
(rewinding). As used before unlearning by Jia, Liu, Ram, Yao, Liu, Liu, Sharma, Liu (2023). Model
Sparsity Can Simplify Machine Unlearning, whose released settings are the defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from expunge.changes.weights import parameters_of
from expunge.data.samples import Samples
from expunge.descent.optimisers import SGD
from expunge.descent.schedules import Milestones
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.learning.supervised.masks import (
    SCOPES,
    Convolutions,
    Scope,
    all_kept,
    pruned,
    record_of,
    smallest_pruned,
    warn_of_emptied,
)
from expunge.learning.supervised.plain import Plain
from expunge.learning.supervised.same_mask import Stretch
from expunge.recipe import Role, Trained
from expunge.run import Run

PAPER_TRAINING = Plain(
    182,
    256,
    SGD(0.1, 0.9, weight_decay=5e-4, schedule=Milestones((91 / 182, 136 / 182))),
)
"""The original training of the paper: 182 epochs, the rate a tenth after 91 and after 136."""


@dataclass(frozen=True)
class MagnitudePruned:
    """One-shot magnitude pruning (OMP) with one round, iterative (IMP) with several.

    After round t exactly floor((1 - (1 - rate)^t) p) of the p weights in scope are 0, the smallest
    of all layers together. OMP to 95 % is ``rate=0.95``; IMP to 95.6 % is ``rate=0.2, rounds=14``.
    The masks are drawn from all training rows: what was kept may itself tell of rows that are
    forgotten later.

    Args:
        training: of the dense model, and of the sparse one from ``rewind`` on.
        rate: share of the remaining weights that each round prunes.
        rounds: how often it is pruned and trained again.
        rewind: epoch to whose weights and learning rate the survivors go back, in each round.
        scope: which weights may be pruned.
    """

    name: ClassVar[str] = "magnitude-pruned"
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {"scope": SCOPES}

    training: Plain = PAPER_TRAINING
    rate: float = 0.95
    rounds: int = 1
    rewind: int = 8
    scope: Scope = field(default_factory=Convolutions)

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ExpungeError(
                f"A pruning rate of {self.rate} was given; a share above 0 and below 1 is "
                "expected, for example 0.95."
            )
        if self.rounds < 1:
            raise ExpungeError(f"{self.rounds} rounds of pruning were asked for; 1 is the least.")
        if not 0 <= self.rewind < self.training.epochs:
            raise ExpungeError(
                f"Rewinding to epoch {self.rewind} of a training of {self.training.epochs} epochs "
                "was asked for; an epoch from 0 to the last but one is expected."
            )

    @property
    def sparsity(self) -> float:
        """Share of the weights in scope that is pruned in the end."""
        return float(1 - (1 - self.rate) ** self.rounds)

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """A sparse model, and its masks as the record."""
        epochs, masks = self.training.epochs, all_kept(model, self.scope)
        early = model
        if self.rewind:
            early = Stretch(self.training, 0, self.rewind).fit(model, family, data, run).model
        trained = Stretch(self.training, self.rewind, epochs).fit(early, family, data, run).model
        for count in range(1, self.rounds + 1):
            weights = parameters_of(trained)
            sizes = {name: weights[name].abs() for name in masks}
            masks = smallest_pruned(sizes, masks, 1 - (1 - self.rate) ** count)
            late = Stretch(self.training, self.rewind, epochs, masks)
            trained = late.fit(pruned(early, masks), family, data, run).model
        warn_of_emptied(masks, run)
        return Trained(trained, record_of(masks, self.name))
