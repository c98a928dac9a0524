"""Abilities: the small interfaces by which a family says what its models can do.

A method names the abilities it needs; a family lacks those it cannot have. Every ability is a
deterministic function of (model, batch): :meth:`Family.draw` fixes the randomness of a batch first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
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
class AnswerTokens:
    """What a language model holds at every answer token of a batch, flat, row after row.

    Args:
        values: (n, ...) one entry a token: hidden states (n, D), logits (n, V), losses (n,).
        tokens: int64 (n,) the answer tokens themselves.
        rows: int64 (n,) position in the batch of each token, ascending.
        places: int64 (n,) position of each token within its answer, from 0.
        count: rows of the batch.
    """

    values: Tensor
    tokens: Tensor
    rows: Tensor
    places: Tensor
    count: int

    def holding(self, values: Tensor) -> "AnswerTokens":
        """The same tokens with other values (n, ...)."""
        return AnswerTokens(values, self.tokens, self.rows, self.places, self.count)

    def log_probabilities(self) -> Tensor:
        """Of logits: the log-probability (n,) float32 in nats of each answer token."""
        return -F.cross_entropy(self.values.float(), self.tokens, reduction="none")

    def hits(self) -> Tensor:
        """Of logits: whether each answer token (n,) is the most likely one."""
        return self.values.argmax(1) == self.tokens

    def units(self, values: Tensor) -> UnitLosses:
        """Values (n,) of the tokens as units (B, U), U the tokens of the longest answer."""
        width = int(self.places.max()) + 1 if len(self.places) else 1
        filled = values.new_zeros(self.count, width).index_put((self.rows, self.places), values)
        mask = torch.zeros(self.count, width, dtype=torch.bool, device=values.device)
        return UnitLosses(filled, mask.index_put((self.rows, self.places), mask.new_ones(())))

    def losses(self) -> UnitLosses:
        """Of logits: minus the log-probability of each answer token, as units (B, U)."""
        return self.units(-self.log_probabilities())


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
class HasNoise(Protocol):
    """A denoiser: drawing a batch puts noise into it, and the model says which."""

    def noises(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The noise that the model predicts and the one that was drawn, both (B, ...)."""
        ...


@runtime_checkable
class HasLogits(Protocol):
    """Scores of every class or concept."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C) of a batch."""
        ...


@runtime_checkable
class HasEmbeddings(Protocol):
    """An extractor below a head."""

    def embeddings(self, model: nn.Module, batch: Batch) -> Tensor:
        """Embeddings (B, D) of a batch: what the head reads."""
        ...


@runtime_checkable
class HasErrors(Protocol):
    """How far answers of numbers are from their targets."""

    def errors(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers minus targets (B, D), in the unit in which the user gave the targets."""
        ...


@runtime_checkable
class HasNumbers(Protocol):
    """Answers of numbers, with a loss against any goals: targets, draws, another model's answers.

    D is the number of targets, A that of the numbers answered: the quantiles of each, or D.
    """

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers (B, A)."""
        ...

    def targets(self, batch: Batch) -> Tensor:
        """The targets (B, D) of a batch, in the unit of the batch."""
        ...

    def goals(self, targets: Tensor) -> Tensor:
        """What answers are compared with (B, A), from targets (B, D)."""
        ...

    def apart(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Losses (B,) of answers (B, A) against goals (B, A)."""
        ...

    def numbers(self, model: nn.Module, batch: Batch) -> Tensor:
        """The number answered for each target (B, D), in the unit in which the user gave it; what
        standardising took away is not added again."""
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


@runtime_checkable
class HasAnswers(Protocol):
    """Answers of several tokens, each scored over a vocabulary."""

    def answers(self, model: nn.Module, batch: Batch) -> AnswerTokens:
        """Logits (n, V) at the answer tokens of a batch."""
        ...

    def states(self, model: nn.Module, batch: Batch) -> AnswerTokens:
        """Hidden states (n, D) at the answer tokens, as the head reads them."""
        ...

    def scorer(self, model: nn.Module) -> nn.Module:
        """A frozen copy of the head: from states (n, D) to logits (n, V)."""
        ...


@runtime_checkable
class HasTaps(Protocol):
    """Answers of several tokens, and hidden states that can be read where the anatomy says."""

    def tapped(self, model: nn.Module, batch: Batch, tap: str) -> AnswerTokens:
        """Hidden states (n, D) after one of the anatomy's taps, at the positions that the answer
        tokens are predicted from."""
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
