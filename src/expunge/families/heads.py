"""The head of a module: its last linear layer, and what that reads, the embedding of a row."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasEmbeddings, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device

READ_AT_ONCE = 256
"""Rows that are embedded at a time."""


class NoEmbeddingError(ExpungeError):
    """A model whose answers are not those of its last linear layer, so that no row has an embedding
    that makes its answer."""


def head_of(model: nn.Module) -> tuple[str, nn.Linear]:
    """The name and module of the last linear layer.

    Raises:
        NoEmbeddingError: there is none.
    """
    found = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not found:
        raise NoEmbeddingError(
            f"{type(model).__name__} has no linear layer, and embeddings are what the last one "
            "reads. Give a model whose answer is that of a linear layer."
        )
    return found[-1]


def read_by_head(model: nn.Module, answer: Callable[[], Tensor]) -> Tensor:
    """What the last linear layer reads (B, D) while the model answers.

    Args:
        model: the module.
        answer: its answers (B, C) to a batch.

    Raises:
        NoEmbeddingError: the answers are not those of the last linear layer to one vector a row.
        ExpungeError: they are, and not finite.
    """
    _, head = head_of(model)
    seen: list[Tensor] = []
    handle = head.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    try:
        answers = answer()
    finally:
        handle.remove()
    if len(seen) == 1 and seen[0].dim() == 2:
        with torch.no_grad():
            again = head(seen[0])
        if again.shape == answers.shape and torch.allclose(again, answers, equal_nan=True):
            _check_finite(answers)
            return seen[0]
    raise NoEmbeddingError(
        "The answers are not those of the last linear layer to one vector a row; embeddings are "
        "what that layer reads. Give a model that ends in a linear layer."
    )


def embeddings_of(family: Family, model: nn.Module, samples: Samples, run: Run) -> Tensor:
    """Embeddings (n, D) of all rows in evaluation mode, float32 on the CPU.

    Raises:
        NoEmbeddingError: the model has no head.
        ExpungeError: there are no rows, or the model does not answer them with finite numbers.
    """
    if len(samples) == 0:
        raise ExpungeError("No row was given to embed; at least one is expected.")
    reader, found = able(family, HasEmbeddings), []
    with evaluating(on_device(model, run)) as asked, torch.no_grad(), run.autocast():
        for raw in batches(samples, READ_AT_ONCE):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            found.append(reader.embeddings(asked, batch).float().cpu())
    return torch.cat(found)


def _check_finite(answers: Tensor) -> None:
    finite = answers.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise ExpungeError(
            f"The model answers {int((~finite).sum())} of {len(finite)} rows with NaN or infinite "
            "numbers; finite ones are expected. It has probably diverged: give other weights, or "
            "a smaller learning rate; or check that its inputs are finite."
        )
