"""Published weights of the catalogue, put into the network that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn

from expunge.errors import IntegrityError

FILE = "model.safetensors"
"""Name of the file in the folder of every catalogue entry of one network."""

Network = TypeVar("Network", bound=nn.Module)


def filled(network: Network, tensors: Mapping[str, torch.Tensor], entry: str) -> Network:
    """The network with these weights, in evaluation mode.

    Args:
        network: is changed.
        tensors: by the names of the network's own.
        entry: the catalogue entry that they come from.

    Raises:
        IntegrityError: their names or shapes are those of another network.
    """
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    given = {name: tensor.shape for name, tensor in tensors.items()}
    if given != shapes:
        names = sorted(given.keys() ^ shapes.keys()) or [n for n in shapes if given[n] != shapes[n]]
        raise IntegrityError(
            f"{len(given)} tensors were given that are not the {len(shapes)} of "
            f"{type(network).__name__}: {names[0]} differs; run `expunge data fetch {entry}` again."
        )
    network.load_state_dict(tensors)
    return network.eval()
