"""Growth: every beginning of every order of slices is trained, each from the one before it.

What is learned from slices depends on these alone: on their rows, the start, and random numbers
that are named after the shard and the slices. So a node comes out bit for bit the same whatever
rows there are in other slices, and one that was kept can stand for one that is trained again.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import ClassVar, Protocol, get_args

import torch
from torch import Tensor, nn

from expunge.changes.deletion import Below
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasLogits, HasLoss, able
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.learning.sharded.layout import Layout, Prefix, check_sizes
from expunge.learning.sharded.tree import Node, SliceTree, merged, path, rows_of
from expunge.problem import Problem
from expunge.recipe import Role, Trained
from expunge.requests import NO_REQUEST
from expunge.run import Run


class Workshop(Protocol):
    """What one training needs throughout: the start of every shard, and where a slice is put."""

    def blank(self, shards: int) -> ShardEnsemble:
        """The model that is served, before anything was learned."""
        ...

    def start(self, prefix: Prefix, before: Mapping[str, Tensor], name: str) -> nn.Module:
        """A model that is to learn the last slice of ``prefix``; what shall move in it requires
        gradients.

        Args:
            prefix: all slices that it will have seen.
            before: what the beginning without the last slice learned; empty where there is none.
            name: of random numbers.
        """
        ...

    def learned(self, prefix: Prefix, model: nn.Module) -> dict[str, Tensor]:
        """Of a model that learned the last slice, what its node holds."""
        ...


class Sharded(ABC):
    """A learner in shards and slices; a leaf is a frozen dataclass with these fields."""

    name: ClassVar[str]

    shards: int
    slices: int
    learning_rate: float
    epochs: int
    batch_size: int
    below: Below

    def __post_init__(self) -> None:
        if self.below not in get_args(Below):
            raise ExpungeError(
                f"The learner {self.name!r} got {self.below!r} for the backbone, or what else lies "
                f"below what it trains; one of {', '.join(map(repr, get_args(Below)))} is expected."
            )
        check_sizes(self.shards, self.slices, self.epochs, self.batch_size)

    @abstractmethod
    def layout(self, seed: int) -> Layout:
        """Shards, slices and orders, with the placement that a seed gives."""

    def told(self, model: nn.Module) -> dict[str, object]:
        """For the record, as JSON values: every field; of the model that training starts from, its
        digest and the names of what is frozen. With another of these another model would come out,
        and no node of the one may stand beside those of the other."""
        own = fields(self)  # type: ignore[arg-type]  # every leaf is a dataclass
        frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
        return {
            **{one.name: _plain(getattr(self, one.name)) for one in own},
            "start": digest_of(model),
            "frozen": frozen,
        }

    @abstractmethod
    def workshop(self, model: nn.Module, run: Run) -> Workshop:
        """What is needed to train from ``model``, which stays as it is."""

    def architecture(self, model: nn.Module) -> ShardEnsemble:
        """The ensemble before anything was learned, into which stored weights can be put."""
        return self.workshop(model, Run()).blank(self.shards)

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained:
        """The ensemble of shards trained on the role ``train``; its record is a ``SliceTree``.

        Raises:
            ExpungeError: there are fewer rows than slices, two have one id, or the model cannot be
                divided so.
        """
        self.layout(run.seed).check(data[Role.TRAIN].ids)
        return self.grown(model, family, data[Role.TRAIN], run, {})

    def grown(
        self,
        model: nn.Module,
        family: Family,
        rows: Samples,
        run: Run,
        nodes: Mapping[Node, Mapping[str, Tensor]],
    ) -> Trained:
        """As :meth:`fit`, with some nodes there already.

        A beginning whose slices hold no row has no node.
        """
        for ability in (HasLoss, HasLogits):
            able(family, ability)
        present, told = rows_of(rows.ids), self.told(model)
        layout, workshop = self.layout(run.seed), self.workshop(model, run)
        placed, found = layout.placed(rows.ids), dict(nodes)
        every = [(shard, each) for shard in range(layout.shards) for each in layout.prefixes()]
        for shard, prefix in every:
            here = torch.cat([placed[shard, each] for each in prefix])
            if (shard, prefix) in found or len(here) == 0:
                continue
            name = f"{self.name}/{shard}/{'-'.join(map(str, prefix))}"
            before = merged({node: found[node] for node in path(shard, prefix[:-1], found)})
            start = workshop.start(prefix, before, name)
            after = self._descended(start, family, rows.select(here), run, name)
            found[shard, prefix] = workshop.learned(prefix, after)
        kept = {node: found[node] for node in every if node in found}
        tree = SliceTree.of(layout, self.name, kept, told, present)
        return Trained(workshop.blank(layout.shards).serving(tree), tree.record)

    def _descended(
        self, model: nn.Module, family: Family, rows: Samples, run: Run, name: str
    ) -> nn.Module:
        descent = Descent(
            Player(others={"train": On(Role.TRAIN, Loss())}, optimiser=AdamW(self.learning_rate)),
            length=Epochs(self.epochs, of=Role.TRAIN),
            batch_size=self.batch_size,
        )
        problem = Problem(model, family, NO_REQUEST, {Role.TRAIN: rows}, History())
        return descent.minimise(problem, run, name).model


def _plain(value: object) -> object:
    """A field of a learner as a JSON value; an object by its name and its own fields."""
    if is_dataclass(value) and not isinstance(value, type):
        own = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        return {"name": getattr(value, "name", type(value).__name__), **own}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value
