"""Where batches come from beside a role: a pool of several roles, or no rows at all."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expunge.data.samples import Batch, Joined
from expunge.recipe import Role

if TYPE_CHECKING:
    from expunge.descent.player import Setting

PART = "part"
"""The field of every batch of a pool that says of which of its roles each row (B,) is."""


@dataclass(frozen=True)
class Pool:
    """The rows of several roles in one stream: a batch mixes them as they come."""

    roles: tuple[Role, ...]


class Pooled(Joined):
    """Samples of several roles, one after another; :data:`PART` numbers them in that order."""

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """The named fields (all common ones by default) of the rows, in their order."""
        return {**super().batch(rows, fields), PART: self.owner(rows)}


@dataclass(frozen=True)
class NoRows:
    """An empty batch: for terms that look at the weights alone."""

    def batch(self, setting: "Setting", size: int, generator: torch.Generator) -> Batch:
        """Nothing."""
        return {}
