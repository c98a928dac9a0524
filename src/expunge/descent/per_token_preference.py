"""The NPO loss on the mean loss of an answer's tokens, in the place of their sum.

It is the form that runs of Fan et al. (2025), Towards LLM Unlearning Resilient to Relearning
Attacks, use on WMDP. On an answer of n tokens it is the summed form at ``beta / n``, divided by n:
their betas of .01 to .05 belong to it alone.
"""

from dataclasses import dataclass

from torch import Tensor

from expunge.data.samples import ROW, Batch
from expunge.descent.player import Setting
from expunge.descent.sequence_terms import NegativePreference, preference_loss
from expunge.families.abilities import HasLoss, able


@dataclass(frozen=True)
class PerTokenPreference(NegativePreference):
    """``-(2/beta) log sigmoid(beta (L - L_ref) / |y|)``, mean over rows.

    Args:
        beta: inverse temperature, of the MEAN loss of an answer's tokens.

    Raises:
        ExpungeError: beta is not above 0.
    """

    beta: float = 0.015

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of the batch."""
        assert isinstance(prepared, Tensor)
        lost = able(setting.family, HasLoss).losses(setting.model, batch)
        tokens = lost.mask.sum(1).clamp(min=1)
        return preference_loss((lost.sums() + prepared[batch[ROW]]) / tokens, self.beta)
