"""Max-min: the update that forgets the request forgotten least as well as one direction can.

Desideri (2012). Multiple-gradient descent algorithm (MGDA) for multiobjective optimization. Liu,
Liu, Jin, Stone, Liu (2021). Conflict-Averse Gradient Descent for Multi-task Learning.

With u_j = tau_j / |tau_j|, the point x of smallest norm in the convex hull of the u_j has
<x, u_j> >= |x|^2 for every j, and no vector of the length of x has a larger smallest inner
product: it maximises min_j phi_j / |tau_j|. OUR READING of "rescaled": the combined change is x
times the SUM of the norms |tau_j|. It is the request itself for T = 1, is positively homogeneous,
is the plain sum for orthogonal requests of one norm (no dilution by 1 / T), and goes to zero
continuously as zero enters the hull, where no update forgets all requests at once.

The state grows with the requests: their vectors (sparse where that takes less room) and the matrix
of their inner products. Requests of norm zero take no part.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from expunge.aggregation.columns import KIND, checked_facts
from expunge.aggregation.min_norm import min_norm_weights
from expunge.aggregation.protocol import Properties
from expunge.changes.delta import Delta, Entry, Sparse
from expunge.changes.slices import QUARTER, admitted, pieces_of
from expunge.errors import IntegrityError
from expunge.storage import Bundle

ZERO_IN_HULL = 1e-12
"""Squared norm of the nearest point below which it is zero in float32."""


@dataclass(frozen=True)
class Vectors:
    """The requests as they entered the fold, and their inner products.

    ``entries[j]`` maps parameter names to the values of request j times its strength; ``gram``
    (T, T) is float64; ``shapes`` has every parameter of the base that a request may change.
    """

    base: str
    shapes: Mapping[str, torch.Size]
    entries: tuple[Mapping[str, Entry], ...]
    gram: Tensor

    def bundle(self) -> Bundle:
        """The state as named tensors and JSON values; the tensors are shared, not copied."""
        tensors: dict[str, Tensor] = {"gram": self.gram}
        for number, entries in enumerate(self.entries):
            for name, entry in entries.items():
                if isinstance(entry, Sparse):
                    tensors[f"{number}:indices:{name}"] = entry.indices
                    tensors[f"{number}:values:{name}"] = entry.values
                else:
                    tensors[f"{number}:dense:{name}"] = entry
        facts = {
            "kind": KIND,
            "rule": MaxMin.name,
            "base": self.base,
            "requests": len(self.entries),
            "parameters": sorted(self.shapes),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
        }
        return Bundle(tensors, facts)


@dataclass(frozen=True)
class MaxMin:
    """The egalitarian rule: protects the worst request, though not coordinate by coordinate."""

    name: ClassVar[str] = "max-min"
    properties: ClassVar[Properties] = Properties(
        streaming=False,
        flat_cost=False,
        order_independent=True,
        persistence="The smallest phi_j / |tau_j| is the largest that an update of its length has.",
    )

    def empty(self, shapes: Mapping[str, torch.Size], base: str) -> Vectors:
        """The state before any request."""
        return Vectors(base, dict(shapes), (), torch.zeros(0, 0, dtype=torch.float64))

    @torch.no_grad()
    def add(self, state: Vectors, delta: Delta, strength: float = 1.0) -> Vectors:
        """Keep the vector of one request and its inner products with those before it."""
        factor = admitted(delta, strength, state.base, state.shapes)
        entered = {name: _kept(entry, factor) for name, entry in sorted(delta.entries.items())}
        row = torch.tensor(
            [_inner(entered, other) for other in (*state.entries, entered)], dtype=torch.float64
        )
        gram = torch.zeros(len(row), len(row), dtype=torch.float64)
        gram[:-1, :-1], gram[-1], gram[:, -1] = state.gram, row, row
        return Vectors(state.base, state.shapes, (*state.entries, entered), gram)

    @torch.no_grad()
    def combine(self, state: Vectors) -> Delta:
        """The nearest point of the hull of the unit vectors, times the sum of the norms."""
        out: dict[str, Tensor] = {name: torch.zeros(shape) for name, shape in state.shapes.items()}
        for factor, entries in zip(_factors(state.gram), state.entries, strict=True):
            for name, entry in entries.items() if factor else ():
                flat = out[name].view(-1)
                for piece in pieces_of(entry, QUARTER):
                    flat[piece.where()] += factor * piece.values()
        facts = {"aggregation": self.name, "requests": len(state.entries)}
        return Delta(state.base, {**out}, facts=facts)

    def restore(self, bundle: Bundle) -> Vectors:
        """The state that a bundle describes."""
        requests, names = checked_facts(self.name, bundle)
        listed = bundle.facts["shapes"]
        assert isinstance(listed, dict)
        shapes = {name: torch.Size(listed[name]) for name in names}
        entries: list[dict[str, Entry]] = [{} for _ in range(requests)]
        for key in bundle.tensors:
            number, _, rest = key.partition(":")
            part, _, name = rest.partition(":")
            if part == "dense":
                entries[int(number)][name] = bundle.tensors[key].clone()
            elif part == "values":
                indices = bundle.tensors[f"{number}:indices:{name}"].clone()
                values = bundle.tensors[key].clone()
                entries[int(number)][name] = Sparse(indices, values, shapes[name])
        gram = bundle.tensors["gram"].clone()
        if gram.shape != (requests, requests):
            raise IntegrityError(
                f"The stored state of {self.name} counts {requests} requests and has inner "
                f"products of {len(gram)}; restore the file, or fold the stored requests again."
            )
        ordered = tuple(dict(sorted(held.items())) for held in entries)
        return Vectors(str(bundle.facts["base"]), shapes, ordered, gram)


def _factors(gram: Tensor) -> Iterator[float]:
    """What multiplies each request: (sum of norms) * weight / norm."""
    norms = gram.diagonal().sqrt().numpy()
    taking_part = np.flatnonzero(norms > 0)
    factors = np.zeros(len(norms))
    if len(taking_part):
        lengths = norms[taking_part]
        cosines = gram.numpy()[np.ix_(taking_part, taking_part)] / np.outer(lengths, lengths)
        np.fill_diagonal(cosines, 1.0)
        weights = min_norm_weights(cosines)
        if weights @ cosines @ weights > ZERO_IN_HULL:
            factors[taking_part] = lengths.sum() * weights / lengths
    yield from factors.tolist()


def _kept(entry: Entry, factor: float) -> Entry:
    """The values times ``factor`` in memory of the state's own, sparse where that is smaller."""
    count = sum(int(piece.values().count_nonzero()) for piece in pieces_of(entry, QUARTER))
    if isinstance(entry, Sparse) or 3 * count >= math.prod(entry.shape):
        return _multiplied(entry, factor)
    indices, kept = torch.empty(count, dtype=torch.int64), torch.empty(count)
    end = 0
    for piece in pieces_of(entry, QUARTER):
        values = piece.values()
        at = values.nonzero().view(-1)
        indices[end : end + len(at)] = at + piece.start
        kept[end : end + len(at)] = values[at] * factor
        end += len(at)
    return Sparse(indices, kept, torch.Size(entry.shape))


def _multiplied(entry: Entry, factor: float) -> Entry:
    if isinstance(entry, Sparse):
        return Sparse(
            entry.indices.to("cpu", torch.int64).clone(),
            entry.values.detach().to("cpu", torch.float32) * factor,
            entry.shape,
        )
    dense = torch.empty(entry.shape)
    for piece in pieces_of(entry, QUARTER):
        dense.view(-1)[piece.where()] = piece.values() * factor
    return dense


def _inner(one: Mapping[str, Entry], other: Mapping[str, Entry]) -> float:
    """The inner product of two requests in float64, slice by slice."""
    return sum(_entry_inner(entry, other[name]) for name, entry in one.items() if name in other)


def _entry_inner(one: Entry, other: Entry) -> float:
    if isinstance(other, Sparse) and not isinstance(one, Sparse):
        one, other = other, one
    total = 0.0
    for piece in pieces_of(one, QUARTER):
        values = piece.values()
        if isinstance(other, Sparse):
            assert piece.indices is not None
            place = torch.searchsorted(other.indices, piece.indices)
            place.clamp_(max=max(len(other.indices) - 1, 0))
            if len(other.indices) == 0:
                continue
            matched = other.indices[place] == piece.indices
            total += float(values[matched].double() @ other.values[place[matched]].double())
        else:
            total += float(values.double() @ other.reshape(-1)[piece.where()].double())
    return total
