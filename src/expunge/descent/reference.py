"""What the frozen reference says, asked once before the first step.

A reference that stands beside the trained model doubles its memory and adds a forward pass to every
step. Its log-probabilities of the answers are one number a row; where whole distributions over the
vocabulary are needed, they follow from its last hidden states and a copy of its head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.player import Setting
from expunge.families.abilities import HasAnswers, HasLoss, able
from expunge.models.modes import evaluating

AT_ONCE = 64
"""Rows that the reference is asked about at a time."""


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
class ReferenceStates:
    """The reference's last hidden states at every answer token of a role, and its head.

    Args:
        states: float32 (tokens, D), row after row.
        starts: int64 (rows + 1,), where the tokens of each row start.
        head: from states (n, D) to logits (n, V); frozen.
    """

    states: Tensor
    starts: Tensor
    head: nn.Module

    @classmethod
    def of(cls, setting: Setting, samples: Samples) -> "ReferenceStates":
        """Ask the reference about every row of a role."""
        scorer, found, counts = able(setting.family, HasAnswers), [], [torch.zeros(1)]
        with evaluating(setting.reference()) as model, torch.no_grad(), setting.run.autocast():
            for batch in batches(samples, AT_ONCE):
                here = {name: tensor.to(setting.run.device) for name, tensor in batch.items()}
                tokens = scorer.states(model, here)
                found.append(tokens.values.float())
                counts.append(tokens.rows.bincount(minlength=tokens.count).cpu().float())
            head = scorer.scorer(model)
        return cls(torch.cat(found), torch.cat(counts).cumsum(0).long(), head)

    def logits(self, batch: Batch) -> Tensor:
        """The reference's logits (n, V) float32 at the answer tokens of a batch, in its order."""
        with torch.no_grad():
            found: Tensor = self.head(self.states[self._tokens(batch[ROW].cpu())])
        return found.float()

    @property
    def bytes(self) -> int:
        """Memory of the states, without the head."""
        return self.states.numel() * self.states.element_size()

    def _tokens(self, rows: Tensor) -> Tensor:
        parts = [torch.arange(int(self.starts[r]), int(self.starts[r + 1])) for r in rows.tolist()]
        return torch.cat(parts)
