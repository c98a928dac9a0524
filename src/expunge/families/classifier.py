"""Classifiers: any module from inputs (B, ...) to logits (B, C), with one label a row.

The module is called with the batch's ``image`` (or another input field); a ``transformers`` output
object with ``logits`` is understood.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.weights import buffers_of, parameters_of
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy, UnitLosses


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Margins (B,): the label's logit minus the log-sum-exp of all others, from logits (B, C)."""
    right = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), float("-inf"))
    return right - others.logsumexp(1)


def other_labels(labels: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """Labels (B,) uniform among the ``classes`` except each row's own.

    Raises:
        ExpungeError: fewer than two classes were declared.
    """
    if classes < 2:
        raise ExpungeError(
            f"The family was declared with {classes} classes; neutral labels need at least 2. "
            "Give the family its number of classes."
        )
    shift = torch.randint(1, classes, labels.shape, generator=generator)
    return (labels + shift.to(labels.device)) % classes


def top_level_blocks(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Parameter names by the child module they belong to, in forward order."""
    blocks: dict[str, list[str]] = {}
    for name in parameters_of(model):
        blocks.setdefault(name.split(".")[0], []).append(name)
    return {block: tuple(names) for block, names in blocks.items()}


@dataclass(frozen=True)
class Classifier:
    """Family ``classifier``.

    Args:
        input_field: the field the module is called with.
        classes: number of classes; needed only for neutral labels.
    """

    input_field: str = "image"
    classes: int = 0
    name: str = "classifier"

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing is random."""
        return batch

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        answer = model(batch[self.input_field])
        logits: Tensor = getattr(answer, "logits", answer)
        return logits

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits."""
        return self.logits(model, batch)

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Cross-entropy with the label, one unit a sample."""
        logits = self.logits(model, batch)
        return UnitLosses.per_sample(
            F.cross_entropy(logits.float(), batch["label"], reduction="none")
        )

    def margins(self, model: nn.Module, batch: Batch) -> Tensor:
        """Log-odds of the label (B,)."""
        return log_odds(self.logits(model, batch).float(), batch["label"])

    def neutral(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Uniform labels among the classes other than the row's own."""
        return {**batch, "label": other_labels(batch["label"], self.classes, generator)}

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Blocks are the children of the module; the head is the last of them."""
        blocks = top_level_blocks(model)
        head = blocks[next(reversed(blocks))]
        return Anatomy(blocks, head, buffers=tuple(buffers_of(model)))
