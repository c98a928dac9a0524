"""Retain terms whose factor follows their own loss: a constraint's price, and a steeper brake.

Entesari, Hatami, Khaziev, Ramakrishna, Fazlyab (2025). Constrained Entropic Unlearning: A
Primal-Dual Framework for Large Language Models (dual ascent). Agrawal, Huang (2025). SHA256 at
SemEval-2025 Task 4: Selective Amnesia (the brake).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.samples import Batch, Samples, batches
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, able
from expunge.models.modes import evaluating
from expunge.problem import Fields

AT_ONCE = 64
"""Rows whose loss at the start is taken at a time."""

STEEPEST = 20.0
"""Excess in nats above which the brake is not computed: it is at its largest long before."""


class Price:
    """The multiplier of a constraint, and the loss that was seen in the present step."""

    def __init__(self, term: "BoundedLoss", bound: float, waiting: int) -> None:
        self.term, self.bound, self.waiting = term, bound, waiting
        self.value = torch.tensor(term.multiplier, dtype=torch.float64)
        self.steps = torch.tensor(0)
        self.seen: float | None = None

    def see(self, loss: Tensor) -> None:
        """The first look of a step counts: later ones may be at other weights."""
        if self.seen is None:
            self.seen = loss.detach().item()

    def stepped(self) -> None:
        """A step of dual ascent, once the first steps are over."""
        if self.seen is not None and int(self.steps) >= self.waiting:
            excess = self.seen - self.bound
            raised = self.value + self.term.dual_rate * excess
            self.value = raised.clamp(0.0, self.term.largest)
        self.steps, self.seen = self.steps + 1, None

    def state(self) -> Mapping[str, Tensor]:
        """The multiplier and the steps so far."""
        return {"value": self.value, "steps": self.steps}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a stored state."""
        self.value, self.steps = state["value"], state["steps"]


@dataclass(frozen=True)
class BoundedLoss:
    """The loss times a multiplier that rises while the loss is above a bound and falls below it.

    After each step ``mu <- min(largest, max(0, mu + dual_rate (loss - bound)))`` with the loss of
    that step's batch.

    Args:
        bound: largest loss in nats that is accepted (epsilon). None: ``looseness`` times the loss
            of the model at the start over the whole role, plus ``margin``. OUR READING: published
            is only that it has to lie above that loss.
        looseness: see ``bound``.
        margin: see ``bound``; in nats. A model that knows its rows by heart has a loss near 0, of
            which no share is a margin.
        multiplier: at the start (mu).
        dual_rate: step of the dual ascent (eta).
        waiting: share of the steps before the first dual step.
        largest: above which the multiplier does not rise; one batch is a noisy measure.

    Raises:
        ExpungeError: a number is negative, or the multiplier starts above its largest.
    """

    bound: float | None = None
    looseness: float = 1.05
    margin: float = 0.01
    multiplier: float = 50.0
    dual_rate: float = 1.0
    waiting: float = 0.5
    largest: float = 1000.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def __post_init__(self) -> None:
        given = self.looseness, self.margin, self.multiplier, self.dual_rate, self.waiting
        if min(given) < 0 or self.multiplier > self.largest:
            raise ExpungeError(
                f"A bounded loss was given {self}; numbers of 0 or more are expected, and a "
                "multiplier that starts at or below its largest."
            )

    def start(self, setting: Setting, samples: Samples) -> Price:
        """The bound, and the multiplier at its first value."""
        bound = self.bound
        if bound is None:
            bound = self.looseness * _loss_at_start(setting, samples) + self.margin
        return Price(self, bound, math.ceil(self.waiting * setting.total))

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of the batch times the multiplier."""
        assert isinstance(prepared, Price)
        loss = able(setting.family, HasLoss).losses(setting.model, batch).means().mean()
        prepared.see(loss)
        return float(prepared.value) * loss


class Recorded:
    """The mean loss over the rows of the first steps."""

    def __init__(self, until: int) -> None:
        self.until = until
        self.steps, self.rows = torch.tensor(0), torch.tensor(0)
        self.total = torch.tensor(0.0, dtype=torch.float64)
        self.seen: tuple[float, int] | None = None

    @property
    def recording(self) -> bool:
        """Whether the mean is still being taken."""
        return int(self.steps) < self.until

    @property
    def mean(self) -> float:
        """The mean over all rows so far."""
        return float(self.total) / max(1, int(self.rows))

    def see(self, loss: Tensor, rows: int) -> None:
        """The first look of a step counts."""
        if self.seen is None:
            self.seen = loss.detach().item(), rows

    def stepped(self) -> None:
        """Take the step's batch into the mean while it is recorded."""
        if self.recording and self.seen is not None:
            loss, rows = self.seen
            self.total, self.rows = self.total + loss * rows, self.rows + rows
        self.steps, self.seen = self.steps + 1, None

    def state(self) -> Mapping[str, Tensor]:
        """The sum so far, its rows and steps."""
        return {"total": self.total, "rows": self.rows, "steps": self.steps}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a stored state."""
        self.total, self.rows, self.steps = state["total"], state["rows"], state["steps"]


@dataclass(frozen=True)
class BrakingLoss:
    """The loss times a factor that grows where a batch is above the mean of the first epoch.

    In the first of ``epochs`` equal parts of the descent the factor is ``least`` and the mean loss
    over all rows read is taken. Later a batch whose loss is ``d > 0`` above that mean has the
    factor ``min(largest, max(least, scale * base^d + offset))``, a number without a gradient.

    The released code divides a sum of batch MEANS by the number of rows, so that its mean is too
    small by the batch size and the factor stays at its largest; here the mean is one.

    Args:
        epochs: passes of the descent, of which the first is recorded.
        least: factor at the start, and where the loss is not above the mean.
        largest: factor that is not exceeded.
        scale: a of the paper.
        base: b of the paper.
        offset: c of the paper.

    Raises:
        ExpungeError: there is no pass, or the least factor is above the largest.
    """

    epochs: int = 8
    least: float = 1.2
    largest: float = 2.3
    scale: float = 0.3
    base: float = 6.0
    offset: float = 0.8
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 <= self.least <= self.largest:
            raise ExpungeError(
                f"A retain factor from {self.least} to {self.largest} was asked for over "
                f"{self.epochs} passes; at least 1 pass is expected, and a least factor from 0 to "
                "the largest."
            )

    def start(self, setting: Setting, samples: Samples) -> Recorded:
        """Nothing recorded yet."""
        return Recorded(math.ceil(setting.total / self.epochs))

    def factor(self, excess: float) -> float:
        """The factor of a batch whose loss is ``excess`` nats above the mean."""
        if excess <= 0:
            return self.least
        steep: float = self.scale * self.base ** min(excess, STEEPEST) + self.offset
        return min(self.largest, max(self.least, steep))

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of the batch times its factor."""
        assert isinstance(prepared, Recorded)
        losses = able(setting.family, HasLoss).losses(setting.model, batch).means()
        loss = losses.mean()
        prepared.see(loss, len(losses))
        excess = 0.0 if prepared.recording else loss.detach().item() - prepared.mean
        return self.factor(excess) * loss


def _loss_at_start(setting: Setting, samples: Samples) -> float:
    """The mean loss of the model at the start over all rows."""
    found, scorer = [], able(setting.family, HasLoss)
    draws = setting.run.generator(f"{setting.label}/bound")
    with evaluating(setting.reference()) as model, torch.no_grad(), setting.run.autocast():
        for raw in batches(samples, AT_ONCE):
            drawn = setting.family.draw(raw, draws)
            batch = {name: tensor.to(setting.run.device) for name, tensor in drawn.items()}
            found.append(scorer.losses(model, batch).means().double())
    return torch.cat(found).mean().item()
