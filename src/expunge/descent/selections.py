"""Which parameters move, where that follows from the data or from the model's anatomy."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn

from expunge.changes.guarded import unguarded
from expunge.data.samples import ROW, Batch, batches
from expunge.descent.streams import reading
from expunge.descent.transforms import norm
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLoss, able
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run

Losses = Callable[[Family, nn.Module, Batch], Tensor]
"""The loss (B,) of every row of a drawn batch."""


def own_losses(family: Family, model: nn.Module, batch: Batch) -> Tensor:
    """Those that the family was trained with."""
    return able(family, HasLoss).losses(model, batch).means()


@dataclass(frozen=True)
class ForgetGradient:
    """The gradient of a loss summed over the forget set, in evaluation mode.

    Args:
        batch_size: rows at a time; without ``clip`` it changes the gradient by rounding alone.
        losses: what is differentiated.
        passes: over the forget set. A loss with noise in it is drawn anew in each.
        clip: largest norm of the gradient of a batch, before it is added to the others.

    Raises:
        ExpungeError: there is no pass.
    """

    batch_size: int = 256
    losses: Losses = own_losses
    passes: int = 1
    clip: float = math.inf

    def __post_init__(self) -> None:
        if self.passes < 1 or not self.clip > 0:
            raise ExpungeError(
                f"The gradient of the forget set was asked for in {self.passes} passes with norms "
                f"up to {self.clip:g}; at least one pass and a norm above 0 are expected."
            )

    def of(self, module: nn.Module, problem: Problem, run: Run) -> dict[str, Tensor]:
        """The gradient by parameter; parameters that it does not reach are said, and have 0.

        Raises:
            ExpungeError: no parameter is trainable, or the gradient is zero or not finite.
        """
        asked = copy.deepcopy(module).eval()
        named = {name: p for name, p in asked.named_parameters() if p.requires_grad}
        if not named:
            raise ExpungeError(
                "No parameter of the model requires a gradient, so none is salient; let some."
            )
        draws, unreached = run.generator("saliency"), set(named)
        sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in named.items()}
        rows = problem.data[Role.FORGET]
        for raw in chain.from_iterable(batches(rows, self.batch_size) for _ in range(self.passes)):
            run.meter.touch(Role.FORGET.value, len(raw[ROW]))
            drawn = problem.family.draw(raw, draws)
            batch = {key: tensor.to(run.device) for key, tensor in drawn.items()}
            with run.autocast(), reading(batch):
                loss = self.losses(problem.family, asked, batch).sum()
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            reached = {n: g for n, g in zip(named, found, strict=True) if g is not None}
            length = float(norm([g.float() for g in reached.values()])) if reached else 0.0
            share = min(1.0, self.clip / max(1e-12, length))
            for name, gradient in reached.items():
                sums[name] += share * gradient
                unreached.discard(name)
        if unreached:
            run.warn(
                f"No gradient of the forget loss reaches {min(unreached)!r}"
                f"{f' and {len(unreached) - 1} others' if len(unreached) > 1 else ''}; they count "
                "as least salient."
            )
        if not all(bool(g.isfinite().all()) for g in sums.values()) or not any(
            bool(g.any()) for g in sums.values()
        ):
            raise ExpungeError(
                "The gradient of the forget loss is zero everywhere or not finite, so no weight is "
                "more salient than another; check that the model is sound and reads its inputs."
            )
        return sums


def largest(scores: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Masks of the share of all entries whose score is largest, over all tensors together.

    Of equal scores those first in canonical order are taken.

    Args:
        scores: by parameter, of its shape.
        share: of the entries, rounded down, above 0 and at most 1.

    Raises:
        ExpungeError: the share is not in (0, 1], or takes no entry.
    """
    flat = torch.cat([s.reshape(-1) for s in scores.values()])
    mask = torch.zeros_like(flat, dtype=torch.bool)
    count = _count(share, len(flat))
    mask[flat.sort(descending=True, stable=True).indices[:count]] = True
    return _shaped(mask, scores)


@dataclass(frozen=True)
class Saliency:
    """The share ``kept`` of all entries whose forget-loss gradient is largest.

    Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn. The gradient is summed over the forget set in
    evaluation mode and ranked by magnitude over all trainable parameters together. Of equal
    magnitudes those first in canonical order are kept. It reads the forget set, which a term of the
    same player must open.

    Args:
        kept: share of the entries that move, above 0 and at most 1.
        gradient: how it is found.
    """

    kept: float = 0.5
    gradient: ForgetGradient = field(default_factory=ForgetGradient)

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """A mask for every trainable parameter.

        Raises:
            ExpungeError: the share is not in (0, 1] or keeps no entry, no parameter is trainable,
                or the gradient is zero or not finite.
        """
        found = self.gradient.of(module, problem, run)
        return dict(largest({name: g.abs() for name, g in found.items()}, self.kept))


@dataclass(frozen=True)
class Connections:
    """The share ``kept`` of all entries whose weight times forget-loss gradient is largest.

    Lee, Ajanthan, Torr (2019). SNIP: Single-shot Network Pruning based on Connection Sensitivity.
    Its arguments are those of :class:`Saliency`; so are its errors.
    """

    kept: float = 0.1
    gradient: ForgetGradient = field(default_factory=ForgetGradient)

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor]:
        """A mask for every trainable parameter."""
        found, weights = self.gradient.of(module, problem, run), dict(module.named_parameters())
        scores = {n: (g * weights[n].detach().to(g.device)).abs() for n, g in found.items()}
        return largest(scores, self.kept)


@dataclass(frozen=True)
class RandomEntries:
    """A random share ``kept`` of all entries: as many as :class:`Saliency` takes, as a control."""

    kept: float = 0.5

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """A mask for every trainable parameter."""
        draws = run.generator("random entries")
        named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        scores = {n: torch.rand(p.shape, generator=draws).to(p.device) for n, p in named.items()}
        return dict(largest(scores, self.kept))


def _count(share: float, entries: int) -> int:
    count = int(share * entries) if 0 < share <= 1 else 0
    if count == 0:
        raise ExpungeError(
            f"A share of {share} of {entries} weights was asked for; a number above 0 "
            "and at most 1 that keeps at least one weight is expected, for example 0.5."
        )
    return count


def _shaped(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    pieces = torch.split(flat, [one.numel() for one in like.values()])
    return {
        name: piece.reshape(one.shape)
        for (name, one), piece in zip(like.items(), pieces, strict=True)
    }


def _ids(module: nn.Module) -> list[int]:
    return [id(parameter) for parameter in module.parameters()]


@dataclass(frozen=True)
class LastBlocks:
    """The parameters of the last ``count`` blocks of the family's anatomy, the head among them."""

    count: int

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All their entries.

        Raises:
            ExpungeError: the model has fewer blocks, or the count is not positive.
        """
        trainable = {name for name, p in module.named_parameters() if p.requires_grad}
        return {name: None for name in self._names(module, problem) if name in trainable}

    def weightless(self, module: nn.Module, problem: Problem) -> dict[str, bool]:
        """Which of the submodules that hold no weight, as dropout does, belong to these blocks.

        Only the order of a ``Sequential`` is known: there such a part goes with the one before it
        that holds weights, or with the first. Those that other modules call are left out.
        """
        opened, names = unguarded(module), set(self._names(module, problem))
        last = {id(p) for name, p in opened.named_parameters() if name in names}
        found: dict[str, bool] = {}
        for place, parent in opened.named_modules():
            if not isinstance(parent, nn.Sequential):
                continue
            children = [(key, part, _ids(part)) for key, part in parent.named_children()]
            belongs = next((held[0] in last for _, _, held in children if held), None)
            for key, part, held in children:
                belongs = held[-1] in last if held else belongs
                if not held and belongs is not None:
                    inner = part.named_modules(prefix=f"{place}.{key}".lstrip("."))
                    found |= {name: belongs for name, _ in inner}
        return found

    def _names(self, module: nn.Module, problem: Problem) -> list[str]:
        blocks = problem.family.anatomy(module).blocks
        if not 1 <= self.count <= len(blocks):
            raise ExpungeError(
                f"The last {self.count} blocks were asked for; this model has {len(blocks)} "
                f"({', '.join(blocks)}). Give a number from 1 to {len(blocks)}."
            )
        return [name for names in list(blocks.values())[-self.count :] for name in names]
