"""Terms on a pool of forget and retain rows that give the forget rows other numbers to learn.

Tarun, Chundawat, Mandal, Kankanhalli (2023). Deep Regression Unlearning. The retain rows of a batch
keep their targets. Every row of a batch counts alike: the paper's sum of the two parts, weighed by
their shares of the batch, is the mean over its rows.

The map of what a layer makes of a row is from Zagoruyko, Komodakis (2017), Paying More Attention to
Attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.guarded import unguarded
from expunge.data.samples import ROW, Batch, Samples, batches
from expunge.descent.player import Setting
from expunge.descent.sources import PART, Pooled
from expunge.errors import ExpungeError
from expunge.families.abilities import HasNumbers, able
from expunge.families.blocks import OWN
from expunge.problem import Fields

AT_ONCE = 1024
"""Rows that are read at a time."""


@dataclass(frozen=True)
class DrawnNumbers:
    """The loss on a pool whose first role has targets drawn from the normal distribution.

    Each row's is drawn once, before the first step, with mean and standard deviation (of the
    population) of all targets of the pool.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasNumbers,)

    def start(self, setting: Setting, samples: Samples) -> Tensor:
        """The goals (n, A) of the first role's rows.

        Raises:
            ExpungeError: a target is not finite, or there is none but one value.
        """
        family, first = able(setting.family, HasNumbers), _first(samples)
        targets = torch.cat([family.targets(batch) for batch in batches(samples, AT_ONCE)]).double()
        mean, spread = targets.mean(0), targets.std(0, correction=0)
        if not bool(targets.isfinite().all()) or not bool((spread > 0).all()):
            raise ExpungeError(
                f"Targets were to be drawn with the mean {mean.tolist()} and the standard "
                f"deviation {spread.tolist()} of all rows; finite targets that differ are "
                "expected. Mend the targets, or leave a column without variance out."
            )
        draws = setting.run.generator(f"{setting.label}/targets")
        drawn = torch.randn(len(first), len(mean), dtype=torch.float64, generator=draws)
        return family.goals((mean + spread * drawn).float())

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under its goals."""
        assert isinstance(prepared, Tensor)
        family = able(setting.family, HasNumbers)
        return _loss(family, family.outputs(setting.model, batch), batch, prepared)


@dataclass(frozen=True)
class Lesson:
    """What a teacher answers (n, A) on the first role's rows, and the layers that are watched."""

    goals: Tensor
    layers: tuple[str, ...]


@dataclass(frozen=True)
class OtherTeacher:
    """The loss on a pool whose first role is taught by a companion: its answers are their goals,
    and what its layers make of them draws the model's along.

    The second part is the sum over the layers of the mean squared distance of their maps, on the
    first role's rows of the batch, times their share of it. It is not computed at weight 0, or
    where no layer lies before the head.

    Args:
        teacher: name of the companion; of the same architecture as the model.
        attention: factor of the second part.
    """

    teacher: str
    attention: float = 0.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasNumbers,)

    def start(self, setting: Setting, samples: Samples) -> Lesson:
        """The teacher's answers on the first role's rows."""
        family, teacher = able(setting.family, HasNumbers), setting.modules[self.teacher]
        found = []
        with torch.no_grad(), setting.run.autocast():
            for raw in batches(_first(samples), AT_ONCE):
                batch = {key: tensor.to(setting.run.device) for key, tensor in raw.items()}
                found.append(family.outputs(teacher, batch).float().cpu())
        return Lesson(torch.cat(found), _hidden(setting) if self.attention else ())

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean loss of the batch under its goals, and the distance of the maps."""
        assert isinstance(prepared, Lesson)
        family, first = able(setting.family, HasNumbers), batch[PART] == 0
        names = prepared.layers if bool(first.any()) else ()
        with _watching(setting.model, names) as own:
            found = _loss(family, family.outputs(setting.model, batch), batch, prepared.goals)
        if not names:
            return found
        teacher = setting.modules[self.teacher]
        with torch.no_grad(), _watching(teacher, names) as others:
            family.outputs(teacher, {key: tensor[first] for key, tensor in batch.items()})
        apart = [
            (attention_map(mine[first]) - attention_map(other)).square().mean()
            for mine, other in zip(own, others, strict=True)
        ]
        return found + self.attention * first.float().mean() * torch.stack(apart).sum()


def attention_map(activation: Tensor) -> Tensor:
    """What a layer looks at, of length 1 in every row: (B, positions) float32.

    Of activations (B, C, ...) the mean over the channels of their squares. Vectors (B, C), where
    this would leave one number, are taken as they are (our reading; the code of the paper averages
    them away).
    """
    rows = activation.float()
    return F.normalize(rows if rows.dim() == 2 else rows.square().mean(1).flatten(1), dim=1)


def _loss(family: HasNumbers, answers: Tensor, batch: Batch, others: Tensor) -> Tensor:
    """Mean loss of the batch, where the first role's rows have other goals (n, A)."""
    goals, first = family.goals(family.targets(batch)), batch[PART] == 0
    given = others[batch[ROW][first].cpu()].to(goals)
    return family.apart(answers, goals.masked_scatter(first.unsqueeze(1), given)).mean()


def _first(samples: Samples) -> Samples:
    """The rows of a pool's first role, whose positions are the first."""
    assert isinstance(samples, Pooled)
    return samples.parts[0]


def _hidden(setting: Setting) -> tuple[str, ...]:
    """Names of the modules before the head, in forward order."""
    blocks = list(setting.family.anatomy(setting.model).blocks)[:-1]
    return tuple(name for name in blocks if name != OWN)


@contextmanager
def _watching(model: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """Inside, what the named modules answer is kept in the order in which they do."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: Any, answer: Any) -> None:
        found.append(answer[0] if isinstance(answer, tuple) else answer)

    opened = unguarded(model)
    hooks = [opened.get_submodule(name).register_forward_hook(keep) for name in names]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
