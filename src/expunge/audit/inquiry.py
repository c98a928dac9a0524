"""An inquiry: one deployed model under one policy at one level, and what is measured of it once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import torch
from torch import Tensor, nn

from expunge.attacks.edit_off import switchable, switched_off
from expunge.attacks.relearning import Relearning
from expunge.audit.beside import Beside
from expunge.audit.policy import Policy
from expunge.audit.references import References
from expunge.audit.removal import Answers, Removal, answers_of, score_of
from expunge.data.samples import Samples, all_but
from expunge.descent.optimisers import AdamW
from expunge.signals.ask import logits_of
from expunge.signals.matrix import Signals


class Level(StrEnum):
    """How much an audit may cost."""

    QUICK = "quick"
    """Nothing is trained: the models that are there are asked."""
    STANDARD = "standard"
    """A few oracles, relearning, rounded weights, few shadow models."""
    ADVERSARIAL = "adversarial"
    """Populations of oracles, of shadow models, and of models that unlearned."""


RELEARNED = 5
"""Oracles that relearn at most: their speeds differ little, and each costs as much as the model."""


@dataclass(frozen=True)
class Step:
    """The model after one request of a history, and which forgotten rows that request named.

    Args:
        request: its name.
        model: as it stood after it.
        rows: positions (n,) among the forgotten rows of the removal.
    """

    request: str
    model: nn.Module
    rows: Tensor


@dataclass(frozen=True)
class Walk:
    """One way to relearn.

    Args:
        lure: the rows that are given: ``forgotten``, ``related``, ``unrelated`` or ``retained``.
        rate: the learning rate.
    """

    lure: str
    rate: float

    def __str__(self) -> str:
        return f"{self.lure} rows at the rate {self.rate:g}"


@dataclass(frozen=True, eq=False)
class Inquiry:
    """What every question is answered from.

    Args:
        removal: what was to be forgotten.
        deployed: the model as it is in use: any module that the family can ask.
        references: oracles and shadow models.
        policy: thresholds.
        level: what may be trained.
        steps: the models of the history, the last of them the deployed one; () where there is none.
    """

    removal: Removal
    deployed: nn.Module
    references: References
    policy: Policy = field(default_factory=Policy)
    level: Level = Level.STANDARD
    steps: tuple[Step, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether models may be trained for the audit."""
        return self.level is not Level.QUICK

    @property
    def sign(self) -> float:
        """1 where a larger score is better remembered, -1 for errors."""
        return -1.0 if self.removal.metric.direction == "lower" else 1.0

    @cached_property
    def unit(self) -> float:
        """What differences of scores are divided by: 1 for shares; for errors the original's."""
        if self.sign > 0:
            return 1.0
        rows = self.references.original.held_out
        return max(score_of(rows, self.removal.metric), 1e-12)

    @cached_property
    def answers(self) -> Answers:
        """What the deployed model answers."""
        return answers_of(self.removal, self.deployed, self.policy.deleted.asks, "deployed")

    @cached_property
    def switches(self) -> tuple[str, ...]:
        """What can be switched off in the deployed model and is no part of the model before: a
        wrapper that scales inputs stands in both."""
        there = switchable(self.removal.before)
        return tuple(name for name in switchable(self.deployed) if name not in there)

    @cached_property
    def bare(self) -> nn.Module:
        """The deployed model with all of that switched off: what whoever holds the file has."""
        return switched_off(self.deployed) if self.switches else self.deployed

    @cached_property
    def bare_answers(self) -> Answers:
        """What it answers then."""
        if not self.switches:
            return self.answers
        return answers_of(self.removal, self.bare, self.policy.deleted.asks, "switched off")

    def score(self, signals: Signals) -> float:
        """The score on these samples, larger for what is better remembered, in :attr:`unit`."""
        return self.sign * score_of(signals, self.removal.metric) / self.unit

    def beside(self, values: Sequence[float]) -> Beside:
        """Oracles' values under the policy's confidence."""
        return Beside.of(values, self.policy.confidence)

    @cached_property
    def shown(self) -> Tensor:
        """Positions of the few forgotten rows that a relearner is given: half of them at most."""
        order = torch.randperm(
            len(self.removal.forget), generator=self.removal.run.generator("audit: shown")
        )
        few = min(self.policy.stays_forgotten.shown, len(order) // 2)
        return order[: max(1, few)].sort().values

    @cached_property
    def asked(self) -> Samples:
        """The forgotten rows that it is not given."""
        forget = self.removal.forget
        return forget.select(all_but(len(forget), self.shown))

    @cached_property
    def lures(self) -> dict[str, Samples]:
        """What a relearner is given: a few forgotten rows, related rows, unrelated rows.

        Related are retained rows of the forgotten labels; where there is none, of the labels that
        the original thinks most of, after their own, when it sees the forgotten rows.
        """
        found: dict[str, Samples] = {"forgotten": self.removal.forget.select(self.shown)}
        if not self.removal.has_classes:
            return found | {"retained": self._some(torch.arange(len(self.removal.retain)))}
        near = torch.isin(self.removal.labels["retain"], self._related_labels())
        for name, mask in (("related", near), ("unrelated", ~near)):
            rows = mask.nonzero().reshape(-1)
            if len(rows):
                found[name] = self._some(rows)
        return found

    def _related_labels(self) -> Tensor:
        own = self.removal.labels["forget"]
        if not self.removal.whole_kind:
            return torch.tensor(sorted(set(own.tolist())))
        run = self.removal.run
        logits, _ = logits_of(self.removal.family, self.removal.before, self.removal.forget, run)
        second = logits.scatter(1, own.unsqueeze(1), float("-inf")).argmax(1)
        second = second[torch.isin(second, self.removal.labels["retain"])]
        if not len(second):
            return own
        counts = second.bincount()
        return counts.topk(min(2, int((counts > 0).sum()))).indices

    def _some(self, rows: Tensor) -> Samples:
        """As many of these retained rows as all steps can see once."""
        relearning = self.relearning(self.rates[0])
        most = relearning.steps * relearning.batch_size
        order = torch.randperm(len(rows), generator=self.removal.run.generator("audit: lures"))
        return self.removal.retain.select(rows[order[:most]].sort().values)

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates at which it is relearned: at the standard level the first alone,
        since every rate costs as many walks again."""
        rates = self.policy.stays_forgotten.rates
        return rates if self.level is Level.ADVERSARIAL else rates[:1]

    def relearning(self, rate: float) -> Relearning:
        """How a relearner works."""
        return Relearning(self.policy.stays_forgotten.steps, optimiser=AdamW(rate))

    def curve(self, model: nn.Module, walk: Walk) -> tuple[float, ...]:
        """The score of a model on the forgotten rows while it relearns; in :attr:`unit`."""
        shown, run = self.lures[walk.lure], self.removal.run
        relearning = self.relearning(walk.rate)
        found = relearning.curve(model, self.removal.family, shown, self.asked, run)
        return tuple(value / self.unit for value in found)

    @cached_property
    def walks(self) -> tuple[Walk, ...]:
        """Every way in which it is relearned."""
        return tuple(Walk(lure, rate) for lure in self.lures for rate in self.rates)

    @cached_property
    def curves(self) -> dict[Walk, tuple[float, ...]]:
        """Of the deployed model."""
        return {walk: self.curve(self.bare, walk) for walk in self.walks}

    @cached_property
    def oracle_curves(self) -> dict[Walk, tuple[tuple[float, ...], ...]]:
        """Of each oracle, likewise; of at most :data:`RELEARNED` of them."""
        few = self.references.models[:RELEARNED]
        return {walk: tuple(self.curve(model, walk) for model in few) for walk in self.walks}

    def score_before(self, rows: Samples) -> float:
        """The score of the model before on these forgotten rows."""
        return self.score(self.references.original.forget.of_samples(rows.ids))
