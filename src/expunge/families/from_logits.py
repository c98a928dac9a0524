"""Families whose losses, margins and neutral targets all follow from logits over C classes."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import UnitLosses


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Margins (B,): the label's logit minus the log-sum-exp of all others, from logits (B, C)."""
    right = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), float("-inf"))
    return right - others.logsumexp(1)


def other_labels(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """Labels (B,) uniform among the ``classes`` except each row's own.

    Raises:
        ExpungeError: fewer than two classes were declared.
    """
    if classes < 2:
        raise ExpungeError(
            f"The family was declared with {classes} classes; neutral labels need at least 2. "
            "Give the family its number of classes."
        )
    shift = torch.randint(1, classes, labels.shape, generator=generator)
    return (labels + shift.to(labels.device)) % classes


class FromLogits(ABC):
    """What a family gets for giving logits (B, C) and the number of its classes.

    A row's label is the index of its class or prompt. Nothing about a batch is random.
    """

    classes: int  # a field of each leaf

    @abstractmethod
    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C)."""

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing is random."""
        return batch

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits."""
        return self.logits(model, batch)

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Cross-entropy with the label, one unit a sample."""
        logits = self.logits(model, batch)
        return UnitLosses.per_sample(
            F.cross_entropy(logits.float(), batch["label"], reduction="none")
        )

    def margins(self, model: nn.Module, batch: Batch) -> Tensor:
        """Log-odds of the label (B,)."""
        return log_odds(self.logits(model, batch).float(), batch["label"])

    def neutral(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Uniform labels among the classes other than the row's own."""
        return {**batch, "label": other_labels(batch["label"], self.classes, generator)}
