"""Asking a model for its outputs: what a distiller matches, without any label."""

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasOutputs, able
from expunge.models.modes import evaluating
from expunge.run import Run, on_device


def outputs_of(
    family: Family, model: nn.Module, samples: Samples, run: Run, batch_size: int = 256
) -> Tensor:
    """Outputs (n, ...) of all samples, in evaluation mode, without gradients, on the CPU.

    They are float32, or float64 where the model computes in it.

    Raises:
        ExpungeError: the family has no outputs, there is no row, or an output is not finite.
    """
    scorer = able(family, HasOutputs)
    if len(samples) == 0:
        raise ExpungeError("Outputs were asked of no rows; at least one row is expected.")
    draws, found = run.generator("outputs/draw"), []
    with evaluating(on_device(model, run)) as asked, torch.no_grad(), run.autocast():
        for raw in batches(samples, batch_size):
            drawn = family.draw(raw, draws)
            batch = {name: tensor.to(run.device) for name, tensor in drawn.items()}
            answer = scorer.outputs(asked, batch).cpu()
            found.append(answer if answer.dtype == torch.float64 else answer.float())
    outputs = torch.cat(found)
    if not bool(torch.isfinite(outputs).all()):
        raise ExpungeError(
            "An output of the model is NaN or infinite; finite outputs are expected. The model has "
            "probably diverged, or its inputs are not scaled."
        )
    return outputs
