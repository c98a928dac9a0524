"""Regressors: any module from inputs (B, ...) to numbers (B,) or (B, A), with targets of the kind.

A is the number of targets D; with quantiles, of the quantiles of all targets. The module is called
as a classifier is; a ``transformers`` output object with ``logits`` is understood, since models
with one label call their number so.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from expunge.changes.weights import buffers_of
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy, UnitLosses
from expunge.families.blocks import blocks_of
from expunge.families.calling import answered
from expunge.families.heads import read_by_head
from expunge.families.number_losses import AbsoluteLoss, NumberLoss, QuantileLoss, SquaredLoss


@dataclass(frozen=True)
class Regressor:
    """Family ``regressor``.

    It has no logits, so no margins and no membership signal by log-odds, and it declares no neutral
    targets: what a number is that teaches nothing is a question for a method.

    Args:
        inputs: the fields the module is called with: one by position, several by keyword.
        units: what one unit of each of the D targets is in the user's unit, where the targets in
            the batch were scaled; errors are given in the user's unit. Ones by default.
        loss: what the model was trained to minimise; squared errors by default. In a run file
            ``{name: absolute}``, or ``{name: quantile, levels: [0.1, 0.5, 0.9]}``.

    A batch holds ``target``, float (B,) or (B, D).
    """

    inputs: tuple[str, ...] = ("image",)
    units: tuple[float, ...] = ()
    name: str = "regressor"
    loss: SquaredLoss | AbsoluteLoss | QuantileLoss | NumberLoss = field(
        default_factory=SquaredLoss
    )

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing is random."""
        return batch

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers (B, A).

        Raises:
            ExpungeError: the module answers with another shape than (B,) or (B, A).
        """
        answer = answered(model, batch, self.inputs)
        numbers: Tensor = getattr(answer, "logits", answer)
        if numbers.dim() not in (1, 2):
            raise ExpungeError(
                f"The model answers with numbers of shape {tuple(numbers.shape)}; (rows,) or "
                "(rows, targets) is expected. Check the builder and the family."
            )
        return numbers if numbers.dim() == 2 else numbers.unsqueeze(1)

    def targets(self, batch: Batch) -> Tensor:
        """Targets (B, D), in the unit of the batch."""
        targets = batch["target"]
        return targets if targets.dim() == 2 else targets.unsqueeze(1)

    def goals(self, targets: Tensor) -> Tensor:
        """What answers are compared with (B, A)."""
        return self.loss.goals(targets)

    def apart(self, answers: Tensor, goals: Tensor) -> Tensor:
        """Losses (B,) of answers (B, A) against goals (B, A).

        Raises:
            ExpungeError: the shapes differ.
        """
        answers = answers.float()
        self._check(answers, goals)
        return self.loss.apart(answers, goals.to(answers.dtype))

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """The loss, mean over the targets: one unit a sample."""
        answers, goals = self.outputs(model, batch), self.goals(self.targets(batch))
        return UnitLosses.per_sample(self.apart(answers, goals))

    def errors(self, model: nn.Module, batch: Batch) -> Tensor:
        """Answers minus targets (B, D), in the user's unit; of quantiles, the median's.

        Raises:
            ExpungeError: there is not one unit for each target.
        """
        answers, targets = self.outputs(model, batch).float(), self.targets(batch)
        self._check(answers, self.goals(targets))
        return self._scaled(self.loss.points(answers) - targets.to(answers.dtype))

    def numbers(self, model: nn.Module, batch: Batch) -> Tensor:
        """The number answered for each target (B, D), in the user's unit, without the mean that
        standardising took away."""
        return self._scaled(self.loss.points(self.outputs(model, batch).float()))

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

    def _scaled(self, numbers: Tensor) -> Tensor:
        """Numbers (B, D) in the user's unit."""
        if not self.units:
            return numbers
        if len(self.units) != numbers.shape[1]:  # else broadcasting would make columns up
            raise ExpungeError(
                f"The family has {len(self.units)} units and {numbers.shape[1]} target columns; "
                "one unit for each is expected. `data.standardise` finds them itself."
            )
        return numbers * numbers.new_tensor(self.units)

    def _check(self, answers: Tensor, goals: Tensor) -> None:
        if answers.shape != goals.shape:  # else broadcasting would make (B, B) of (B, 1) and (B)
            each = self.loss.answers
            raise ExpungeError(
                f"The model answers {len(answers)} rows with {answers.shape[1]} numbers each and "
                f"the table has {goals.shape[1] // each} target columns; "
                + ("the same number is" if each == 1 else f"{each} numbers for each are")
                + " expected."
            )
