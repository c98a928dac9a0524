"""Tensors on disk and their digests: safetensors files, written whole or not at all.

A digest is the SHA-256 over canonical names, shapes and the float32 bytes of every tensor, so that
the same weights have the same digest whatever precision they are stored in after composition.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from expunge.errors import IntegrityError

HEADER, DIGEST = "expunge", "digest"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hexadecimal) of the composed tensors, in the order of their names.

    Floating-point tensors enter as float32, integers and truth values as int64.
    """
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        canonical = tensor.to("cpu", torch.float32 if tensor.is_floating_point() else torch.int64)
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(canonical.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object] | None = None
) -> None:
    """Write one safetensors file; ``facts`` (JSON values) travel in its header."""
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    header = {HEADER: json.dumps(facts or {}, sort_keys=True), DIGEST: digest(whole)}
    write_bytes(path, _in_order(save(whole, metadata=header)))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its header in the order of names: the library shuffles the metadata,
    and the same tensors would give another file each time."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    told = header.encode()
    told += b" " * (-len(told) % 8)  # the tensors begin at a multiple of eight
    return len(told).to_bytes(8, "little") + told + content[8 + length :]


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        IntegrityError: the file is missing, not readable, truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            return handle.metadata() or {}
    except FileNotFoundError:
        raise IntegrityError(f"There is no file {path}; give the path of a stored file.") from None
    except OSError as error:  # a folder, or a file that this user may not read
        reason = "it is a folder" if path.is_dir() else str(error)
        raise IntegrityError(
            f"{path} cannot be read ({reason}); give the path of a stored file."
        ) from None
    except (SafetensorError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{path} is not a readable safetensors file ({error}); restore it from its source."
        ) from None


def read_facts(path: Path) -> dict[str, object]:
    """The facts in the header of a file written by :func:`write_tensors`.

    Raises:
        IntegrityError: the file cannot be read, or its facts are no JSON object.
    """
    try:
        facts = json.loads(read_header(path).get(HEADER, "{}"))
    except json.JSONDecodeError:
        facts = None
    if not isinstance(facts, dict):
        raise IntegrityError(
            f"The header of {path} is damaged: its facts are no JSON object; restore the file "
            "from its source."
        )
    return facts


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file; checked against the digest in its header, if it has one.

    Raises:
        IntegrityError: the file is missing, truncated, changed, or no safetensors file.
    """
    expected = read_header(path).get(DIGEST)
    with safe_open(path, framework="pt") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    if expected is not None and digest(tensors) != expected:
        raise IntegrityError(changed(path))
    return tensors


def changed(path: Path) -> str:
    """What is said of a file whose tensors do not have the digest in its header."""
    return (
        f"The tensors of {path} are not those that were written (their digest differs); restore "
        "the file from its source."
    )


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of one safetensors file, read when they are asked for."""

    def __init__(self, path: Path) -> None:
        read_header(path)
        self.path = path
        with safe_open(path, framework="pt") as handle:
            self._names = tuple(handle.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with safe_open(self.path, framework="pt") as handle:
            tensor: Tensor = handle.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Bundle:
    """Named tensors and plain JSON values that are stored together in one file."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the bundle as one safetensors file."""
        write_tensors(path, self.tensors, self.facts)

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Open a stored bundle; its tensors are read one by one when asked for."""
        return cls(StoredTensors(path), read_facts(path))

    @classmethod
    def load_checked(cls, path: Path) -> "Bundle":
        """Open a stored bundle after reading it once through, tensor by tensor, for its digest.

        Raises:
            IntegrityError: the file is damaged, or its tensors are not those that were written.
        """
        bundle = cls.load(path)
        expected = read_header(path).get(DIGEST)
        if expected is not None and digest(bundle.tensors) != expected:
            raise IntegrityError(changed(path))
        return bundle
