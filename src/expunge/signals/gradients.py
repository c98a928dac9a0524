"""Gradients of a loss at fixed weights: of every row by itself, or of the mean of a batch.

The model is in evaluation mode and stays as it is. Everything is float32, whatever the precision of
the run: squares of small gradients would vanish in bfloat16. The vectorised form is
``vmap(grad(functional_call))`` of ``torch.func``; models that it cannot take (an operator without a
batching rule, a branch on values) go row by row, by the same definition.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from expunge.data.samples import Batch, Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLoss, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device

Gradients = dict[str, Tensor]
"""One tensor for each parameter that requires a gradient, by canonical name."""

RowValues = Callable[[nn.Module, Batch], Tensor]
"""What is differentiated: one number for each row of a batch, (B,)."""

RowGradients = Callable[[RowValues, nn.Module, Batch], Gradients]
"""Gradients (B, ...) of every row of a drawn batch."""

AT_ONCE = 1 << 28
"""Bytes of row gradients that are held at a time."""

MOST_ROWS = 64
"""Rows of a chunk at most: more leave the caches of a processor and are no faster."""


def losses_of(family: Family) -> RowValues:
    """The family's loss of each row (B,), a mean over its units.

    Raises:
        ExpungeError: the family has no loss, or the rows lack a field that the loss reads.
    """
    scorer = able(family, HasLoss)

    def values(model: nn.Module, batch: Batch) -> Tensor:
        try:
            return scorer.losses(model, batch).means()
        except KeyError as error:
            raise ExpungeError(
                f"The loss of the family {family.name!r} reads the field {error}, and these rows "
                f"have {', '.join(sorted(batch))}; give rows with that field, or take a method "
                "that does without it."
            ) from None

    return values


def vectorised(values: RowValues, model: nn.Module, batch: Batch) -> Gradients:
    """Gradients (B, ...) of every row, all rows at once.

    Raises:
        RuntimeError: the model holds something that ``torch.func.vmap`` cannot take.
    """
    asked = _Asked(model, values)

    def one(parameters: Gradients, row: dict[str, Tensor]) -> Any:
        alone = {name: tensor.unsqueeze(0) for name, tensor in row.items()}
        return functional_call(asked, parameters, (alone,))

    moving = {f"model.{n}": p.detach() for n, p in _moving(model).items()}
    found = vmap(grad(one), in_dims=(None, 0))(moving, dict(batch))
    return {name.removeprefix("model."): tensor.float() for name, tensor in found.items()}


def one_by_one(values: RowValues, model: nn.Module, batch: Batch) -> Gradients:
    """The same by a loop over the rows."""
    rows = len(next(iter(batch.values())))
    alone = ({name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(rows))
    found = [_of_mean(values, model, row) for row in alone]
    return {name: torch.stack([row[name] for row in found]) for name in found[0]}


def row_gradients(
    values: RowValues,
    family: Family,
    model: nn.Module,
    samples: Samples,
    run: Run,
    form: RowGradients | None = None,
) -> Iterator[Gradients]:
    """Chunk by chunk, the gradients (B, ...) of every row, in order, on the run's device.

    Args:
        values: what is differentiated.
        family: draws the randomness of a batch.
        model: stays as it is.
        samples: n rows.
        run: device and random numbers.
        form: :func:`vectorised` or :func:`one_by_one`; by default the first, and the second with a
            warning where the first cannot take the model.

    Raises:
        ExpungeError: there are no rows, nothing requires a gradient, or a gradient is not finite.
    """
    size = sum(p.numel() for p in _moving(model).values())
    at_once = max(1, min(MOST_ROWS, AT_ONCE // (4 * size)))
    chosen = form or vectorised
    with evaluating(on_device(model, run)) as asked:
        for batch in _drawn(family, samples, run, at_once):
            try:
                found = chosen(values, asked, batch)
            except RuntimeError as error:
                if form is not None or chosen is one_by_one:
                    raise
                chosen = one_by_one
                found = chosen(values, asked, batch)
                run.warn(
                    f"Row gradients of {type(asked).__name__} are computed row by row, which is "
                    f"slower: {str(error).splitlines()[0]}"
                )
            yield _finite(found)


def batch_gradients(
    values: RowValues,
    family: Family,
    model: nn.Module,
    samples: Samples,
    run: Run,
    batch_size: int = 256,
) -> Iterator[tuple[int, Gradients]]:
    """Batch by batch, in order: the number of rows and the gradient of the mean over them.

    Raises:
        ExpungeError: there are no rows, nothing requires a gradient, or a gradient is not finite.
    """
    with evaluating(on_device(model, run)) as asked:
        for batch in _drawn(family, samples, run, batch_size):
            rows = len(next(iter(batch.values())))
            yield rows, _finite(_of_mean(values, asked, batch))


def mean_gradient(
    values: RowValues,
    family: Family,
    model: nn.Module,
    samples: Samples,
    run: Run,
    batch_size: int = 256,
) -> Gradients:
    """The gradient of the mean over all rows."""
    total: Gradients = {}
    for rows, found in batch_gradients(values, family, model, samples, run, batch_size):
        for name, gradient in found.items():
            share = gradient * (rows / len(samples))
            total[name] = total[name] + share if name in total else share
    return total


class _Asked(nn.Module):
    """A module whose answer is the sum of the values, so that the parameters can be given."""

    def __init__(self, model: nn.Module, values: RowValues) -> None:
        super().__init__()
        self.model, self.values = model, values

    def forward(self, batch: Batch) -> Tensor:
        return self.values(self.model, batch).sum()


def _moving(model: nn.Module) -> dict[str, nn.Parameter]:
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ExpungeError(
            f"No parameter of {type(model).__name__} requires a gradient; let those that may "
            "change require one."
        )
    return found


def _drawn(family: Family, samples: Samples, run: Run, size: int) -> Iterator[Batch]:
    if len(samples) == 0:
        raise ExpungeError("Gradients were asked of no rows; at least one row is expected.")
    generator = run.generator("gradients/draw")
    for start in range(0, len(samples), size):
        rows = torch.arange(start, min(start + size, len(samples)))
        drawn = family.draw(samples.batch(rows), generator)
        yield {name: tensor.to(run.device) for name, tensor in drawn.items()}


def _of_mean(values: RowValues, model: nn.Module, batch: Batch) -> Gradients:
    moving = _moving(model)
    with torch.enable_grad():
        found = torch.autograd.grad(
            values(model, batch).mean(), list(moving.values()), allow_unused=True
        )
    return {
        name: torch.zeros_like(p, dtype=torch.float32) if g is None else g.float()
        for (name, p), g in zip(moving.items(), found, strict=True)
    }


def _finite(gradients: Gradients) -> Gradients:
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise ExpungeError(
                f"A gradient of {name!r} is NaN or infinite; finite gradients are expected. The "
                "model has probably diverged, or its inputs are not scaled."
            )
    return gradients
