"""Terms that give the distribution over the vocabulary at every answer token a target.

Three targets: the reference's own distribution, the reference's with the answer's logit lowered,
and the model's own without the answer. A cross-entropy with a target is bounded from below, and its
gradient in the logits is the difference of two distributions: none of these can run away.

Dong, Lin, Belkin, Huerta, Vulić (2025). UNDIAL: Self-Distillation with Adjusted Logits for Robust
Unlearning in Large Language Models. Yang (2025). CE-U: Cross Entropy Unlearning. The divergence on
retained rows is that of Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU.

All means are over answer tokens alone; reference code of UNDIAL and of the divergence averages over
the prompt and the padding, too.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from expunge.data.samples import Batch, Samples
from expunge.descent.distillation import divergence
from expunge.descent.player import Setting
from expunge.descent.reference import ReferenceStates
from expunge.errors import ExpungeError
from expunge.families.abilities import AnswerTokens, HasAnswers, able
from expunge.problem import Fields


@dataclass(frozen=True)
class ReferenceDivergence:
    """``KL(p_ref || p)`` at the answer tokens, mean over those of the batch.

    On the retain role it keeps; on the forget role, with a negative weight, it pushes away without
    a bound.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def start(self, setting: Setting, samples: Samples) -> ReferenceStates:
        """The reference's states at the answer tokens, and its head."""
        return ReferenceStates.of(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The divergence of the batch."""
        assert isinstance(prepared, ReferenceStates)
        tokens = able(setting.family, HasAnswers).answers(setting.model, batch)
        return divergence(tokens.values, prepared.logits(batch), temperature=1.0)


@dataclass(frozen=True)
class LoweredTarget:
    """UNDIAL: cross-entropy with ``softmax(z_ref - beta onehot(y))``, mean over answer tokens.

    Args:
        beta: what is taken from the reference's logit of the answer token.
    """

    beta: float = 10.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def start(self, setting: Setting, samples: Samples) -> ReferenceStates:
        """The reference's states at the answer tokens, and its head."""
        return ReferenceStates.of(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The cross-entropy of the batch."""
        assert isinstance(prepared, ReferenceStates)
        tokens = able(setting.family, HasAnswers).answers(setting.model, batch)
        target = prepared.logits(batch)
        target.scatter_(1, tokens.tokens.unsqueeze(1), -self.beta, reduce="add")
        return F.cross_entropy(tokens.values.float(), target.softmax(1))


@dataclass(frozen=True)
class ExcludedTarget:
    """CE-U: cross-entropy with the model's own distribution without the answer token, mean over
    the tokens that count.

    The target is held fixed in the gradient. The first tokens of an answer are left out, as in the
    paper's experiments: they carry the way an answer begins rather than what it says.

    OUR READING: an answer of no more tokens than that counts whole; otherwise nothing would be
    forgotten of it.

    Args:
        skip: first tokens of an answer that are left out.

    Raises:
        ExpungeError: ``skip`` is below 0.
    """

    skip: int = 1
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def __post_init__(self) -> None:
        if self.skip < 0:
            raise ExpungeError(
                f"{self.skip} first tokens were to be left out of every answer; 0 or more are "
                "expected."
            )

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The cross-entropy of the batch."""
        tokens = able(setting.family, HasAnswers).answers(setting.model, batch)
        logits = tokens.values.float()
        others = logits.detach().scatter(1, tokens.tokens.unsqueeze(1), float("-inf"))
        lost = F.cross_entropy(logits, others.softmax(1), reduction="none")
        return lost[self._counts(tokens)].mean()

    def _counts(self, tokens: AnswerTokens) -> Tensor:
        """Which of the tokens (n,) count."""
        lengths = tokens.rows.bincount(minlength=tokens.count)[tokens.rows]
        return (tokens.places >= self.skip) | (lengths <= self.skip)
