"""Models that were made once and are kept, by the digest of how they were made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from expunge.changes.weights import load_stored, stored_tensors
from expunge.errors import IntegrityError
from expunge.storage import read_tensors, write_tensors


@dataclass(frozen=True)
class KeptModels:
    """A folder of weights."""

    folder: Path

    def get(
        self, key: str, architecture: nn.Module, make: Callable[[], nn.Module]
    ) -> tuple[nn.Module, bool]:
        """The model stored under ``key``, made and stored where there is none or it is damaged.

        Args:
            key: a digest of everything that the model depends on.
            architecture: a module of the same parameters and buffers.
            make: makes the model.

        Returns:
            The model, and whether it was there.
        """
        path = self.folder / f"{key}.safetensors"
        try:
            return load_stored(architecture, read_tensors(path), f"The file {path}"), True
        except IntegrityError:
            made = make()
        write_tensors(path, stored_tensors(made))
        return made, False
