"""Layout: which shard and slice a row is in, and in which orders the slices of a shard are learned.

Bourtoule et al. (2021), Machine Unlearning; Basu Roy Chowdhury et al. (2025), Towards Scalable
Exact Machine Unlearning Using Parameter-Efficient Fine-Tuning.

A row is placed by a digest of its own id and the seed, not by cutting a shuffled list in equal
parts: whether another row is there must not move it, or what survives a removal would still depend
on the row that was removed. So slices differ in size, as independent draws do.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.errors import ExpungeError

Prefix = tuple[int, ...]
"""Slices in the order in which they were learned."""
Slot = tuple[int, int]
"""A shard and a slice of it."""


@dataclass(frozen=True)
class Layout:
    """The shards of a training set and the orders of their slices.

    Args:
        shards: m, number of models.
        slices: L, parts of each shard.
        orders: B orders of the slices, the same in every shard.
        seed: of the placement.

    Raises:
        ExpungeError: there is no shard, slice or order, or one is no order of the slices.
    """

    shards: int
    slices: int
    orders: tuple[Prefix, ...]
    seed: int

    def __post_init__(self) -> None:
        check_sizes(self.shards, self.slices)
        wanted = set(range(self.slices))
        for order in self.orders or ((),):
            if set(order) != wanted or len(order) != self.slices:
                raise ExpungeError(
                    f"The order {list(order)} of {self.slices} slices was given; every number from "
                    f"0 to {self.slices - 1}, each once, is expected, in one order at least."
                )

    def slot(self, name: str) -> Slot:
        """The shard and slice of the row with this id."""
        mixed = hashlib.sha256(f"{self.seed}:slot:{name}".encode()).digest()
        place = int.from_bytes(mixed[:8], "big") % (self.shards * self.slices)
        return divmod(place, self.slices)

    def placed(self, ids: Sequence[str]) -> dict[Slot, Tensor]:
        """The positions (n,) among ``ids`` of the rows of every slice, ascending."""
        found: dict[Slot, list[int]] = {
            (shard, each): [] for shard in range(self.shards) for each in range(self.slices)
        }
        for row, name in enumerate(ids):
            found[self.slot(name)].append(row)
        return {slot: torch.tensor(rows, dtype=torch.int64) for slot, rows in found.items()}

    def check(self, ids: Sequence[str]) -> None:
        """Refuse too few rows.

        Raises:
            ExpungeError: there are fewer rows than slices, or a shard got none.
        """
        every = self.shards * self.slices
        if len(ids) < every:
            raise ExpungeError(
                f"{len(ids)} rows were given for {self.shards} shards of {self.slices} slices; at "
                f"least {every} are expected, and some dozens in each slice to learn from. Take "
                "fewer shards or slices."
            )
        placed = self.placed(ids)
        for shard in range(self.shards):
            if not any(len(placed[shard, each]) for each in range(self.slices)):
                raise ExpungeError(
                    f"Of {len(ids)} rows none fell into shard {shard} of {self.shards}; rows are "
                    "placed at random by their ids. Take fewer shards, or another seed."
                )

    def prefixes(self) -> tuple[Prefix, ...]:
        """Every beginning of an order once, those of an order from the shortest on."""
        return tuple(
            dict.fromkeys(order[:end] for order in self.orders for end in range(1, self.slices + 1))
        )


def check_sizes(shards: int, slices: int, epochs: int = 1, batch_size: int = 1) -> None:
    """Refuse numbers below 1.

    Raises:
        ExpungeError: one of them is.
    """
    if min(shards, slices, epochs, batch_size) < 1:
        raise ExpungeError(
            f"{shards} shards of {slices} slices, {epochs} epochs and batches of {batch_size} were "
            "asked for; 1 is the least of each."
        )
