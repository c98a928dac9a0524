"""Where batches come from beside a role: a pool of several roles, or no rows at all."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expunge.data.samples import ROW, Batch, Samples
from expunge.recipe import Role

if TYPE_CHECKING:
    from expunge.descent.player import Setting

PART = "part"
"""The field of every batch of a pool that says of which of its roles each row (B,) is."""


@dataclass(frozen=True)
class Pool:
    """The rows of several roles in one stream: a batch mixes them as they come."""

    roles: tuple[Role, ...]


class Pooled:
    """Samples of several roles, one after another; :data:`PART` numbers them in that order."""

    def __init__(self, parts: Sequence[Samples]) -> None:
        self.parts = tuple(parts)
        self.ends = torch.tensor([len(part) for part in parts]).cumsum(0)

    @property
    def ids(self) -> Sequence[str]:
        """The stable ids."""
        return [name for part in self.parts for name in part.ids]

    @property
    def subjects(self) -> Sequence[str]:
        """The subjects."""
        return [name for part in self.parts for name in part.subjects]

    @property
    def fields(self) -> frozenset[str]:
        """The fields that every part has."""
        return frozenset.intersection(*(part.fields for part in self.parts))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """The named fields (all common ones by default) of the rows, in their order."""
        wanted = self.fields if fields is None else fields
        part = torch.bucketize(rows, self.ends, right=True)
        found: dict[str, list[Tensor]] = {name: [] for name in wanted}
        places = []
        for i, samples in enumerate(self.parts):
            at = (part == i).nonzero().reshape(-1)
            if len(at):
                read = samples.batch(rows[at] - self.ends[i] + len(samples), wanted)
                places.append(at)
                for name in wanted:
                    found[name].append(read[name])
        order = torch.cat(places).argsort()
        joined = {name: torch.cat(pieces)[order] for name, pieces in found.items()}
        return {**joined, ROW: rows, PART: part}

    def select(self, rows: Tensor) -> "Pooled":
        """The samples at these positions, those of each part together."""
        part = torch.bucketize(rows, self.ends, right=True)
        return Pooled(
            [
                samples.select(rows[part == i] - self.ends[i] + len(samples))
                for i, samples in enumerate(self.parts)
            ]
        )


@dataclass(frozen=True)
class NoRows:
    """An empty batch: for terms that look at the weights alone."""

    def batch(self, setting: "Setting", size: int, generator: torch.Generator) -> Batch:
        """Nothing."""
        return {}
