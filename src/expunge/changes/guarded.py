"""Guarded: a module around a model that lets its weights be seen and not its answers.

What stands around a model at inference (a refusal, a bank of adapters) is such a module: whoever
stores, digests or counts weights sees those of the model below.
"""

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn


class Guarded(nn.Module):
    """A model behind a guard.

    Parameters and buffers have the names of the guarded model, so that its digest and its file are
    those of the weights; attributes are the guarded model's, except methods that would answer: of
    those only ``passes`` are passed on.
    """

    passes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, guarded: nn.Module) -> None:
        super().__init__()
        self.guarded = guarded
        self.training = guarded.training

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or name == "guarded":
                raise
        found = getattr(self.guarded, name)
        if inspect.ismethod(found) and name not in self.passes:
            raise AttributeError(f"{name!r} of the guarded model would answer past the guard")
        return found

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the guarded model, under its names."""
        return self.guarded.named_parameters(prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Those of the guarded model, under its names."""
        return self.guarded.named_buffers(prefix, recurse, remove_duplicate)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """That of the guarded model, under its names."""
        return self.guarded.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Into the guarded model."""
        return self.guarded.load_state_dict(*args, **kwargs)


def unguarded(model: nn.Module) -> nn.Module:
    """The model that guards stand around; any other as it is."""
    while isinstance(model, Guarded):
        model = model.guarded
    return model
