"""Asking a model: its logits on samples, turned into signals."""

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.families.abilities import Family, HasLogits, able
from expunge.run import Run
from expunge.signals.matrix import Signals


def logits_of(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Logits (n, C) and labels (n,) of all samples, in evaluation mode, without gradients."""
    scorer = able(family, HasLogits)
    was_training = model.training
    model.to(run.device).eval()
    logits, labels = [], []
    with torch.inference_mode(), run.autocast():
        for raw in batches(samples, batch_size):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            logits.append(scorer.logits(model, batch).float().cpu())
            labels.append(raw["label"])
    model.train(was_training)
    return torch.cat(logits), torch.cat(labels)


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
        ExpungeError: the family has no logits, or a logit is not a number.
    """
    logits, labels = logits_of(family, model, samples, run, batch_size)
    return Signals.from_predictions(
        logits, labels, model=name, samples=samples.ids, subjects=samples.subjects
    )
