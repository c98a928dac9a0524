"""Checkpoints of ``torch.save``, from pinned packages only, read without unpickling objects."""

from pathlib import Path

import torch

from expunge.errors import IntegrityError


def checkpoint(path: Path, key: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name.

    Args:
        path: the file; its package was compared with a pinned hash before.
        key: where the checkpoint is a dictionary of several, the one that holds the tensors.

    Raises:
        IntegrityError: the file is missing, damaged, or holds anything but tensors.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what pickle raises, of many kinds
        raise IntegrityError(
            f"{path.name} is no checkpoint of tensors ({type(error).__name__}); fetch its package "
            "again."
        ) from None
    found = stored.get(key) if key is not None and isinstance(stored, dict) else stored
    tensors = dict(found) if isinstance(found, dict) else {}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise IntegrityError(
            f"{path.name} holds no named tensors{f' under {key!r}' if key else ''}; fetch its "
            "package again."
        )
    return tensors
