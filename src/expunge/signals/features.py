"""Features: what the last linear layer of a classifier is given, its embedding of a row."""

from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.families.abilities import Family, HasLogits, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device


def features_of(family: Family, model: nn.Module, rows: Samples, run: Run) -> Tensor | None:
    """What the linear layer that is called last is given, in evaluation mode, without gradients.

    Returns:
        (n, d) float32 on the CPU, other dimensions than the first flattened; None where the model
        calls no linear layer.
    """
    last: list[Tensor] = []

    def look(_: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].dim() > 1:
            last[:] = [given[0].detach()]

    scorer = able(family, HasLogits)
    asked = on_device(model, run)
    linear = [part for part in asked.modules() if isinstance(part, nn.Linear)]
    hooks = [part.register_forward_pre_hook(look) for part in linear]
    found = []
    try:
        with evaluating(asked) as still, torch.no_grad():
            for raw in batches(rows, 256):
                last.clear()
                scorer.logits(still, {name: tensor.to(run.device) for name, tensor in raw.items()})
                if not last:
                    return None
                found.append(last[0].flatten(1).float().cpu())
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(found)
