"""Abilities: the small interfaces by which a family says what its models can do.

A method names the abilities it needs; a family lacks those it cannot have. Every ability is a
deterministic function of (model, batch): :meth:`Family.draw` fixes the randomness of a batch first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch
from expunge.errors import ExpungeError


@dataclass(frozen=True)
class UnitLosses:
    """Losses (B, U) of the units of each sample: tokens, pixels, or one; ``mask`` (B, U) counts.

    The reduction is explicit, since summing and averaging over tokens are different methods.
    """

    values: Tensor
    mask: Tensor

    @classmethod
    def per_sample(cls, values: Tensor) -> "UnitLosses":
        """One unit a sample, from losses (B,)."""
        column = values.unsqueeze(1)
        return cls(column, torch.ones_like(column, dtype=torch.bool))

    def sums(self) -> Tensor:
        """Sum over the units of each sample (B,)."""
        return (self.values * self.mask).sum(1)

    def means(self) -> Tensor:
        """Mean over the units of each sample (B,)."""
        return self.sums() / self.mask.sum(1).clamp(min=1)

    def mean(self) -> Tensor:
        """Mean over all units of the batch, a scalar."""
        return (self.values * self.mask).sum() / self.mask.sum().clamp(min=1)


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model by canonical parameter names.

    ``blocks`` are in forward order, from the input. ``taps`` are modules whose outputs can be read
    by name. ``tied`` lists groups of names that share one tensor, the canonical name first.
    """

    blocks: Mapping[str, tuple[str, ...]]
    head: tuple[str, ...]
    embeddings: tuple[str, ...] = ()
    tied: tuple[tuple[str, ...], ...] = ()
    buffers: tuple[str, ...] = ()
    taps: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Family(Protocol):
    """One kind of model."""

    @property
    def name(self) -> str:
        """The name under which it is registered."""
        ...

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with all its randomness fixed (noise, time step, mask): what a loss may read.

        Families without randomness return the batch as it is.
        """
        ...

    def anatomy(self, model: nn.Module) -> Anatomy:
        """The parts of this model."""
        ...


@runtime_checkable
class HasLoss(Protocol):
    """The loss it was trained with."""

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Losses (B, U) of a drawn batch."""
        ...


@runtime_checkable
class HasOutputs(Protocol):
    """What a distiller matches: logits, the predicted noise, node embeddings."""

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Outputs (B, ...) of a drawn batch."""
        ...


@runtime_checkable
class HasLogits(Protocol):
    """Scores of every class or concept."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C) of a batch."""
        ...


@runtime_checkable
class HasErrors(Protocol):
    """How far answers of numbers are from their targets."""

    def errors(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers minus targets (B, D), in the unit in which the user gave the targets."""
        ...


@runtime_checkable
class HasMargins(Protocol):
    """The membership signal: log-odds of the right answer."""

    def margins(self, model: nn.Module, batch: Batch) -> Tensor:
        """Margins (B,): logit of the label minus the log-sum-exp of the others."""
        ...


@runtime_checkable
class HasNeutral(Protocol):
    """Targets that teach nothing: a random label, a refusal, an anchor prompt."""

    def neutral(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with neutral targets in place of its own."""
        ...


A = TypeVar("A")


def able(family: Family, ability: type[A]) -> A:
    """The family, known to have an ability.

    Raises:
        ExpungeError: it lacks the ability.
    """
    if not isinstance(family, ability):
        raise ExpungeError(
            f"The family {family.name!r} lacks {ability.__name__}, which this work needs; "
            "see `expunge methods` for what runs on it."
        )
    return family
