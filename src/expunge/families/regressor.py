"""Regressors: any module from inputs (B, ...) to numbers (B,) or (B, D), with targets of the kind.

The module is called as a classifier is; a ``transformers`` output object with ``logits`` is
understood, since models with one label call their number so.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.changes.weights import buffers_of
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy, UnitLosses
from expunge.families.blocks import blocks_of
from expunge.families.calling import answered
from expunge.families.heads import read_by_head


@dataclass(frozen=True)
class Regressor:
    """Family ``regressor``.

    It has no logits, so no margins and no membership signal by log-odds, and it declares no neutral
    targets: what a number is that teaches nothing is a question for a method.

    Args:
        inputs: the fields the module is called with: one by position, several by keyword.
        units: what one unit of each of the D targets is in the user's unit, where the targets in
            the batch were scaled; errors are given in the user's unit. Ones by default.

    A batch holds ``target``, float (B,) or (B, D).
    """

    inputs: tuple[str, ...] = ("image",)
    units: tuple[float, ...] = ()
    name: str = "regressor"

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing is random."""
        return batch

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers (B, D).

        Raises:
            ExpungeError: the module answers with another shape than (B,) or (B, D).
        """
        answer = answered(model, batch, self.inputs)
        numbers: Tensor = getattr(answer, "logits", answer)
        if numbers.dim() not in (1, 2):
            raise ExpungeError(
                f"The model answers with numbers of shape {tuple(numbers.shape)}; (rows,) or "
                "(rows, targets) is expected. Check the builder and the family."
            )
        return numbers if numbers.dim() == 2 else numbers.unsqueeze(1)

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Squared error, mean over the D numbers: one unit a sample."""
        return UnitLosses.per_sample(self._distances(model, batch).square().mean(1))

    def errors(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers minus targets (B, D), in the user's unit.

        Raises:
            ExpungeError: there is not one unit for each target.
        """
        distances = self._distances(model, batch)
        if not self.units:
            return distances
        if len(self.units) != distances.shape[1]:  # else broadcasting would make columns up
            raise ExpungeError(
                f"The family has {len(self.units)} units and {distances.shape[1]} target columns; "
                "one unit for each is expected. `data.standardise` finds them itself."
            )
        return distances * distances.new_tensor(self.units)

    def embeddings(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the last linear layer reads (B, D).

        Raises:
            ExpungeError: the answers are not those of a linear layer.
        """
        return read_by_head(model, lambda: self.outputs(model, batch))

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Blocks as :func:`blocks_of` finds them; the head is the last of them."""
        blocks = blocks_of(model)
        head = blocks[next(reversed(blocks))]
        return Anatomy(blocks, head, buffers=tuple(buffers_of(model)))

    def _distances(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers minus targets (B, D), in the unit of the batch."""
        answers = self.outputs(model, batch).float()
        targets = batch["target"].to(answers.dtype)
        targets = targets if targets.dim() == 2 else targets.unsqueeze(1)
        if answers.shape != targets.shape:  # else broadcasting would make (B, B) of (B, 1) and (B)
            raise ExpungeError(
                f"The model answers {len(answers)} rows with {answers.shape[1]} numbers each and "
                f"the table has {targets.shape[1]} target columns; the same number is expected."
            )
        return answers - targets
