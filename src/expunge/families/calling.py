"""Calling a module with fields of a batch: one by position, several by keyword."""

from typing import Any

from torch import Tensor, nn

from expunge.data.samples import Batch


def answered(model: nn.Module, batch: Batch, inputs: tuple[str, ...]) -> Any:
    """What the module returns for the fields ``inputs``.

    A single field is the first argument, whatever that is called; several are passed under their
    own names, such as ``input_ids`` and ``attention_mask``.
    """
    if len(inputs) == 1:
        return model(batch[inputs[0]])
    given: dict[str, Tensor] = {name: batch[name] for name in inputs}
    return model(**given)
