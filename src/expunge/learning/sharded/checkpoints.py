"""ShardedCheckpoints: whole models in shards, with a checkpoint after each slice (SISA).

Bourtoule, Chandrasekaran, Choquette-Choo, Jia, Travers, Zhang, Lie, Papernot (2021). Machine
Unlearning (IEEE S&P). Sharded, isolated, sliced, aggregated: the i-th slice of a shard trains its
model on the first i slices together, from the checkpoint before, in one order.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from expunge.changes.deletion import Below
from expunge.changes.weights import load_stored, stored_tensors
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.learning.sharded.growth import Sharded
from expunge.learning.sharded.layout import Layout, Prefix
from expunge.run import Run, on_device


@dataclass(frozen=True)
class ShardedCheckpoints(Sharded):
    """The learner of SISA; it ends in a ``ShardEnsemble`` and keeps a ``SliceTree``.

    Args:
        shards: S, number of models.
        slices: R, parts of each shard.
        learning_rate: of AdamW.
        epochs: passes over the slices seen so far, for each slice.
        batch_size: rows a step.
        below: whether the weights that training starts from were trained on rows that may have to
            go. A learner cannot tell fresh weights from pretrained ones, so of weights that were
            drawn at random it has to be said, too, that they never saw the rows. Only then is a
            removal exact; the record keeps what is said here.

    The paper varies all of them; the defaults are those of S3T, so that the two can be compared.
    """

    name: ClassVar[str] = "sharded-checkpoints"

    shards: int = 5
    slices: int = 6
    learning_rate: float = 2e-4
    epochs: int = 15
    batch_size: int = 128
    below: Below = "unknown"

    def layout(self, seed: int) -> Layout:
        """Shards and slices in one order, with the placement that a seed gives."""
        return Layout(self.shards, self.slices, (tuple(range(self.slices)),), seed)

    def workshop(self, model: nn.Module, run: Run) -> "Wholes":
        """The model itself."""
        return Wholes(on_device(model, run))


@dataclass(frozen=True)
class Wholes:
    """A model of which every shard trains a copy."""

    model: nn.Module

    def blank(self, shards: int) -> ShardEnsemble:
        """Copies of it."""
        members = [copy.deepcopy(self.model) for _ in range(shards)]
        return ShardEnsemble(members, tuple(stored_tensors(self.model)))

    def start(self, prefix: Prefix, before: Mapping[str, Tensor], name: str) -> nn.Module:
        """The checkpoint before, or the untrained model."""
        return load_stored(self.model, before, "The checkpoint") if before else self.model

    def learned(self, prefix: Prefix, model: nn.Module) -> dict[str, Tensor]:
        """Everything."""
        return {name: t.detach().cpu().clone() for name, t in stored_tensors(model).items()}
