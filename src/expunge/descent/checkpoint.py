"""What a checkpoint holds beside weights: the state of a torch optimiser as plain tensors, for
safetensors, and the digest of the samples that a descent reads."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from expunge.data.samples import ROW, Samples
from expunge.problem import Fields

READ_AT_ONCE = 256
"""Rows that are read at a time for their digest."""


def digest_of_samples(samples: Samples, fields: Fields) -> str:
    """SHA-256 over the ids and the content of the fields (all where None), read batch by batch."""
    sha = hashlib.sha256(repr(list(samples.ids)).encode())
    for start in range(0, len(samples), READ_AT_ONCE):
        rows = torch.arange(start, min(start + READ_AT_ONCE, len(samples)))
        batch = samples.batch(rows, fields)
        for name in sorted(set(batch) - {ROW}):
            tensor = batch[name].detach().cpu().contiguous()
            sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor of the state, under ``parameter index/name``."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}/{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    whole = optimiser.state_dict()
    optimiser.load_state_dict({**whole, "state": state})
