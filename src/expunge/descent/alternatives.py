"""Other answers to the prompts of a role: refusals, or what the reference might have said instead.

They are drawn once, before the first step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from expunge.data.samples import ROW, Batch, Samples, TensorSamples
from expunge.descent.player import Setting
from expunge.descent.reference import AT_ONCE
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, HasNeutral, able
from expunge.families.language import IGNORED, answered_with
from expunge.families.sampling import end_of, other_answers
from expunge.models.modes import evaluating


class Alternatives(Protocol):
    """Where other answers come from."""

    @property
    def needs(self) -> tuple[type, ...]:
        """The abilities that the family must have."""
        ...

    def drawn(self, setting: Setting, samples: Samples) -> Samples:
        """The rows with other answers, equally many for each: those of the first row first."""
        ...


@dataclass(frozen=True)
class Refusals:
    """One neutral target for each row: a refusal, or another label of a classifier."""

    needs: ClassVar[tuple[type, ...]] = (HasNeutral,)

    def drawn(self, setting: Setting, samples: Samples) -> Samples:
        """The rows with neutral targets."""
        generator = setting.run.generator(f"{setting.label}/refusals")
        neutral = able(setting.family, HasNeutral).neutral(_whole(samples), generator)
        return _held(samples.ids, neutral)


@dataclass(frozen=True)
class Sampled:
    """Answers sampled from the reference, none of them the true one.

    Mekala et al. ask an instructed model for wrong answers in words. OUR READING, for models that
    were taught to answer and nothing else: what the reference says where it does not say the true
    answer. See :mod:`expunge.families.sampling`.

    Args:
        count: answers to each row.
        temperature: of the sampling.

    Raises:
        ExpungeError: no answer is asked for, or the temperature is not above 0.
    """

    count: int = 5
    temperature: float = 1.0
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def __post_init__(self) -> None:
        if self.count < 1 or not self.temperature > 0:
            raise ExpungeError(
                f"{self.count} other answers at a temperature of {self.temperature} were asked "
                "for; at least one and a temperature above 0 are expected."
            )

    def drawn(self, setting: Setting, samples: Samples) -> Samples:
        """The prompts with sampled answers."""
        generator = setting.run.generator(f"{setting.label}/sampled")
        family, whole, answers = able(setting.family, HasAnswers), _whole(samples), []
        labels = whole["labels"].clone()
        labels[:, 0] = IGNORED  # what begins a text without a prompt is its prompt
        whole = {**whole, "labels": labels}
        with evaluating(setting.reference()) as model, torch.no_grad(), setting.run.autocast():
            end = end_of(model, labels)
            for start in range(0, len(samples), AT_ONCE):
                part = {name: t[start : start + AT_ONCE] for name, t in whole.items()}
                batch = {name: t.to(setting.run.device) for name, t in part.items()}
                answers += other_answers(
                    family, model, batch, self.count, self.temperature, end, generator
                )
        rows = torch.arange(len(samples)).repeat_interleave(self.count)
        repeated = {name: tensor[rows] for name, tensor in whole.items()}
        ids = [samples.ids[row] for row in rows.tolist()]
        return _held(ids, answered_with(repeated, answers))


def _whole(samples: Samples) -> Batch:
    return samples.batch(torch.arange(len(samples)))


def _held(ids: Sequence[str], batch: Batch) -> Samples:
    """A batch as samples of their own."""
    return TensorSamples(ids, ids, {name: t for name, t in batch.items() if name != ROW})
