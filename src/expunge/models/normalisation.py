"""Normalisation as the first layer of a network: pictures come in as they are, from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from expunge.errors import ExpungeError


class Normalisation(nn.Module):
    """Subtracts a mean and divides by a standard deviation, channel by channel.

    Both are stored buffers, so that a file of the weights says how its pictures were scaled.
    """

    means: Tensor
    deviations: Tensor

    def __init__(self, channels: int, means: Sequence[float], deviations: Sequence[float]) -> None:
        """Keeps the constants.

        Args:
            channels: number of channels C of the pictures.
            means: one for each channel, or one for all.
            deviations: the same, all above 0.

        Raises:
            ExpungeError: another number of values, or a deviation that is not above 0.
        """
        super().__init__()
        for name, given in (("means", means), ("deviations", deviations)):
            if len(given) not in (1, channels):
                raise ExpungeError(
                    f"{len(given)} {name} were given for pictures of {channels} channels; give one "
                    "for each channel, or one for all."
                )
        if min(deviations) <= 0:
            raise ExpungeError(
                f"A deviation of {min(deviations)} was given; numbers above 0 are expected, "
                "since pictures are divided by them."
            )
        for name, given in (("means", means), ("deviations", deviations)):
            values = torch.tensor(list(given), dtype=torch.float32).expand(channels).clone()
            self.register_buffer(name, values.reshape(1, channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (n, C, H, W) of the same shape, normalised."""
        return (images - self.means) / self.deviations
