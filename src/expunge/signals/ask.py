"""Asking a model: its logits on samples, turned into signals.

The model stays as it is: the mode of every submodule is put back, also after an error, and where
the run's device is another one, a copy of the model is asked there.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

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
    logits, labels = [], []
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        for raw in batches(samples, batch_size):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            logits.append(scorer.logits(asked, batch).float().cpu())
            labels.append(raw["label"])
    return torch.cat(logits), torch.cat(labels)


def on_device(model: nn.Module, run: Run) -> nn.Module:
    """The model, or a copy of it where a tensor of it is on another device than the run's."""
    device = torch.empty(0, device=run.device).device
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.device == device for tensor in tensors):
        return model
    return copy.deepcopy(model).to(device)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, every submodule is in evaluation mode; afterwards each is in the mode it had."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, training in modes.items():
            module.training = training


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
