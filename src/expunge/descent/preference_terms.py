"""A term that prefers another answer to the true one.

Rafailov, Sharma, Mitchell, Ermon, Manning, Finn (2023). Direct Preference Optimization: Your
Language Model is Secretly a Reward Model. Preferring refusals is a baseline of Zhang et al. (2024),
Negative Preference Optimization; preferring plausible wrong answers is Mekala, Dorna, Dubey,
Lalwani, Koleczek, Rungta, Hasan, Lobo (2024), Alternate Preference Optimization for Unlearning
Factual Knowledge in Large Language Models.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.alternatives import Alternatives, Refusals
from expunge.descent.player import Setting
from expunge.descent.reference import answer_log_probabilities
from expunge.descent.sequence_terms import checked_beta, preference_loss
from expunge.families.abilities import HasLoss, able
from expunge.problem import Fields


@dataclass(frozen=True)
class Preference:
    """DPO: ``-(2/beta) log sigmoid(beta [log(p/p_ref)(other) - log(p/p_ref)(true)])``, mean over
    rows; log-probabilities are sums over the tokens of an answer.

    At the reference the value is ``(2/beta) log 2``. Where a row has several other answers, each
    step draws one of them.

    Args:
        beta: inverse temperature.
        alternatives: where the other answers come from.

    Raises:
        ExpungeError: beta is not above 0.
    """

    beta: float = 0.1
    alternatives: Alternatives = field(default_factory=Refusals)
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None

    def __post_init__(self) -> None:
        checked_beta(self.beta)

    @property
    def needs(self) -> tuple[type, ...]:
        """Losses, and what the alternatives need."""
        return tuple(dict.fromkeys((HasLoss, *self.alternatives.needs)))

    def start(self, setting: Setting, samples: Samples) -> "Pairs":
        """The other answers, and what the reference says of them and of the true ones."""
        others = self.alternatives.drawn(setting, samples)
        return Pairs(
            answer_log_probabilities(setting, samples),
            others,
            answer_log_probabilities(setting, others),
        )

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of the batch."""
        assert isinstance(prepared, Pairs)
        losses = able(setting.family, HasLoss).losses
        other = prepared.beside(batch[ROW], setting.generator())
        gained = -losses(setting.model, other).sums() - prepared.of_others[other[ROW]]
        lost = losses(setting.model, batch).sums() + prepared.of_true[batch[ROW]]
        return preference_loss(gained + lost, self.beta)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Other answers beside the true ones.

    Args:
        of_true: float32 (rows,) the reference's log-probability of each true answer.
        others: (rows * n,) those of the first row, then those of the second ...
        of_others: float32 (rows * n,) the reference's log-probability of each.
    """

    of_true: Tensor
    others: Samples
    of_others: Tensor

    def beside(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """One other answer, drawn anew, for each of the rows (B,), on their device."""
        each = len(self.others) // len(self.of_true)
        drawn = torch.randint(each, rows.shape, generator=generator)
        batch = self.others.batch(rows.cpu() * each + drawn)
        return {name: tensor.to(rows.device) for name, tensor in batch.items()}
