"""What every denoiser can do, from the noise that it predicts in a drawn batch.

Ho, Jain, Abbeel (2020). Denoising Diffusion Probabilistic Models (Equation 14): the loss is the
squared error of the predicted noise. Pictures are from 0 to 1 in a batch; denoisers work on them
from -1 to 1.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from expunge.changes.weights import buffers_of
from expunge.data.samples import Batch
from expunge.errors import ExpungeError
from expunge.families.abilities import Anatomy, UnitLosses
from expunge.families.blocks import blocks_of

TIME, NOISE = "time", "noise"
"""Fields that drawing adds to a batch."""


class FromNoise(ABC):
    """Losses, noises and anatomy from the predicted noise."""

    @abstractmethod
    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The predicted noise (B, C, H, W) of a drawn batch."""

    def noises(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The predicted and the drawn noise (B, C, H, W)."""
        return self.outputs(model, batch), batch[NOISE]

    def losses(self, model: nn.Module, batch: Batch) -> UnitLosses:
        """Squared error of the predicted noise; a unit is a pixel of a channel."""
        errors = (self.outputs(model, batch).float() - batch[NOISE]).square().flatten(1)
        return UnitLosses(errors, torch.ones_like(errors, dtype=torch.bool))

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Blocks as :func:`blocks_of` finds them; the head is the last of them."""
        blocks = blocks_of(model)
        return Anatomy(blocks, blocks[next(reversed(blocks))], buffers=tuple(buffers_of(model)))


def predicted(answer: object, noised: Tensor) -> Tensor:
    """The noise that a network answered for ``noised`` (B, C, H, W).

    Args:
        answer: a tensor, or an object of ``diffusers`` with one as ``sample``.
        noised: what it was asked about.

    Raises:
        ExpungeError: it has another shape.
    """
    found = getattr(answer, "sample", answer)
    if not isinstance(found, Tensor) or found.shape != noised.shape:
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ExpungeError(
            f"The network answered pictures of shape {tuple(noised.shape)} with {given}; the noise "
            "in them is expected, of the same shape. Check its channels and its picture size."
        )
    return found


def pictures(batch: Batch) -> Tensor:
    """The pictures (B, C, H, W) of a batch.

    Raises:
        ExpungeError: there are none, or they have another shape.
    """
    images = batch.get("image")
    if images is None or images.dim() != 4:
        given = "none" if images is None else f"one of shape {tuple(images.shape)}"
        raise ExpungeError(
            f"A denoiser reads the field `image` of shape (rows, channels, height, width) and "
            f"was given {given}; map a picture column to it."
        )
    return images


def centred(images: Tensor) -> Tensor:
    """From [0, 1] to [-1, 1]."""
    return 2 * images - 1


def wide(values: Tensor, like: Tensor) -> Tensor:
    """Values (B,) as a column that multiplies (B, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))
