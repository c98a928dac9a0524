"""ShardedSlices: a transformer fine-tuned in shards, each slice of a shard in its own adapters.

Basu Roy Chowdhury, Choromanski, Sehanobish, Dubey, Chaturvedi (2025). Towards Scalable Exact
Machine Unlearning Using Parameter-Efficient Fine-Tuning (ICLR). Code: brcsomnath/S3T.

The layers are divided into L groups from the top. The i-th slice of an order trains the low-rank
factors of the i-th group and the head on the first i slices together; groups above are frozen as
they were, layers below have no factors yet, and what a group reads does not depend on later slices.
So deactivating the groups from the j-th on and taking the head of step j - 1 leaves what never saw
the j-th slice. The head is stored at every step: the newest one has seen everything.

What is exact are factors and heads. The backbone must be free of the rows that may be removed.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from expunge.changes.deletion import Below
from expunge.changes.weights import parameters_of, with_weights
from expunge.descent.factors import FACTOR, Shape, Shared, linear_layers, with_factors
from expunge.errors import ExpungeError
from expunge.families.blocks import blocks_of
from expunge.families.heads import head_of
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.learning.sharded.growth import Sharded
from expunge.learning.sharded.layout import Layout, Prefix
from expunge.learning.sharded.selection import (
    BipartiteMatching,
    CyclicRotation,
    Selection,
)
from expunge.run import Run


@dataclass(frozen=True)
class ShardedSlices(Sharded):
    """The learner of S3T; it ends in a ``ShardEnsemble`` and keeps a ``SliceTree``.

    Nothing is stopped early or chosen by a score: that would look at rows beyond a slice.

    Args:
        shards: m, number of models.
        slices: L, parts of each shard, and groups of layers.
        budget: B, orders of the slices that are trained in each shard.
        rank: of the factors.
        alpha: their product is scaled by alpha / sqrt(rank), the rank-stabilised form.
        dropout: share of the inputs of the factors that is dropped while training.
        targets: linear layers that get factors, by their names or the ends of these; in the paper
            those of queries and values.
        learning_rate: of AdamW.
        epochs: passes over the slices seen so far, for each slice.
        batch_size: rows a step.
        selection: of the orders.
        below: whether the backbone was trained on rows that may have to go. Only if it never saw
            them is a removal exact; the record keeps what is said here.
    """

    name: ClassVar[str] = "sharded-slices"
    choices: ClassVar[Mapping[str, Mapping[str, type]]] = {
        "selection": {kind.name: kind for kind in (CyclicRotation, BipartiteMatching)}
    }

    shards: int = 5
    slices: int = 6
    budget: int = 6
    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.1
    targets: tuple[str, ...] = ("query", "value")
    learning_rate: float = 2e-4
    epochs: int = 15
    batch_size: int = 128
    selection: Selection = field(default_factory=CyclicRotation)
    below: Below = "unknown"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layout(0)

    def layout(self, seed: int) -> Layout:
        """Shards, slices and orders, with the placement that a seed gives."""
        orders = self.selection.orders(self.slices, self.budget)
        return Layout(self.shards, self.slices, orders, seed)

    def workshop(self, model: nn.Module, run: Run) -> "Groups":
        """The model with inactive factors beside its layers.

        Raises:
            ExpungeError: it has fewer layers with such targets than there are slices, or no head.
        """
        layers = layers_of(model, self.targets)
        each = len(layers) // self.slices
        if not each:
            raise ExpungeError(
                f"{type(model).__name__} has {len(layers)} layers with "
                f"{' or '.join(map(repr, self.targets)) or 'no named target'}, and "
                f"{self.slices} slices need a group of layers each; take at most {len(layers)} "
                "slices, or name other `targets`."
            )
        top = layers[::-1][: each * self.slices]
        groups = tuple(
            tuple(name for layer in top[i * each : (i + 1) * each] for name in layer)
            for i in range(self.slices)
        )
        stabilised = self.alpha * math.sqrt(self.rank)  # peft divides by the rank
        shape = Shape(
            self.rank, stabilised, self.dropout, tuple(n for group in groups for n in group)
        )
        head, _ = head_of(model)
        return Groups(_inactive(with_factors(model, shape, run), head), groups, head, run)


def layers_of(model: nn.Module, targets: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The linear layers among the targets, by the layer of the transformer that they are in, from
    the bottom on."""
    found: list[tuple[str, ...]] = []
    linear = [
        name
        for name in linear_layers(model)
        if any(f".{name}".endswith(f".{end}") for end in targets)
    ]
    for names in blocks_of(model).values():
        inside = tuple(name for name in linear if f"{name}.weight" in names)
        found += [inside] * bool(inside)
    return found


@dataclass(frozen=True)
class Groups:
    """A model with factors in groups from the top, all inactive.

    Args:
        model: its frozen weights are shared by its copies, the head and the factors are not.
        groups: names of the linear layers of each group.
        head: name of the last linear layer.
        run: device and random numbers.
    """

    model: nn.Module
    groups: tuple[tuple[str, ...], ...]
    head: str
    run: Run

    def _names(self, group: int) -> list[str]:
        """The parameters that the step of a group trains."""
        inside = tuple(f"{layer}{FACTOR}" for layer in self.groups[group])
        own = [name for name in parameters_of(self.model) if name.startswith(inside)]
        return own + [n for n in parameters_of(self.model) if n.startswith(f"{self.head}.")]

    def blank(self, shards: int) -> ShardEnsemble:
        """Copies that share the backbone, which is their own."""
        own = {
            id(p): nn.Parameter(p.detach().clone())
            for p in self.model.parameters()
            if isinstance(p, Shared)
        }
        learned = dict.fromkeys(name for i in range(len(self.groups)) for name in self._names(i))
        members = [copy.deepcopy(self.model, dict(own)) for _ in range(shards)]
        return ShardEnsemble(members, tuple(learned)).requires_grad_(True)

    def start(self, prefix: Prefix, before: Mapping[str, Tensor], name: str) -> nn.Module:
        """Earlier groups and the head as they were, the next group fresh: A drawn as ``peft`` draws
        it, B zero, so that it changes nothing at first."""
        moving = self._names(len(prefix) - 1)
        generator = self.run.generator(f"{name}/factors")
        fresh = {}
        for each in moving:
            if f"{FACTOR}A." in each:
                shape = parameters_of(self.model)[each].shape
                fresh[each] = torch.empty(shape)
                nn.init.kaiming_uniform_(fresh[each], a=math.sqrt(5), generator=generator)
        model = with_weights(self.model, {**before, **fresh})
        for each, parameter in model.named_parameters():
            parameter.requires_grad_(each in moving)
        return model

    def learned(self, prefix: Prefix, model: nn.Module) -> dict[str, Tensor]:
        """The group and the head."""
        found = parameters_of(model)
        return {name: found[name].detach().cpu().clone() for name in self._names(len(prefix) - 1)}


def _inactive(model: nn.Module, head: str) -> nn.Module:
    """Factors of zero, and a head that is not shared; changes the model."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if FACTOR in name:
                parameter.zero_()
    last = model.get_submodule(head)
    for name, parameter in list(last.named_parameters(recurse=False)):
        setattr(last, name, nn.Parameter(parameter.detach().clone()))
    return model
