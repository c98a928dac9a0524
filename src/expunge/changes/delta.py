"""Delta: a task vector, the difference between two sets of weights of one model.

Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi (2023). Editing Models with
Task Arithmetic.

A Delta names the base it belongs to by its digest and is refused on any other. Its entries are
dense or sparse, one per parameter, under canonical storage names (tied weights once). Buffers
(batch-norm statistics and counters, index tables) are values and no displacements: they act only
where the Delta stands alone at strength 1; aggregation folds parameters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.changes.weights import (
    buffers_of,
    digest_of,
    is_finite,
    parameters_of,
    with_weights,
)
from expunge.errors import IntegrityError
from expunge.storage import read_facts, read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class Sparse:
    """The non-zero entries of one tensor: ``indices`` (n,) int64 into the flat tensor, ascending;
    ``values`` (n,) float32; ``shape`` of the dense tensor."""

    indices: Tensor
    values: Tensor
    shape: torch.Size

    def dense(self) -> Tensor:
        """The tensor with its zeros, in ``shape``."""
        flat = torch.zeros(self.shape.numel())
        flat[self.indices] = self.values
        return flat.reshape(self.shape)


Entry = Tensor | Sparse
CHECKED = 1 << 18
"""Indices that are checked at a time, so that the check takes no memory to speak of."""


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


@dataclass(frozen=True, eq=False)
class Delta:
    """A task vector against the base with digest ``base``.

    ``entries`` maps canonical parameter names to dense float32 tensors or :class:`Sparse`.
    ``facts`` are JSON values that travel with it: method, request, the requests whose data were
    excluded from the retain data it was made with.
    """

    base: str
    entries: Mapping[str, Entry]
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    kind: ClassVar[str] = "delta"

    def __post_init__(self) -> None:
        for name, tensor in [*self._values(), *self.buffers.items()]:
            if not is_finite(tensor):
                raise IntegrityError(
                    f"The change has NaN or infinite values in {name!r}; finite numbers are "
                    "expected. Lower the learning rate of the method and run it again."
                )
        for name, entry in self.entries.items():
            if isinstance(entry, Sparse):
                _check_indices(name, entry)

    @classmethod
    def between(cls, after: nn.Module, base: nn.Module, **facts: object) -> Self:
        """The change that leads from ``base`` to ``after``: parameters that moved, and the moved
        buffers as the values they took (float32; other types as they are).

        Raises:
            IntegrityError: the two modules differ in names or shapes, or the change is not finite.
        """
        new, old = _on_cpu(parameters_of(after)), _on_cpu(parameters_of(base))
        taken, before = _on_cpu(buffers_of(after)), _on_cpu(buffers_of(base))
        shapes = {n: t.shape for n, t in {**new, **taken}.items()}
        others = {n: t.shape for n, t in {**old, **before}.items()}
        if shapes != others:
            differing = sorted(n for n in {*shapes, *others} if shapes.get(n) != others.get(n))
            raise IntegrityError(
                f"The two models differ in parameters or shapes at {', '.join(differing[:3])}; "
                "a Delta needs the same architecture. Return a Replacement instead."
            )
        entries = {
            n: new[n].float() - old[n].float() for n in old if not torch.equal(new[n], old[n])
        }
        moved = {
            n: (b.float() if b.is_floating_point() else b).clone()
            for n, b in taken.items()
            if not torch.equal(b, before[n])
        }
        return cls(digest_of(base), entries, moved, facts)

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        for name, entry in self.entries.items():
            yield name, entry.values if isinstance(entry, Sparse) else entry

    def dense(self, name: str) -> Tensor:
        """One entry as a dense float32 tensor."""
        entry = self.entries[name]
        return entry.dense() if isinstance(entry, Sparse) else entry

    def shapes(self) -> dict[str, torch.Size]:
        """The dense shape of every entry."""
        return {name: torch.Size(entry.shape) for name, entry in self.entries.items()}

    def scaled(self, factor: float) -> Self:
        """The same direction, ``factor`` times as long; buffers do not scale and are dropped."""
        entries: dict[str, Entry] = {
            name: replace(entry, values=entry.values * factor)
            if isinstance(entry, Sparse)
            else entry * factor
            for name, entry in self.entries.items()
        }
        return replace(self, entries=entries, buffers={})

    def negated(self) -> Self:
        """The opposite task vector. Negation carries no buffers."""
        return self.scaled(-1.0)

    def sparse(self) -> Self:
        """The same change with its zeros left out where that takes less room."""
        entries: dict[str, Entry] = {}
        for name in self.entries:
            flat = self.dense(name).reshape(-1)
            indices = flat.nonzero().reshape(-1)
            smaller = 3 * len(indices) < len(flat)  # eight bytes of index and four of value
            entries[name] = (
                Sparse(indices, flat[indices], torch.Size(self.dense(name).shape))
                if smaller
                else flat.reshape(self.dense(name).shape)
            )
        return replace(self, entries=entries)

    def norm(self) -> float:
        """Euclidean norm over all parameters."""
        return float(sum(float(v.double().square().sum()) for _, v in self._values()) ** 0.5)

    def count(self) -> int:
        """Number of non-zero entries."""
        return sum(int(v.count_nonzero()) for _, v in self._values())

    def applied_to(self, model: nn.Module, strength: float = 1.0) -> nn.Module:
        """A copy of ``model`` moved by ``strength`` times this change; ``model`` stays as it is.

        Buffers take their new values at strength 1 alone: a mean, a variance or a count is no
        displacement that could be scaled, so at any other strength the model's own stay.

        Raises:
            IntegrityError: ``model`` is not the base of this change, or names or shapes differ.
        """
        found = digest_of(model)
        if found != self.base:
            raise IntegrityError(
                f"The change was made for the base {self.base[:12]}, and this model is "
                f"{found[:12]}; apply it to its own base, or make the change again from this one."
            )
        weights = parameters_of(model)
        moved = {n: self.dense(n) for n in self.entries}
        for n, shift in moved.items():
            if n in weights and weights[n].shape == shift.shape:  # with_weights refuses the others
                old = weights[n].detach().float()
                moved[n] = old + strength * shift.to(old.device)
        return with_weights(model, {**moved, **(self.buffers if strength == 1 else {})})

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        self._write(path, list(self.entries), list(self.buffers), {})

    def save_shards(self, paths: Sequence[Path], dtype: torch.dtype = torch.float32) -> None:
        """Write several files of about the same size; :meth:`load` takes them all together.

        Args:
            paths: one for each shard, in order.
            dtype: what values and float buffers are stored in; they are read back as float32.

        Raises:
            IntegrityError: no path is given, or a value is too large for ``dtype``.
        """
        if not paths:
            raise IntegrityError("No path was given for the shards; give at least one.")
        stored = replace(
            self,
            entries={n: _as(entry, dtype) for n, entry in self.entries.items()},
            buffers={
                n: b.to(dtype) if b.is_floating_point() else b for n, b in self.buffers.items()
            },
        )
        parts: list[tuple[list[str], list[str]]] = [([], []) for _ in paths]
        sizes = [
            (n, e.values.numel() if isinstance(e, Sparse) else e.numel(), 0)
            for n, e in sorted(stored.entries.items())
        ]
        sizes += [(n, b.numel(), 1) for n, b in sorted(stored.buffers.items())]
        total, so_far = max(1, sum(size for _, size, _ in sizes)), 0
        for name, size, kind in sizes:
            parts[min(len(paths) - 1, so_far * len(paths) // total)][kind].append(name)
            so_far += size
        for i, (path, (entries, buffers)) in enumerate(zip(paths, parts, strict=True)):
            stored._write(path, entries, buffers, {"shard": [i, len(paths)]})

    def _write(
        self, path: Path, entries: Sequence[str], buffers: Sequence[str], more: dict[str, object]
    ) -> None:
        tensors: dict[str, Tensor] = {f"buffer:{n}": self.buffers[n] for n in buffers}
        shapes: dict[str, list[int]] = {}
        for name in entries:
            entry = self.entries[name]
            if isinstance(entry, Sparse):
                tensors[f"indices:{name}"], tensors[f"values:{name}"] = entry.indices, entry.values
                shapes[name] = list(entry.shape)
            else:
                tensors[f"dense:{name}"] = entry
        header = {"kind": self.kind, "base": self.base, "shapes": shapes, "facts": dict(self.facts)}
        write_tensors(path, tensors, {**header, **more})

    @classmethod
    def load(cls, path: Path, *shards: Path) -> Self:
        """Read a stored Delta, or all shards of one, in any order.

        Raises:
            IntegrityError: a file is missing, damaged, no Delta, or a shard of another one, or the
                shards are not all there. Shards that were written without their number are not
                counted.
        """
        paths = (path, *shards)
        headers = [_header(each) for each in paths]
        _check_shards(paths, headers)
        entries: dict[str, Entry] = {}
        buffers: dict[str, Tensor] = {}
        for each, header in zip(paths, headers, strict=True):
            _read_into(entries, buffers, each, header)
        first = headers[0]
        return cls(first.base, dict(sorted(entries.items())), buffers, first.facts)


def _check_indices(name: str, entry: Sparse) -> None:
    sound = entry.indices.dim() == 1 and entry.indices.shape == entry.values.shape
    last = -1
    for part in torch.split(entry.indices, CHECKED) if sound and len(entry.indices) else ():
        ascending = bool((part[1:] > part[:-1]).all())
        sound = sound and int(part[0]) > last and ascending
        last = int(part[-1])
    if not sound or last >= entry.shape.numel():
        raise IntegrityError(
            f"The sparse entry {name!r} is damaged: its indices must ascend, lie inside the "
            f"{entry.shape.numel()} coordinates of the tensor, and come one with each value. "
            "Restore the change from its source or make it again."
        )


@dataclass(frozen=True)
class _Header:
    """What the header of one file says; ``shard`` is (number, of how many) where it is one."""

    base: str
    shapes: Mapping[str, Sequence[int]]
    facts: Mapping[str, object]
    shard: tuple[int, int] | None


def _header(path: Path) -> _Header:
    header = read_facts(path)
    if header.get("kind") != Delta.kind:
        raise IntegrityError(f"{path} holds no Delta; give a file written by Delta.save.")
    base, shapes, facts = header.get("base"), header.get("shapes"), header.get("facts")
    for name, found, kind in (
        ("base", base, str),
        ("shapes", shapes, dict),
        ("facts", facts, dict),
    ):
        if not isinstance(found, kind):
            raise IntegrityError(
                f"The header of the Delta {path} has no {name}; give a file written by Delta.save."
            )
    shard = header.get("shard")
    if shard is not None and not (
        isinstance(shard, list) and len(shard) == 2 and all(isinstance(i, int) for i in shard)
    ):
        raise IntegrityError(
            f"The header of {path} names the shard {shard!r}; give a file written by "
            "Delta.save_shards."
        )
    return _Header(
        str(base),
        shapes if isinstance(shapes, dict) else {},
        facts if isinstance(facts, dict) else {},
        None if shard is None else (shard[0], shard[1]),
    )


def _check_shards(paths: Sequence[Path], headers: Sequence[_Header]) -> None:
    first = headers[0]
    for path, header in zip(paths, headers, strict=True):
        if header.base != first.base:
            raise IntegrityError(
                f"{path} belongs to the base {header.base[:12]} and {paths[0]} to "
                f"{first.base[:12]}; shards of one Delta are expected."
            )
        if (header.shard is None) != (first.shard is None) or header.facts != first.facts:
            raise IntegrityError(
                f"{path} and {paths[0]} are not shards of one Delta; give those that "
                "Delta.save_shards wrote together."
            )
    numbers = [header.shard for header in headers if header.shard is not None]
    if not numbers:
        return
    count = numbers[0][1]
    if sorted(numbers) != [(i, count) for i in range(count)]:
        given = ", ".join(f"{i + 1} of {n}" for i, n in numbers)
        raise IntegrityError(
            f"{paths[0]} is a shard of a Delta in {count} files, and shard {given} was given; give "
            "every shard once."
        )


def _read_into(
    entries: dict[str, Entry], buffers: dict[str, Tensor], path: Path, header: _Header
) -> None:
    tensors = read_tensors(path)
    for key, tensor in tensors.items():
        part, _, name = key.partition(":")
        if name in entries or name in buffers:
            raise IntegrityError(
                f"{name!r} stands twice in the files of this Delta, the second time in {path}; "
                "give the files of one Delta, each once."
            )
        if part == "dense":
            entries[name] = tensor.float()
        elif part == "buffer":
            buffers[name] = tensor.float() if tensor.is_floating_point() else tensor
        elif part == "values":
            if name not in header.shapes or f"indices:{name}" not in tensors:
                raise IntegrityError(
                    f"{path} holds values of {name!r} without their places or shape; restore the "
                    "file from its source."
                )
            shape = torch.Size(header.shapes[name])
            entries[name] = Sparse(tensors[f"indices:{name}"].long(), tensor.float(), shape)


def _as(entry: Entry, dtype: torch.dtype) -> Entry:
    if isinstance(entry, Sparse):
        return replace(entry, values=entry.values.to(dtype))
    return entry.to(dtype)
