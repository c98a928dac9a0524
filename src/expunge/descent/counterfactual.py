"""Terms that answer a question about a subject as the reference answers it about another one.

A model retrained without somebody still answers when it is asked about them: as it answers about
anybody it has not heard of. That level is known without retraining, from the reference's own
answers to the same question about a subject that it does not know.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.distillation import divergence
from expunge.descent.player import Setting
from expunge.descent.reference import ReferenceStates, answer_log_probabilities
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, HasLoss, able
from expunge.problem import Fields
from expunge.recipe import Role


@dataclass(frozen=True)
class CounterfactualTarget:
    """``KL(p_ref(. | other subject) || p(. | subject))``, mean over the answer tokens of a batch.

    The problem holds the same rows about other subjects, in the same order and with the same
    answers, under :attr:`~expunge.recipe.Role.CONTRAST`. The divergence has a minimum, which is
    reached where the answers are as likely as about a stranger: nothing is pushed further.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def start(self, setting: Setting, samples: Samples) -> ReferenceStates:
        """The reference's states at the answer tokens of the rows about other subjects.

        Raises:
            ExpungeError: there are more or fewer of them than rows.
        """
        return ReferenceStates.of(setting, _counterparts(setting, samples))

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The divergence of the batch."""
        assert isinstance(prepared, ReferenceStates)
        tokens = able(setting.family, HasAnswers).answers(setting.model, batch)
        return divergence(tokens.values, prepared.logits(batch), temperature=1.0)


@dataclass(frozen=True)
class CounterfactualLevel:
    """``|L(subject) - L_ref(other subject)|``, mean over rows, quadratic within one nat.

    ``L`` is the sum of the losses of an answer's tokens. The rows about other subjects are those of
    :class:`CounterfactualTarget`. Only how likely the true answer is has a level here, one for each
    row; what else is answered is left to the model. From either side: an answer that was pushed
    past its level is brought back.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The level (rows,) of each row in nats, float32.

        Raises:
            ExpungeError: there are more or fewer rows about other subjects than rows.
        """
        return -answer_log_probabilities(setting, _counterparts(setting, samples))

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The distance of the batch from its levels."""
        assert isinstance(prepared, Tensor)
        lost = able(setting.family, HasLoss).losses(setting.model, batch).sums()
        return F.smooth_l1_loss(lost.float(), prepared[batch[ROW]])


def _counterparts(setting: Setting, samples: Samples) -> Samples:
    """The same rows about other subjects."""
    others: Samples = setting.problem.data[Role.CONTRAST]
    if len(others) != len(samples):
        raise ExpungeError(
            f"{len(others)} rows about other subjects were given for {len(samples)} rows; the "
            "same rows in the same order are expected."
        )
    return others
