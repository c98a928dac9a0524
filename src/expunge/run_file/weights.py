"""Weights on disk: into the module that a builder made, each known to be a number."""

from pathlib import Path

from torch import Tensor, nn

from expunge.changes.weights import is_finite, load_stored
from expunge.errors import IntegrityError
from expunge.storage import read_tensors


def with_stored_weights(model: nn.Module, path: Path) -> nn.Module:
    """The module with the weights of a safetensors file.

    Raises:
        IntegrityError: the file is damaged, its tensors are not those of the module, or a weight
            is NaN or infinite.
    """
    tensors = read_tensors(path)
    for name, tensor in tensors.items():
        check_weight(f"The weights {path}", name, tensor)
    return load_stored(model, tensors, f"The file {path}")


def check_weight(what: str, name: str, tensor: Tensor) -> None:
    """Refuse a weight that is no number.

    Raises:
        IntegrityError: it is NaN or infinite.
    """
    if not is_finite(tensor):
        raise IntegrityError(
            f"{what} have NaN or infinite values in {name!r}; the model was stored after it had "
            "diverged. Give other weights."
        )
