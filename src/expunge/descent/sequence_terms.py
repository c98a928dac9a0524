"""Terms that make a whole answer less likely, and less so the less likely it already is.

Zhang, Lin, Bai, Mei (2024). Negative Preference Optimization: From Catastrophic Collapse to
Effective Unlearning. Fan, Liu, Lin, Jia, Zhang, Mei, Liu (2024). Simplicity Prevails: Rethinking
Negative Preference Optimization for LLM Unlearning.

Both are gradient ascent on the loss of a row with a weight from 0 to 2 of its own: of NPO
``2 / (1 + (p / p_ref)^-beta)``, of SimNPO ``2 sigmoid(-beta (mean loss - delta)) / tokens``. Any
family with losses can be asked: the loss of a class is that of an answer of one token.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.player import Setting
from expunge.descent.reference import answer_log_probabilities
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, able
from expunge.problem import Fields


def checked_beta(beta: float) -> float:
    """An inverse temperature.

    Raises:
        ExpungeError: it is not above 0.
    """
    if not beta > 0:
        raise ExpungeError(
            f"The inverse temperature beta is {beta}; a number above 0 is expected. Towards 0 it "
            "becomes gradient ascent, which is a method of its own."
        )
    return beta


def preference_loss(advantage: Tensor, beta: float) -> Tensor:
    """``-(2/beta) log sigmoid(beta advantage)``, mean over rows (B,), in float32."""
    return -2 / beta * F.logsigmoid(beta * advantage.float()).mean()


@dataclass(frozen=True)
class NegativePreference:
    """NPO: ``-(2/beta) log sigmoid(beta (L - L_ref))``, mean over rows.

    ``L`` is the SUM of the losses of an answer's tokens; with their mean, beta would be divided by
    the length of the answer. At the reference the value is ``(2/beta) log 2`` and the gradient that
    of gradient ascent; the smaller beta, the longer it stays so.

    Args:
        beta: inverse temperature.

    Raises:
        ExpungeError: beta is not above 0.
    """

    beta: float = 0.1
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def __post_init__(self) -> None:
        checked_beta(self.beta)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The reference's log-probabilities (rows,) of the answers, float32."""
        return answer_log_probabilities(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of the batch."""
        assert isinstance(prepared, Tensor)
        lost = able(setting.family, HasLoss).losses(setting.model, batch).sums()
        return preference_loss(lost + prepared[batch[ROW]], self.beta)


@dataclass(frozen=True)
class SimpleNegativePreference:
    """SimNPO: ``-(2/beta) log sigmoid(beta (L/|y| - delta))``, mean over rows; no reference.

    Args:
        beta: inverse temperature, of the MEAN loss of an answer's tokens.
        delta: mean loss in nats that an answer is pushed past.

    Raises:
        ExpungeError: beta is not above 0.
    """

    beta: float = 4.5
    delta: float = 0.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def __post_init__(self) -> None:
        checked_beta(self.beta)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of the batch."""
        lost = able(setting.family, HasLoss).losses(setting.model, batch).means()
        return preference_loss(lost - self.delta, self.beta)
