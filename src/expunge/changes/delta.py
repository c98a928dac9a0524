"""Delta: a task vector, the difference between two sets of weights of one model.

Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi (2023). Editing Models with
Task Arithmetic.

A Delta names the base it belongs to by its digest and is refused on any other. Its entries are
dense or sparse, one per parameter, under canonical storage names (tied weights once). Buffers
(batch-norm statistics) act only where the Delta stands alone; aggregation folds parameters.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

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

    def __post_init__(self) -> None:
        for name, tensor in [*self._values(), *self.buffers.items()]:
            if not is_finite(tensor):
                raise IntegrityError(
                    f"The change has NaN or infinite values in {name!r}; finite numbers are "
                    "expected. Lower the learning rate of the method and run it again."
                )

    @classmethod
    def between(cls, after: nn.Module, base: nn.Module, **facts: object) -> Self:
        """The change that leads from ``base`` to ``after``: parameters that moved, and the moved
        float buffers as the values they took.

        Raises:
            IntegrityError: the two modules differ in names or shapes, or the change is not finite.
        """
        new, old = _on_cpu(parameters_of(after)), _on_cpu(parameters_of(base))
        if {n: t.shape for n, t in new.items()} != {n: t.shape for n, t in old.items()}:
            differing = sorted(
                n
                for n in {*new, *old}
                if n not in new or n not in old or new[n].shape != old[n].shape
            )
            raise IntegrityError(
                f"The two models differ in parameters or shapes at {', '.join(differing[:3])}; "
                "a Delta needs the same architecture. Return a Replacement instead."
            )
        entries = {
            n: new[n].float() - old[n].float() for n in old if not torch.equal(new[n], old[n])
        }
        before = _on_cpu(buffers_of(base))
        moved = {
            n: b.float().clone()
            for n, b in _on_cpu(buffers_of(after)).items()
            if n not in before or not torch.equal(b, before[n])
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
        return with_weights(model, {**moved, **self.buffers})

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors: dict[str, Tensor] = {f"buffer:{n}": b for n, b in self.buffers.items()}
        shapes: dict[str, list[int]] = {}
        for name, entry in self.entries.items():
            if isinstance(entry, Sparse):
                tensors[f"indices:{name}"], tensors[f"values:{name}"] = entry.indices, entry.values
                shapes[name] = list(entry.shape)
            else:
                tensors[f"dense:{name}"] = entry
        header = {"kind": "delta", "base": self.base, "shapes": shapes, "facts": dict(self.facts)}
        write_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored Delta.

        Raises:
            IntegrityError: the file is missing, damaged, or no Delta.
        """
        header, tensors = read_facts(path), read_tensors(path)
        if header.get("kind") != "delta":
            raise IntegrityError(f"{path} holds no Delta; give a file written by Delta.save.")
        shapes, facts = header["shapes"], header["facts"]
        assert isinstance(shapes, dict)
        assert isinstance(facts, dict)
        entries: dict[str, Entry] = {}
        buffers: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            part, name = key.split(":", 1)
            if part == "dense":
                entries[name] = tensor.float()
            elif part == "buffer":
                buffers[name] = tensor.float()
            elif part == "values":
                shape = torch.Size(shapes[name])
                entries[name] = Sparse(tensors[f"indices:{name}"].long(), tensor.float(), shape)
        return cls(str(header["base"]), dict(sorted(entries.items())), buffers, facts)
