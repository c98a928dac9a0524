"""A term that teaches a language model other rows' answers: random labels, as texts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from expunge.data.encoding import answer_tokens
from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, HasLoss, able
from expunge.families.language import answered_with
from expunge.problem import Fields

AT_ONCE = 256
"""Rows that are read at a time."""


@dataclass(frozen=True)
class Pool:
    """The different answers of a role, and which of them each row has.

    Args:
        answers: int64 tokens (l,) of each.
        own: int64 (rows,) number of each row's own.
    """

    answers: tuple[Tensor, ...]
    own: Tensor


@dataclass(frozen=True)
class RandomAnswers:
    """The family's loss where each prompt has the answer of another row, drawn anew at every step
    from those that differ from its own."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss, HasAnswers)

    def start(self, setting: Setting, samples: Samples) -> Pool:
        """Read the answers of all rows.

        Raises:
            ExpungeError: they all have one answer.
        """
        known: dict[tuple[int, ...], int] = {}
        own = []
        for batch in batches(samples, AT_ONCE):
            for answer in answer_tokens(batch["labels"]):
                own.append(known.setdefault(tuple(answer.tolist()), len(known)))
        if len(known) < 2:
            raise ExpungeError(
                "All rows to forget have one answer, so there is no other to draw from; give a "
                "request with at least two different answers, or take another method "
                "(`expunge methods`)."
            )
        return Pool(tuple(torch.tensor(answer) for answer in known), torch.tensor(own))

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under the answers drawn."""
        assert isinstance(prepared, Pool)
        own = prepared.own[batch[ROW].cpu()]
        count = len(prepared.answers)
        further = torch.randint(1, count, (len(own),), generator=setting.generator())
        drawn = [prepared.answers[i] for i in ((own + further) % count).tolist()]
        answered = answered_with(batch, drawn)
        return able(setting.family, HasLoss).losses(setting.model, answered).means().mean()
