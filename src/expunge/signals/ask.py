"""Asking a model: its logits, answers, errors or denoising losses on samples, turned into signals.

The model stays as it is: the mode of every submodule is put back, also after an error, and where
the run's device is another one, a copy of the model is asked there.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.data.samples import Batch, Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import (
    Family,
    HasAnswers,
    HasErrors,
    HasLogits,
    HasNoise,
    HasNumbers,
    UnitLosses,
    able,
)
from expunge.models.modes import evaluating
from expunge.run import Run, on_device
from expunge.signals.accuracy import ACCURACY, EXACT_ANSWERS
from expunge.signals.denoising import DENOISING_LOSS, denoising_losses
from expunge.signals.errors import MEAN_ABSOLUTE_ERROR
from expunge.signals.matrix import Signals
from expunge.signals.metric import Metric
from expunge.signals.predictions import Predictions


def logits_of(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Logits (n, C) and labels (n,) of all samples, in evaluation mode, without gradients."""
    scorer = able(family, HasLogits)
    found = list(_answers(scorer.logits, model, samples, run, batch_size, "label"))
    return torch.cat([logits for logits, _ in found]), torch.cat([labels for _, labels in found])


def errors_of(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
) -> Tensor:
    """Answers minus targets (n, D) in the target's unit, in evaluation mode, without gradients."""
    scorer = able(family, HasErrors)
    found = _answers(scorer.errors, model, samples, run, batch_size, "target")
    return torch.cat([errors for errors, _ in found])


def numbers_of(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
) -> Tensor:
    """The number (n, D) that a model answers for each target, in the target's unit, without the
    mean that standardising took away; in evaluation mode, without gradients.

    Raises:
        ExpungeError: the family does not answer with numbers.
    """
    scorer = able(family, HasNumbers)
    found = _answers(scorer.numbers, model, samples, run, batch_size, "target")
    return torch.cat([numbers for numbers, _ in found])


def answers_of(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 64
) -> tuple[UnitLosses, UnitLosses]:
    """Of every answer token: minus its log-probability, and 1 where it is the most likely one.

    Both (n, U), in evaluation mode, without gradients, on the CPU.
    """
    scorer = able(family, HasAnswers)
    found: list[tuple[UnitLosses, UnitLosses]] = []
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        for raw in batches(samples, batch_size):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            tokens = scorer.answers(asked, batch)
            found.append((tokens.losses(), tokens.units(tokens.hits().float())))
    losses, hits = zip(*found, strict=True)
    return _joined(losses), _joined(hits)


def _joined(parts: Sequence[UnitLosses]) -> UnitLosses:
    """Rows of several batches, padded to the widest."""
    width = max(part.mask.shape[1] for part in parts)
    spare = [width - part.mask.shape[1] for part in parts]
    return UnitLosses(
        torch.cat([F.pad(p.values.cpu(), (0, s)) for p, s in zip(parts, spare, strict=True)]),
        torch.cat([F.pad(p.mask.cpu(), (0, s)) for p, s in zip(parts, spare, strict=True)]),
    )


def _answers(
    asked_for: Callable[[nn.Module, Batch], Tensor],
    model: nn.Module,
    samples: Samples,
    run: Run,
    batch_size: int,
    right: str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batch by batch: what ``asked_for`` finds (B, ...), float32, and the field ``right`` (B, ...).

    Both are on the CPU.
    """
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        for raw in batches(samples, batch_size):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            yield asked_for(asked, batch).float().cpu(), raw[right]


def metric_of(family: Family) -> Metric:
    """What models of a family are scored with: accuracy, exact answers, the mean absolute error, or
    the denoising loss.

    Raises:
        ExpungeError: the family has no logits, answers, errors or noises.
    """
    if isinstance(family, HasLogits):
        return ACCURACY
    if isinstance(family, HasAnswers):
        return EXACT_ANSWERS
    if isinstance(family, HasErrors):
        return MEAN_ABSOLUTE_ERROR
    if isinstance(family, HasNoise):
        return DENOISING_LOSS
    raise ExpungeError(
        f"The family {family.name!r} lacks HasLogits, HasAnswers, HasErrors and HasNoise, and "
        "measuring needs one of them; take a family that has one."
    )


def ask(
    family: Family,
    model: nn.Module,
    samples: Samples,
    run: Run,
    name: str = "model",
    batch_size: int = 256,
) -> Signals:
    """The signals of one model on samples.

    Raises:
        ExpungeError: the family has none of what :func:`metric_of` knows, or an answer is not a
            number.
    """
    if metric_of(family) is DENOISING_LOSS:
        return Signals.from_denoising(
            denoising_losses(family, model, samples, run, batch_size),
            model=name,
            samples=samples.ids,
            subjects=samples.subjects,
        )
    if metric_of(family) is MEAN_ABSOLUTE_ERROR:
        errors = errors_of(family, model, samples, run, batch_size)
        return Signals.from_errors(
            errors, model=name, samples=samples.ids, subjects=samples.subjects
        )
    if isinstance(family, HasAnswers):
        losses, hits = answers_of(family, model, samples, run)
        return Signals.from_answers(
            losses, hits, model=name, samples=samples.ids, subjects=samples.subjects
        )
    return predict(family, model, samples, run, name, batch_size).signals()


def predict(
    family: Family,
    model: nn.Module,
    samples: Samples,
    run: Run,
    name: str = "model",
    batch_size: int = 256,
) -> Predictions:
    """The whole predictions of one model on samples, asked once; its signals follow from them.

    Raises:
        ExpungeError: the family has no logits, or one is not a number.
    """
    logits, labels = logits_of(family, model, samples, run, batch_size)
    return Predictions.of(
        logits, labels, model=name, samples=samples.ids, subjects=samples.subjects
    )
