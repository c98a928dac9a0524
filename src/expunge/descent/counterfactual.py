"""A term that answers a question about a subject as the reference answers it about another one.

A model retrained without somebody still answers when it is asked about them: as it answers about
anybody it has not heard of. That level is known without retraining, from the reference's own
answers to the same question about a subject that it does not know.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.distillation import divergence
from expunge.descent.player import Setting
from expunge.descent.reference import ReferenceStates
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, able
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
        others = setting.problem.data[Role.CONTRAST]
        if len(others) != len(samples):
            raise ExpungeError(
                f"{len(others)} rows about other subjects were given for {len(samples)} rows; the "
                "same rows in the same order are expected."
            )
        return ReferenceStates.of(setting, others)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The divergence of the batch."""
        assert isinstance(prepared, ReferenceStates)
        tokens = able(setting.family, HasAnswers).answers(setting.model, batch)
        return divergence(tokens.values, prepared.logits(batch), temperature=1.0)
