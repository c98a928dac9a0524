"""Classifiers: any module from inputs (B, ...) to logits (B, C), with one label a row.

The module is called with the batch's ``image``, or with other fields of it; a ``transformers``
output object with ``logits`` is understood.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from expunge.changes.weights import buffers_of
from expunge.data.samples import Batch
from expunge.families.abilities import Anatomy
from expunge.families.blocks import blocks_of
from expunge.families.calling import answered
from expunge.families.from_logits import FromLogits
from expunge.families.heads import read_by_head


@dataclass(frozen=True)
class Classifier(FromLogits):
    """Family ``classifier``.

    Args:
        inputs: the fields the module is called with: one by position, several by keyword.
        classes: number of classes; needed only for neutral labels.
    """

    inputs: tuple[str, ...] = ("image",)
    classes: int = 0
    name: str = "classifier"

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        answer = answered(model, batch, self.inputs)
        logits: Tensor = getattr(answer, "logits", answer)
        return logits

    def embeddings(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the last linear layer reads (B, D).

        Raises:
            ExpungeError: the logits are not the answer of a linear layer.
        """
        return read_by_head(model, lambda: self.logits(model, batch))

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Blocks as :func:`blocks_of` finds them; the head is the last of them."""
        blocks = blocks_of(model)
        head = blocks[next(reversed(blocks))]
        return Anatomy(blocks, head, buffers=tuple(buffers_of(model)))
