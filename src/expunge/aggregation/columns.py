"""Columns: the state of the streaming rules, some numbers per coordinate of the base.

Each rule names its columns: float32 sums, int16 counts of non-zero entries. Their size does not
depend on the number of requests, and neither does the time of ``added``.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

from expunge.aggregation.kernels import Absorb, Emit, Layout
from expunge.changes.delta import Delta, Entry
from expunge.changes.slices import QUARTER, SLICE, admitted, is_direct, pieces_of
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import Bundle

KIND = "aggregation state"
LARGEST_COUNT = torch.iinfo(torch.int16).max

Task = Callable[[], None]


@dataclass(frozen=True)
class Columns:
    """Per-coordinate statistics of the requests folded so far.

    ``values[name][column]`` has the shape of the parameter ``name``; ``requests`` counts the
    requests; ``rule`` is the name of the aggregation and ``base`` the digest of the base.
    """

    rule: str
    base: str
    requests: int
    values: Mapping[str, Mapping[str, Tensor]]

    @classmethod
    def zeros(cls, rule: str, layout: Layout, shapes: Mapping[str, torch.Size], base: str) -> Self:
        """The state before any request."""
        values = {
            name: {column: torch.zeros(shape, dtype=dtype) for column, dtype in layout.items()}
            for name, shape in sorted(shapes.items())
        }
        return cls(rule, base, 0, values)

    def shapes(self) -> dict[str, torch.Size]:
        """The shape of every parameter."""
        return {name: next(iter(held.values())).shape for name, held in self.values.items()}

    @torch.no_grad()
    def added(self, delta: Delta, strength: float, absorb: Absorb) -> Self:
        """Fold one request into the columns, in place and slice by slice.

        Beyond the state and the delta this takes two slices of memory at most.

        Raises:
            IntegrityError, ExpungeError: see :class:`~expunge.aggregation.protocol.Aggregation`.
        """
        factor = admitted(delta, strength, self.base, self.shapes())
        counted = any(
            c.dtype == torch.int16 for held in self.values.values() for c in held.values()
        )
        if counted and self.requests >= LARGEST_COUNT:
            raise ExpungeError(
                f"This state has folded {self.requests} requests, and its 16-bit counts end at "
                f"{LARGEST_COUNT}; publish the combined change as a new base and start a new "
                "history from it."
            )
        compiled = absorb.is_compiled()
        workers = torch.get_num_threads() if compiled else 1

        def tasks() -> Iterator[Task]:
            for name, entry in sorted(delta.entries.items()):
                columns = [held.view(-1) for held in self.values[name].values()]
                for piece in pieces_of(entry, _size(entry, compiled, workers)):
                    yield partial(absorb, piece, factor, columns)

        _run(tasks(), workers, sum(shape.numel() for shape in delta.shapes().values()))
        return replace(self, requests=self.requests + 1)

    def combined(self, emit: Emit) -> Delta:
        """The change that the columns stand for.

        Raises:
            IntegrityError: a sum has left the range of float32.
        """
        entries: dict[str, Entry] = {}
        entries.update(self.written({n: torch.empty(s) for n, s in self.shapes().items()}, emit))
        return Delta(
            self.base, entries, facts={"aggregation": self.rule, "requests": self.requests}
        )

    @torch.no_grad()
    def written(self, out: dict[str, Tensor], emit: Emit) -> dict[str, Tensor]:
        """Write the change that the columns stand for into contiguous float32 tensors, slice by
        slice and unchecked, and return them."""
        compiled = emit.is_compiled()
        workers = torch.get_num_threads() if compiled else 1

        def tasks() -> Iterator[Task]:
            for name, tensor in out.items():
                columns = [held.view(-1) for held in self.values[name].values()]
                for piece in pieces_of(tensor, SLICE if compiled else QUARTER):
                    yield partial(emit, piece, columns)

        _run(tasks(), workers, sum(tensor.numel() for tensor in out.values()))
        return out

    def bundle(self) -> Bundle:
        """The state as named tensors and JSON values; the tensors are shared, not copied."""
        tensors = {
            f"{column}:{name}": tensor
            for name, held in self.values.items()
            for column, tensor in held.items()
        }
        facts = {
            "kind": KIND,
            "rule": self.rule,
            "base": self.base,
            "requests": self.requests,
            "parameters": sorted(self.values),
        }
        return Bundle(tensors, facts)

    @classmethod
    def restored(cls, rule: str, layout: Layout, bundle: Bundle) -> Self:
        """The state of ``rule`` that :meth:`bundle` described; it owns its tensors.

        Raises:
            IntegrityError: the bundle holds something else, or a column is missing or of another
                type or shape.
        """
        requests, parameters = checked_facts(rule, bundle)
        values: dict[str, dict[str, Tensor]] = {}
        for name in parameters:
            held: dict[str, Tensor] = {}
            for column, dtype in layout.items():
                tensor = bundle.tensors.get(f"{column}:{name}")
                shape = next(iter(held.values())).shape if held else None
                if tensor is None or tensor.dtype != dtype or shape not in (None, tensor.shape):
                    raise IntegrityError(
                        f"The stored state of {rule} has no sound column {column!r} for {name!r}; "
                        "restore the file, or fold the stored requests again."
                    )
                held[column] = tensor.clone(memory_format=torch.contiguous_format)
            values[name] = held
        return cls(rule, str(bundle.facts["base"]), requests, values)


def checked_facts(rule: str, bundle: Bundle) -> tuple[int, list[str]]:
    """The number of requests and the parameter names of a stored state of ``rule``.

    Raises:
        IntegrityError: the bundle holds no state, or that of another rule.
    """
    facts = bundle.facts
    if facts.get("kind") != KIND or facts.get("rule") != rule:
        given = f"a state of {facts.get('rule')}" if facts.get("kind") == KIND else "no state"
        raise IntegrityError(
            f"The stored bundle holds {given}, and a state of {rule} is expected; open it with its "
            "own rule, or fold the stored requests again."
        )
    requests, parameters = facts["requests"], facts["parameters"]
    assert isinstance(requests, int)
    assert isinstance(parameters, list)
    return requests, parameters


def _size(entry: Entry, compiled: bool, workers: int) -> int:
    """Coordinates per piece: whole slices where nothing is copied, else a share per worker."""
    return SLICE if compiled and is_direct(entry) else max(QUARTER // workers, 1)


def _run(tasks: Iterator[Task], workers: int, coordinates: int) -> None:
    """Run the tasks, on threads where there is enough work. The pieces are disjoint and the
    compiled loops release the interpreter lock, so that the result does not depend on it."""
    if workers == 1 or coordinates <= SLICE:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(workers) as threads:
        for _ in threads.map(_call, tasks):
            pass


def _call(task: Task) -> None:
    task()
