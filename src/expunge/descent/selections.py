"""Which parameters move, where that follows from the data or from the model's anatomy."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.data.samples import ROW, batches
from expunge.descent.streams import reading
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLoss, able
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run


@dataclass(frozen=True)
class Saliency:
    """The share ``kept`` of all entries whose forget-loss gradient is largest.

    Fan, Liu, Zhang, Wong, Wei, Liu (2024). SalUn. The gradient is summed over the forget set in
    evaluation mode and ranked by magnitude over all trainable parameters together. Of equal
    magnitudes those first in canonical order are kept. It reads the forget set, which a term of the
    same player must open.

    Args:
        kept: share of the entries that move, above 0 and at most 1.
        batch_size: rows at a time; it changes the gradient by rounding alone.
    """

    kept: float = 0.5
    batch_size: int = 256

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """A mask for every trainable parameter.

        Raises:
            ExpungeError: the share is not in (0, 1] or keeps no entry, no parameter is trainable,
                or the gradient is zero or not finite.
        """
        gradients = self._gradients(module, problem, run)
        flat = torch.cat([g.reshape(-1) for g in gradients.values()]).abs()
        count = int(self.kept * len(flat)) if 0 < self.kept <= 1 else 0
        if count == 0:
            raise ExpungeError(
                f"A share of {self.kept} of {len(flat)} weights was asked for; a number above 0 "
                "and at most 1 that keeps at least one weight is expected, for example 0.5."
            )
        if not bool(flat.isfinite().all()) or not bool(flat.any()):
            raise ExpungeError(
                "The gradient of the forget loss is zero everywhere or not finite, so no weight is "
                "more salient than another; check that the model is sound and reads its inputs."
            )
        mask = torch.zeros_like(flat, dtype=torch.bool)
        mask[flat.sort(descending=True, stable=True).indices[:count]] = True
        pieces = torch.split(mask, [g.numel() for g in gradients.values()])
        return {
            name: piece.reshape(gradient.shape)
            for (name, gradient), piece in zip(gradients.items(), pieces, strict=True)
        }

    def _gradients(self, module: nn.Module, problem: Problem, run: Run) -> dict[str, Tensor]:
        """The gradient of the summed loss by name; parameters that it does not reach are said."""
        asked = copy.deepcopy(module).eval()
        named = {name: p for name, p in asked.named_parameters() if p.requires_grad}
        if not named:
            raise ExpungeError(
                "No parameter of the model requires a gradient, so none is salient; let some."
            )
        draws, unreached = run.generator("saliency"), set(named)
        sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in named.items()}
        for raw in batches(problem.data[Role.FORGET], self.batch_size):
            run.meter.touch(Role.FORGET.value, len(raw[ROW]))
            drawn = problem.family.draw(raw, draws)
            batch = {key: tensor.to(run.device) for key, tensor in drawn.items()}
            with run.autocast(), reading(batch):
                loss = able(problem.family, HasLoss).losses(asked, batch).means().sum()
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, found, strict=True):
                if gradient is not None:
                    sums[name] += gradient
                    unreached.discard(name)
        if unreached:
            run.warn(
                f"No gradient of the forget loss reaches {min(unreached)!r}"
                f"{f' and {len(unreached) - 1} others' if len(unreached) > 1 else ''}; they count "
                "as least salient."
            )
        return sums


@dataclass(frozen=True)
class LastBlocks:
    """The parameters of the last ``count`` blocks of the family's anatomy, the head among them."""

    count: int

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All their entries.

        Raises:
            ExpungeError: the model has fewer blocks, or the count is not positive.
        """
        blocks = problem.family.anatomy(module).blocks
        if not 1 <= self.count <= len(blocks):
            raise ExpungeError(
                f"The last {self.count} blocks were asked for; this model has {len(blocks)} "
                f"({', '.join(blocks)}). Give a number from 1 to {len(blocks)}."
            )
        last = [name for names in list(blocks.values())[-self.count :] for name in names]
        trainable = {name for name, p in module.named_parameters() if p.requires_grad}
        return {name: None for name in last if name in trainable}
