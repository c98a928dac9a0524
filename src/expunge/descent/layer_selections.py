"""Which parameters move: the feed-forward parts of some layers of a decoder."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.families.decoder import DecoderLayer, decoder_layers, written_with
from expunge.problem import Problem
from expunge.run import Run


@dataclass(frozen=True)
class Mlps:
    """All parameters of the feed-forward parts of the layers at these positions, from 0."""

    layers: tuple[int, ...]

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All their entries.

        Raises:
            ExpungeError: no layer is named, or one that the model does not have.
        """
        parts = [layer.mlp for layer in chosen(self.layers, module, problem)]
        names = [name for name, p in module.named_parameters() if p.requires_grad]
        return {n: None for n in names if any(n.startswith(f"{part}.") for part in parts)}


@dataclass(frozen=True)
class MlpOutputs:
    """The matrices by which the feed-forward parts of these layers write (``down_proj``)."""

    layers: tuple[int, ...]

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """All their entries.

        Raises:
            ExpungeError: no layer is named, one that the model does not have, or one that writes
                otherwise.
        """
        found = [written_with(module, layer) for layer in chosen(self.layers, module, problem)]
        return dict.fromkeys(found)


def chosen(layers: tuple[int, ...], module: nn.Module, problem: Problem) -> list[DecoderLayer]:
    """The layers at some positions.

    Raises:
        ExpungeError: there is none, or one is not there.
    """
    there = decoder_layers(problem.family, module)
    if not layers or not all(0 <= layer < len(there) for layer in layers):
        raise ExpungeError(
            f"The layers {', '.join(map(str, layers)) or '(none)'} were asked for, and this model "
            f"has {len(there)}; give numbers from 0 to {len(there) - 1}."
        )
    return [there[layer] for layer in layers]
