"""Diagonals of the Fisher information of a model on samples: how much each weight matters there.

The empirical Fisher squares the gradient of each row's own loss (Kirkpatrick et al. 2017,
Overcoming Catastrophic Forgetting in Neural Networks); Kunstner, Balles, Hennig (2019), Limitations
of the Empirical Fisher Approximation, say what it is not. The batch form squares gradients of batch
means, as much released code does: another quantity, in which rows that agree count for more.
"""

import torch
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLogits, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device
from expunge.signals.gradients import (
    Gradients,
    RowGradients,
    RowValues,
    batch_gradients,
    losses_of,
    row_gradients,
)


def diagonal_fisher(
    family: Family, model: nn.Module, samples: Samples, run: Run, form: RowGradients | None = None
) -> Gradients:
    """Mean over the rows of the squared gradient of each row's loss: the empirical Fisher.

    Args:
        family: has the loss, with the rows' own labels.
        model: asked in evaluation mode; it stays as it is.
        samples: n rows.
        run: device.
        form: how row gradients are computed; see :func:`~expunge.signals.gradients.row_gradients`.

    Returns:
        Float32 tensors on the CPU, in the shapes of the parameters, all >= 0.

    Raises:
        ExpungeError: no rows, no parameter that requires a gradient, or a gradient not finite.
    """
    total: Gradients = {}
    for chunk in row_gradients(losses_of(family), family, model, samples, run, form):
        _add(total, {name: g.square().sum(0) for name, g in chunk.items()})
    return _mean(total, len(samples))


def batch_fisher(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 64
) -> Gradients:
    """Mean over the batches of the squared gradient of each batch's mean loss.

    Rows are shuffled by the run first: batches of one class each would agree with themselves.
    Equal to :func:`diagonal_fisher` at batches of one row. Arguments and errors are the same.
    """
    total: Gradients = {}
    order = torch.randperm(len(samples), generator=run.generator("fisher/order"))
    shuffled, batches = samples.select(order), 0
    values = losses_of(family)
    for _, found in batch_gradients(values, family, model, shuffled, run, batch_size):
        _add(total, {name: g.square() for name, g in found.items()})
        batches += 1
    return _mean(total, batches)


def expected_fisher(
    family: Family, model: nn.Module, samples: Samples, run: Run, form: RowGradients | None = None
) -> Gradients:
    """Mean over the rows of the squared gradient for every class, weighted by its probability.

    The Fisher information itself, E_x sum_y p(y|x) (d loss(x, y) / d weight)^2; labels of the rows
    are not read. It costs as many passes as there are classes. Arguments are those of
    :func:`diagonal_fisher`.

    Raises:
        ExpungeError: as :func:`diagonal_fisher`, or the family has no logits.
    """
    total: Gradients = {}
    for label in range(classes_of(family, model, samples, run)):
        values = _weighted(family, label)
        for chunk in row_gradients(values, family, model, samples, run, form):
            _add(total, {name: g.square().sum(0) for name, g in chunk.items()})
    return _mean(total, len(samples))


def classes_of(family: Family, model: nn.Module, samples: Samples, run: Run) -> int:
    """The number of classes C that the model scores, read off its logits of the first row."""
    if len(samples) == 0:
        raise ExpungeError("Logits were asked of no rows; at least one row is expected.")
    first = {n: t.to(run.device) for n, t in samples.batch(torch.tensor([0])).items()}
    with evaluating(on_device(model, run)) as asked, torch.inference_mode():
        return able(family, HasLogits).logits(asked, first).shape[1]


def _weighted(family: Family, label: int) -> RowValues:
    """The loss of one class at every row, times the root of its probability held fixed."""
    scorer = able(family, HasLogits)

    def values(model: nn.Module, batch: Batch) -> Tensor:
        log_probabilities = scorer.logits(model, batch).float().log_softmax(1)[:, label]
        return -log_probabilities * (log_probabilities.detach() / 2).exp()

    return values


def _add(total: Gradients, found: Gradients) -> None:
    for name, tensor in found.items():
        if name in total:
            total[name] += tensor
        else:
            total[name] = tensor


def _mean(total: Gradients, count: int) -> Gradients:
    return {name: (tensor / count).cpu() for name, tensor in total.items()}
