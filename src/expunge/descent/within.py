"""Parameters within a mask: of what a player moves, only the entries that a pruned model has."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from expunge.descent.player import Parameters, Trainable
from expunge.problem import Problem
from expunge.run import Run
from expunge.storage import digest


@dataclass(frozen=True)
class Within:
    """The entries that ``parameters`` selects and that the masks keep.

    Args:
        masks: truth values of the shape of the parameter, by canonical name; True may move. A
            parameter without a mask is not restricted, nor is what a method put behind the end of
            one while it works (boundary expanding adds a class to the head).
        parameters: what is selected without the masks.

    The digest stands for the masks where a descent is compared with its checkpoint.
    """

    masks: Mapping[str, Tensor] = field(repr=False)
    parameters: Parameters = field(default_factory=Trainable)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest(self.masks))

    def select(self, module: nn.Module, problem: Problem, run: Run) -> Mapping[str, Tensor | None]:
        """The selection, cut to the masks."""
        found = dict(self.parameters.select(module, problem, run))
        for name in found.keys() & self.masks.keys():
            kept = _grown(self.masks[name], module.get_parameter(name).shape)
            selected = found[name]
            found[name] = kept if selected is None else selected & kept.to(selected.device)
        return found


def _grown(mask: Tensor, shape: torch.Size) -> Tensor:
    """The mask in a larger shape; what is new may move."""
    if mask.shape == shape:
        return mask
    whole = torch.ones(shape, dtype=torch.bool)
    whole[tuple(slice(size) for size in mask.shape)] = mask
    return whole
