"""Learned noise in the place of inputs: the companion that holds it, and the terms on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, Batch, Samples, TensorSamples
from expunge.descent.player import Setting
from expunge.families.abilities import HasLoss, able
from expunge.problem import Fields

NOISE = "noise"
"""The name of the companion."""


class Noise(nn.Module):
    """Rows whose inputs are parameters, beside fields that stay as they are, such as labels."""

    def __init__(self, learned: Mapping[str, Tensor], fixed: Mapping[str, Tensor]) -> None:
        """Starts from given rows.

        Args:
            learned: fields (n, ...) of floating-point numbers that a player moves.
            fixed: all other fields (n, ...) that the family reads.
        """
        super().__init__()
        self.learned = nn.ParameterDict({n: nn.Parameter(t.clone()) for n, t in learned.items()})
        self.fixed = tuple(fixed)
        for name, tensor in fixed.items():
            self.register_buffer(f"fixed_{name}", tensor.clone())

    def __len__(self) -> int:
        return len(next(iter(self.learned.values())))

    def rows(self, rows: Tensor) -> Batch:
        """The batch of these rows (B,), with gradients into the noise."""
        moved = {name: tensor[rows] for name, tensor in self.learned.items()}
        kept = {name: self.get_buffer(f"fixed_{name}")[rows] for name in self.fixed}
        return {**moved, **kept, ROW: rows}

    def samples(self, copies: int) -> TensorSamples:
        """The rows as they are now, each ``copies`` times, for terms that read samples."""
        rows = torch.arange(len(self)).repeat(copies)
        columns = {name: t.detach().cpu() for name, t in self.rows(rows).items() if name != ROW}
        names = [f"noise:{row}/{n}" for n, row in enumerate(rows.tolist())]
        return TensorSamples(names, names, columns)


@dataclass(frozen=True)
class NoiseRows:
    """Source of rows of the companion; each term looks up what they hold at that moment."""

    def batch(self, setting: Setting, size: int, generator: torch.Generator) -> Batch:
        """Up to ``size`` different rows, as positions (B,)."""
        return {ROW: torch.randperm(len(_noise(setting)), generator=generator)[:size]}


@dataclass(frozen=True)
class MaximalError:
    """Minus the mean loss on the noise, and ``penalty`` times the mean squared norm of its rows.

    The penalty bounds what would otherwise grow for ever (Tarun, Chundawat, Mandal, Kankanhalli
    2023, Fast Yet Effective Machine Unlearning).
    """

    penalty: float = 0.1
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> None:
        """Nothing to prepare."""

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The penalised error of the batch, to be minimised."""
        noise = _noise(setting)
        rows = noise.rows(batch[ROW])
        squares = [rows[name].square().flatten(1).sum(1).mean() for name in noise.learned]
        return self.penalty * torch.stack(squares).sum() - _losses(setting, rows)


def _noise(setting: Setting) -> Noise:
    found = setting.modules[NOISE]
    assert isinstance(found, Noise)  # the method that uses these terms makes the companion
    return found


def _losses(setting: Setting, rows: Batch) -> Tensor:
    drawn = setting.family.draw(rows, setting.generator())
    return able(setting.family, HasLoss).losses(setting.model, drawn).means().mean()
