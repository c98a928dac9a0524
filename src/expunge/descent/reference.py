"""What the frozen reference says, asked once before the first step.

A reference that stands beside the trained model doubles its memory and adds a forward pass to every
step. Its log-probabilities of the answers are one number a row; where whole distributions over the
vocabulary are needed, they follow from its last hidden states and a copy of its head.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.player import Setting
from expunge.families.abilities import AnswerTokens, HasAnswers, HasLoss, able
from expunge.models.modes import evaluating

AT_ONCE = 64
"""Rows that the reference is asked about at a time."""

Reading = Callable[[nn.Module, Batch], AnswerTokens]
"""What is read of a model at the answer tokens of a batch: states (n, D)."""


def answer_log_probabilities(setting: Setting, samples: Samples) -> Tensor:
    """The reference's log-probability of each whole answer, summed over its tokens.

    Returns:
        (rows,) float32 in nats, on the device of the run.
    """
    scorer, found = able(setting.family, HasLoss), []
    with evaluating(setting.reference()) as model, torch.no_grad(), setting.run.autocast():
        for batch in batches(samples, AT_ONCE):
            here = {name: tensor.to(setting.run.device) for name, tensor in batch.items()}
            found.append(-scorer.losses(model, here).sums().float())
    return torch.cat(found)


@dataclass(frozen=True, eq=False)
class TokenStates:
    """What the reference holds at every answer token of a role.

    Args:
        states: float32 (tokens, D), row after row.
        starts: int64 (rows + 1,), where the tokens of each row start.
    """

    states: Tensor
    starts: Tensor

    @classmethod
    def read(cls, setting: Setting, samples: Samples, reading: Reading) -> "TokenStates":
        """Ask the reference about every row of a role."""
        found, counts = [], [torch.zeros(1)]
        with evaluating(setting.reference()) as model, torch.no_grad(), setting.run.autocast():
            for batch in batches(samples, AT_ONCE):
                here = {name: tensor.to(setting.run.device) for name, tensor in batch.items()}
                tokens = reading(model, here)
                found.append(tokens.values.float())
                counts.append(tokens.rows.bincount(minlength=tokens.count).cpu().float())
        return TokenStates(torch.cat(found), torch.cat(counts).cumsum(0).long())

    def at(self, batch: Batch) -> Tensor:
        """The states (n, D) at the answer tokens of a batch, in its order."""
        rows = batch[ROW].tolist()
        parts = [torch.arange(int(self.starts[r]), int(self.starts[r + 1])) for r in rows]
        return self.states[torch.cat(parts)]

    @property
    def bytes(self) -> int:
        """Memory of the states."""
        return self.states.numel() * self.states.element_size()


@dataclass(frozen=True, eq=False)
class ReferenceStates(TokenStates):
    """The reference's last hidden states at every answer token of a role, and its head.

    Args:
        head: from states (n, D) to logits (n, V); frozen.
    """

    head: nn.Module

    @classmethod
    def of(cls, setting: Setting, samples: Samples) -> "ReferenceStates":
        """Ask the reference about every row of a role."""
        scorer = able(setting.family, HasAnswers)
        found = TokenStates.read(setting, samples, scorer.states)
        return cls(found.states, found.starts, scorer.scorer(setting.reference()))

    def logits(self, batch: Batch) -> Tensor:
        """The reference's logits (n, V) float32 at the answer tokens of a batch, in its order."""
        with torch.no_grad():
            found: Tensor = self.head(self.at(batch))
        return found.float()
