"""The last linear layer of a model: what it reads of each row, and another one in its place.

Learners and methods that keep everything below it fixed work on what it reads, its features. A
guard around a model is left aside: it acts on answers, and the layer is below it.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.changes.guarded import unguarded
from expunge.changes.weights import with_weights
from expunge.data.samples import Samples
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import Family, HasLogits, able
from expunge.families.heads import head_of, read_by_head
from expunge.models.modes import evaluating
from expunge.run import Run, on_device

BLOCK = 64
"""Rows that a model is given at once."""


@dataclass(frozen=True)
class Read:
    """What the last linear layer read of m rows.

    Args:
        features: (m, d) float64 on the CPU; with a 1 beside them where the layer has a bias.
        labels: (m,) int64.
        ids: of the rows.
    """

    features: Tensor
    labels: Tensor
    ids: tuple[str, ...]


def read(
    model: nn.Module, family: Family, samples: Samples, run: Run, block: int = BLOCK
) -> Iterator[Read]:
    """Every row once, in order, ``block`` rows at a time; no more than these are in memory.

    The model is always given as many rows, the last time with some of them again: kernels for other
    shapes add up in another order, so that the last bits of a row's features would depend on how
    many rows stand beside it.

    Raises:
        ExpungeError: there are no rows, no labels, a label that the layer has no output for, or the
            logits are not the answer of the last linear layer.
    """
    if len(samples) == 0 or "label" not in samples.fields:
        raise ExpungeError(
            f"A head on fixed features got {len(samples)} rows with "
            f"{', '.join(sorted(samples.fields))}; at least one row with a label is expected."
        )
    scorer, asked, ids = able(family, HasLogits), on_device(unguarded(model), run), samples.ids
    _, head = head_of(asked)
    for start in range(0, len(samples), block):
        rows = torch.arange(start, min(start + block, len(samples)))
        raw = samples.batch(rows)
        _check_labels(raw["label"], head)
        again = torch.arange(block) % len(rows)
        batch = {name: tensor[again].to(run.device) for name, tensor in raw.items()}
        with evaluating(asked), torch.no_grad():
            seen = read_by_head(asked, functools.partial(scorer.logits, asked, batch))
        features = seen[: len(rows)].double().cpu()
        beside = torch.ones(len(rows), int(head.bias is not None), dtype=torch.float64)
        names = tuple(ids[row] for row in rows.tolist())
        yield Read(torch.cat([features, beside], 1), raw["label"].long().cpu(), names)


def width_of(model: nn.Module) -> tuple[int, int]:
    """Features that the last linear layer reads, the 1 for its bias among them, and its outputs.

    Raises:
        ExpungeError: there is none.
    """
    _, head = head_of(unguarded(model))
    return head.in_features + (head.bias is not None), head.out_features


def with_head(model: nn.Module, weights: Tensor) -> nn.Module:
    """A copy of the model whose last linear layer has these weights (d, C), rounded to its type."""
    bare = unguarded(model)
    name, head = head_of(bare)
    inner = f"{name}." if name else ""
    return with_weights(bare, {f"{inner}{n}": v for n, v in _of(head, weights).items()})


def check_head(model: nn.Module, weights: Tensor) -> None:
    """Make sure that weights (d, C) of a record are those of a model.

    Raises:
        IntegrityError: they are not.
    """
    _, head = head_of(unguarded(model))
    fits = weights.shape == (width_of(model)[0], head.out_features) and all(
        torch.equal(getattr(head, name).detach().cpu(), value)
        for name, value in _of(head, weights).items()
    )
    if not fits:
        raise IntegrityError(
            "The head of this model is not the one of the training record; give the model and "
            "the record that were made together."
        )


def check_bits(
    model: nn.Module, family: Family, samples: Samples, run: Run, block: int = BLOCK
) -> None:
    """Make sure that a row's features are the same in every bit wherever it stands in a block.

    Raises:
        ExpungeError: the rows of the first block have others in the opposite order.
    """
    rows = torch.arange(min(block, len(samples)))
    there, back = (
        next(read(model, family, samples.select(order), run, block)).features
        for order in (rows, rows.flip(0))
    )
    if not torch.equal(there, back.flip(0)):
        apart = float((there - back.flip(0)).abs().max())
        raise ExpungeError(
            f"The features of a row change by up to {apart:.1g} with the rows beside it in a block "
            f"of {block}, so that a later removal would not take away what was added. Give blocks "
            "of 1 row, or a model in which rows do not meet."
        )


def _of(head: nn.Linear, weights: Tensor) -> dict[str, Tensor]:
    """Weights (d, C) as the tensors of a layer, rounded to its type."""
    values = {"weight": weights[: head.in_features].T}
    if head.bias is not None:
        values["bias"] = weights[-1]
    return {name: value.to(head.weight.dtype).contiguous() for name, value in values.items()}


def _check_labels(labels: Tensor, head: nn.Linear) -> None:
    wrong = labels[(labels < 0) | (labels >= head.out_features)]
    if len(wrong):
        raise ExpungeError(
            f"A row has the label {int(wrong[0])}, and the last linear layer has "
            f"{head.out_features} outputs; labels from 0 to {head.out_features - 1} are expected. "
            "Build the model with an output for every class that is to come."
        )
