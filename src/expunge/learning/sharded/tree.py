"""SliceTree: the record of sharded training, one node for each beginning of an order of slices.

A node holds what was learned with its last slice: the adapter group and the head of S3T (Basu Roy
Chowdhury et al. 2025), the whole model of SISA (Bourtoule et al. 2021). Orders with a common
beginning share its nodes. A removal takes away every node that saw the slice of the row.

Beside the nodes stands which rows are there: any id has a slot, so without that an id that was
never trained on would take a slice away, and be certified.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from torch import Tensor

from expunge.changes.deletion import Below
from expunge.errors import ExpungeError, IntegrityError
from expunge.learning.present_rows import PresentRows
from expunge.learning.sharded.layout import Layout, Prefix, Slot
from expunge.recipe import LEARNER, Record

Node = tuple[int, Prefix]
"""A shard and the slices that were seen, in their order."""

ROWS = "rows"
"""The tensor of the digests of ids; no node has this name."""


@dataclass(frozen=True)
class SliceTree:
    """A view of the record of a sharded learner.

    Raises:
        ExpungeError: the record is of no sharded learner.
    """

    record: Record

    def __post_init__(self) -> None:
        wanted = {LEARNER, "shards", "slices", "orders", "seed", "nodes"}
        if not wanted <= set(self.record.facts):
            raise ExpungeError(
                "The record of a sharded learner is needed, and this one holds "
                f"{', '.join(sorted(self.record.facts)) or 'no facts'}; train the model with "
                "ShardedSlices or ShardedCheckpoints (expunge.learning.sharded)."
            )

    @classmethod
    def of(
        cls,
        layout: Layout,
        learner: str,
        nodes: Mapping[Node, Mapping[str, Tensor]],
        told: Mapping[str, object],
        rows: PresentRows,
    ) -> Self:
        """The tree of trained nodes, each with its tensors by name, what else is told, and the rows
        (:func:`rows_of`) that they were trained on."""
        tensors = {
            f"{_label(node)}/{name}": tensor
            for node, own in nodes.items()
            for name, tensor in own.items()
        } | {ROWS: rows.ids}
        facts = {
            **told,
            LEARNER: learner,
            "shards": layout.shards,
            "slices": layout.slices,
            "orders": [list(order) for order in layout.orders],
            "seed": layout.seed,
            "nodes": [[shard, list(prefix)] for shard, prefix in nodes],
        }
        return cls(Record(tensors, facts))

    @property
    def learner(self) -> str:
        """The name of the learner that made it."""
        return str(self.record.facts[LEARNER])

    @cached_property
    def layout(self) -> Layout:
        """Shards, slices and orders."""
        facts: Mapping[str, Any] = self.record.facts
        orders = tuple(tuple(map(int, order)) for order in facts["orders"])
        return Layout(int(facts["shards"]), int(facts["slices"]), orders, int(facts["seed"]))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Those that are left, in the order in which they were trained."""
        stored: Any = self.record.facts["nodes"]
        return tuple((int(shard), tuple(map(int, prefix))) for shard, prefix in stored)

    @property
    def below(self) -> Below:
        """What the learner was told of the weights that lie below what it trains."""
        known = self.record.facts.get("below") == "never saw the rows"
        return "never saw the rows" if known else "unknown"

    @cached_property
    def rows(self) -> PresentRows:
        """The rows that are there, by their ids alone.

        Raises:
            ExpungeError: the record does not say.
        """
        ids = self.record.tensors.get(ROWS)
        if ids is None:
            raise ExpungeError(
                "The record does not say which rows it was made of, so none can be taken out of "
                "it; train the model again to get a whole one."
            )
        return PresentRows(ids, ids)

    def slices_of(self, ids: Sequence[str]) -> frozenset[Slot]:
        """The (shard, slice) pairs that hold these rows."""
        return frozenset(self.layout.slot(name) for name in ids)

    @cached_property
    def _names(self) -> Mapping[str, list[str]]:
        """The names of the stored tensors of each node."""
        found: dict[str, list[str]] = {}
        for name in self.record.tensors:
            found.setdefault(name.split("/", 1)[0], []).append(name)
        return found

    def own(self, node: Node) -> dict[str, Tensor]:
        """What the node itself holds.

        Raises:
            IntegrityError: it is not in the record.
        """
        label = _label(node)
        if label not in self._names:
            raise IntegrityError(
                f"The record names slices {list(node[1])} of shard {node[0]} and holds no tensor "
                "of them; restore it from its source."
            )
        return {n.split("/", 1)[1]: self.record.tensors[n] for n in self._names[label]}

    def node(self, shard: int, prefix: Prefix) -> dict[str, Tensor]:
        """All that was learned up to the last slice of ``prefix``; see :func:`merged`."""
        return merged({node: self.own(node) for node in path(shard, prefix, self.nodes)})

    def pruned(self, slices: frozenset[Slot]) -> Record:
        """The record without every node that saw one of ``slices``, and without its tensors."""
        kept = [
            (shard, prefix)
            for shard, prefix in self.nodes
            if not any((shard, each) in slices for each in prefix)
        ]
        names = [name for node in kept for name in self._names.get(_label(node), ())]
        names += self._names.get(ROWS, ())
        tensors = {name: self.record.tensors[name] for name in names}
        nodes = [[shard, list(prefix)] for shard, prefix in kept]
        return Record(tensors, {**self.record.facts, "nodes": nodes})

    def without(self, ids: Sequence[str]) -> Record:
        """The record without these rows, and without every node that saw the slice of one.

        Raises:
            ExpungeError: a row is not there: it was never added, or was removed before.
        """
        left = self.rows.without(ids, _as_contents(ids))
        record = self.pruned(self.slices_of(ids))
        return Record({**record.tensors, ROWS: left.ids}, record.facts)

    def best(self, shard: int) -> Prefix:
        """The longest beginning that is left, of equals the one of the first order; empty where the
        shard is dead. Nothing is looked at that a removed row could have changed."""
        left = [prefix for owner, prefix in self.nodes if owner == shard]
        return max(left, key=len, default=())

    @property
    def served(self) -> tuple[Prefix, ...]:
        """What serves each shard."""
        return tuple(map(self.best, range(self.layout.shards)))

    @property
    def dead(self) -> bool:
        """Whether no order of any shard is left."""
        return not self.nodes

    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.record.tensors.values())


def path(shard: int, prefix: Prefix, nodes: Container[Node]) -> list[Node]:
    """Of the beginnings of ``prefix`` those that are there, the shortest first."""
    beginnings = [(shard, prefix[:end]) for end in range(1, len(prefix) + 1)]
    return [node for node in beginnings if node in nodes]


def merged(nodes: Mapping[Node, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What the nodes of a path hold together: of a tensor that several have, such as the head, the
    last one stands."""
    return {name: tensor for own in nodes.values() for name, tensor in own.items()}


def rows_of(ids: Sequence[str]) -> PresentRows:
    """The rows of a training, by their ids alone.

    Raises:
        ExpungeError: an id is given twice.
    """
    return PresentRows.none().having(ids, _as_contents(ids))


def _as_contents(ids: Sequence[str]) -> list[bytes]:
    """The id in the place of the content, which S3T may not read: both digests are the same, and
    one is stored."""
    return [name.encode() for name in ids]


def _label(node: Node) -> str:
    shard, prefix = node
    return f"{shard}:{'-'.join(map(str, prefix))}"
