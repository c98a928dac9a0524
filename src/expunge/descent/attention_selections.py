"""Which parameters move: the layers by which a U-Net attends to a text, or all others of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.problem import Problem
from expunge.run import Run

ATTENDING = "attn2"
"""The module of a transformer block of ``diffusers`` that attends to the text."""


@dataclass(frozen=True)
class CrossAttention:
    """Layers that attend to the text.

    Args:
        parts: of each, such as ``to_k`` and ``to_v``, which alone read the text; all by default.
    """

    parts: tuple[str, ...] = ()

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All entries of their weights and biases.

        Raises:
            ExpungeError: the model has no U-Net that attends to a text.
        """
        return {
            f"{name}.{own}": None
            for name, layer in attending(module, self.parts).items()
            for own, _ in layer.named_parameters(recurse=False)
        }


@dataclass(frozen=True)
class BesideCrossAttention:
    """All convolutions and linear layers of the U-Net that do not attend to the text."""

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All entries of their weights and biases."""
        return {
            f"{name}.{own}": None
            for name, layer in _layers(module)
            if ATTENDING not in name.split(".")
            for own, _ in layer.named_parameters(recurse=False)
        }


def attending(module: nn.Module, parts: tuple[str, ...] = ()) -> dict[str, nn.Module]:
    """The layers that attend to the text, by canonical name.

    Raises:
        ExpungeError: there are none.
    """
    found = {
        name: layer
        for name, layer in _layers(module)
        if ATTENDING in (path := name.split(".")) and (not parts or set(parts) & set(path))
    }
    if not found:
        raise ExpungeError(
            "The U-Net of this model has no layer that attends to a text; a model of "
            "`UNet2DConditionModel` with cross-attention is expected."
        )
    return found


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions and linear layers of the child ``unet``.

    Raises:
        ExpungeError: there is no such child.
    """
    unet = dict(module.named_children()).get("unet")
    if unet is None:
        raise ExpungeError(
            f"{type(module).__name__} has no part `unet`; a text-to-image model with the parts "
            "unet and text_encoder is expected."
        )
    for name, layer in unet.named_modules(prefix="unet"):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield name, layer
