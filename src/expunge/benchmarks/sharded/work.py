"""The pieces of the benchmark: a backbone, models in shards and without, and what a seed shows.

Basu Roy Chowdhury et al. (2025), Towards Scalable Exact Machine Unlearning Using
Parameter-Efficient Fine-Tuning; Bourtoule et al. (2021), Machine Unlearning.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expunge.attacks.loss import loss_attack
from expunge.attacks.shadows import Target
from expunge.audit.case import described
from expunge.benchmarks.jobs import Result, key_of
from expunge.benchmarks.sharded.room import Room, room
from expunge.changes.weights import load_stored, stored_tensors, with_weights
from expunge.data.samples import Joined, Samples, all_but
from expunge.descent.optimisers import AdamW
from expunge.errors import IntegrityError
from expunge.families.heads import head_of
from expunge.learning.present_rows import PresentRows
from expunge.learning.sharded.checkpoints import ShardedCheckpoints
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.learning.sharded.growth import Sharded
from expunge.learning.sharded.lasting import requests_until_retraining, rows_until_retraining
from expunge.learning.sharded.layout import Layout, Prefix, Slot
from expunge.learning.sharded.selection import BipartiteMatching, CyclicRotation
from expunge.learning.sharded.slices import ShardedSlices
from expunge.learning.sharded.tree import SliceTree
from expunge.learning.supervised.plain import Plain
from expunge.recipe import Learner, Recipe, Record, Role, Trained
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask, logits_of
from expunge.signals.roc import Roc
from expunge.storage import Bundle

SHARDS, SLICES = 3, 4

PRIOR = (0.4, 0.3, 0.2, 0.1)
"""A known chance of each slice of a shard to be asked for."""

ASKED: tuple[Slot, ...] = tuple((shard, 1) for shard in range(SHARDS))
"""The slices whose rows are removed all at once, one in each shard; three of the four
cyclic orders have a beginning without them."""

AFTER = (0, 2, 5, 10, 20, 30, 40)
"""Numbers of removals after which the served model is tested."""

LONG, SHORT = 12, 5
"""Passes over all rows, and over the slices so far for each of four slices: on average 2.5
slices of four, so that both take about as many steps."""

RANK, BATCH, TARGETS = 16, 32, ("inputs",)

S3T, ONE_ORDER, MATCHED = "S3T", "S3T, one order", "S3T, matched order"
SISA, JOINT, FACTORS, ONE_SHARD = "SISA", "joint", "joint, factors", "slice-wise, one shard"
BACKBONE = "backbone"


def _sliced(shards: int, slices: int, epochs: int, rate: float, budget: int = 1) -> ShardedSlices:
    return ShardedSlices(
        shards,
        slices,
        budget,
        rank=RANK,
        targets=TARGETS,
        learning_rate=rate,
        epochs=epochs,
        batch_size=BATCH,
        below="never saw the rows",
    )


def _matched(rate: float) -> ShardedSlices:
    return replace(_sliced(SHARDS, SLICES, SHORT, rate), selection=BipartiteMatching(PRIOR))


LEARNERS: Mapping[str, Callable[[float], Learner]] = {
    BACKBONE: lambda rate: Plain(4, 64, AdamW(rate)),
    JOINT: lambda rate: Plain(LONG, BATCH, AdamW(rate)),
    FACTORS: lambda rate: _sliced(1, 1, LONG, rate),
    ONE_SHARD: lambda rate: _sliced(1, SLICES, SHORT, rate),
    S3T: lambda rate: _sliced(SHARDS, SLICES, SHORT, rate, SLICES),
    ONE_ORDER: lambda rate: _sliced(SHARDS, SLICES, SHORT, rate),
    MATCHED: _matched,
    SISA: lambda rate: ShardedCheckpoints(
        SHARDS, SLICES, rate, SHORT, BATCH, below="never saw the rows"
    ),
}
"""How each kind of model is made, by its learning rate."""

RATES: Mapping[str, tuple[float, ...]] = {
    JOINT: (1e-3, 3e-3),
    FACTORS: (1e-3, 2e-3),
    ONE_ORDER: (2e-3, 5e-3),
    SISA: (1e-3, 3e-3),
}
"""The learning rates that are tried on validation rows; that of one order in shards is taken for
all that are trained slice by slice in factors."""


@dataclass(frozen=True)
class Place:
    """A room, and the folder where its models are kept."""

    name: str
    rows: int | None
    digest: str
    folder: Path

    @property
    def room(self) -> Room:
        """Its rows and model."""
        return room(self.name, self.rows)


@dataclass(frozen=True)
class Training:
    """Train one model, or find it.

    Args:
        place: room and folder.
        kind: a name of :data:`LEARNERS`.
        rate: learning rate.
        seed: of the head, the placement and the order of rows.
        without: leave out the rows of :data:`ASKED`.
    """

    place: Place
    kind: str
    rate: float
    seed: int
    without: bool = False

    @property
    def title(self) -> str:
        """Kind, rate, seed."""
        less = " without what is asked for" if self.without else ""
        return f"{self.kind}{less} at {self.rate:g}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """Rows, learner, seed."""
        return {
            "room": self.place.digest,
            "learner": described(self.learner),
            "passes before": described(LEARNERS[BACKBONE](1e-3)),
            "seed": self.seed,
            "without": [list(slot) for slot in ASKED] if self.without else None,
        }

    @property
    def learner(self) -> Learner:
        """How it is made."""
        return LEARNERS[self.kind](self.rate)

    def done(self) -> Result:
        """Train and store it; its accuracy on validation rows and the size of its record."""
        trained, run = self._made(), Run()
        tensors = {f"model/{n}": t for n, t in stored_tensors(trained.model).items()}
        facts: Mapping[str, object] = {}
        if trained.record is not None:
            tensors |= {f"record/{n}": t for n, t in trained.record.tensors.items()}
            facts = trained.record.facts
        Bundle(tensors, facts).save(self._path)
        its = self.place.room
        found = accuracy(ask(its.family, trained.model, its.validation, run))
        return {"validation": float(found[0])}

    def trained(self) -> Trained:
        """The stored model, or one that is made now where its file is gone or damaged."""
        try:
            stored = Bundle.load_checked(self._path)
        except IntegrityError:
            self.done()
            stored = Bundle.load_checked(self._path)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "record": {}}
        for name, tensor in stored.tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        blank = self.recipe.builder(self.seed)
        if isinstance(self.learner, Sharded):
            blank = self.learner.architecture(blank)
        model = load_stored(blank, parts["model"])
        return Trained(model, Record(parts["record"], stored.facts) if parts["record"] else None)

    @property
    def recipe(self) -> Recipe:
        """From the untrained model for the backbone, and for all others from that."""
        its = self.place.room
        if self.kind == BACKBONE:
            return Recipe(its.builder, its.family, self.learner, self.seed)
        return Recipe(Tuned(its.builder, backbone(self.place)), its.family, self.learner, self.seed)

    @property
    def _path(self) -> Path:
        return self.place.folder / "models" / f"{key_of(self)}.safetensors"

    def _made(self) -> Trained:
        its = self.place.room
        rows = its.public if self.kind == BACKBONE else its.private
        if self.without:
            rows = rows.select(all_but(len(rows), asked_rows(its.private, self.seed)))
        return self.recipe.make({Role.TRAIN: rows}, Run(self.seed))


@cache
def kept(training: Training) -> Trained:
    """The model of a training, read once a process; nobody changes it."""
    return training.trained()


def backbone(place: Place) -> Training:
    """The one that all other models start from."""
    return Training(place, BACKBONE, 1e-3, 0)


@dataclass(frozen=True)
class Tuned:
    """A builder: the backbone under a head that is drawn anew."""

    untrained: Callable[[int], nn.Module]
    below: Training

    def __call__(self, seed: int) -> nn.Module:
        """The model that fine-tuning starts from."""
        fresh = self.untrained(seed)
        head, _ = head_of(fresh)
        learned = stored_tensors(kept(self.below).model)
        return with_weights(
            fresh, {n: t for n, t in learned.items() if not n.startswith(f"{head}.")}
        )


def asked_rows(rows: Samples, seed: int) -> Tensor:
    """The positions of the rows in the slices of :data:`ASKED`, under the placement of a seed."""
    placed = _layout(seed, 1).placed(rows.ids)
    return torch.cat([placed[slot] for slot in ASKED]).sort().values


def _layout(seed: int, budget: int) -> Layout:
    return Layout(SHARDS, SLICES, CyclicRotation().orders(SLICES, budget), seed)


def within(tree: SliceTree, budget: int) -> SliceTree:
    """The tree of a smaller budget, to be served from: a part of the larger one, node by node."""
    layout = _layout(tree.layout.seed, budget)
    kept = set(layout.prefixes())
    nodes = {node: tree.own(node) for node in tree.nodes if node[1] in kept}
    return SliceTree.of(layout, tree.learner, nodes, {}, PresentRows.none())


@dataclass(frozen=True)
class Reading:
    """Everything that the models of one seed show.

    Args:
        place: room and folder.
        rates: the learning rate of each kind that has one of its own.
        seed: of the models.
        streams: how many orders of removals are simulated.
    """

    place: Place
    rates: tuple[tuple[str, float], ...]
    seed: int
    streams: int

    @property
    def title(self) -> str:
        """The seed."""
        return f"what the models of seed {self.seed} show"

    def depends_on(self) -> Mapping[str, object]:
        """The models, and how often they are asked."""
        models = {training.title: training.depends_on() for training in self.trainings()}
        return {"models": models, "streams": self.streams, "after": list(AFTER), "prior": PRIOR}

    def training(self, kind: str, without: bool = False) -> Training:
        """A model of this seed."""
        rates = dict(self.rates)
        return Training(self.place, kind, rates.get(kind, rates[ONE_ORDER]), self.seed, without)

    def trainings(self) -> list[Training]:
        """All models that are read."""
        whole = [k for k in LEARNERS if k not in (BACKBONE, ONE_ORDER)]
        return [
            *(self.training(kind) for kind in whole),
            *(self.training(kind, without=True) for kind in (JOINT, FACTORS, ONE_ORDER, SISA)),
        ]

    def done(self) -> Result:
        """Accuracies, removals served, storage, and the attack; JSON values."""
        trees = {kind: self._tree(kind) for kind in (S3T, SISA, MATCHED)}
        systems = {
            **{f"S3T, B = {b}": _System(self, S3T, within(trees[S3T], b)) for b in (1, 2, SLICES)},
            "SISA, not retrained": _System(self, SISA, trees[SISA]),
        }
        known = {
            "one order, cyclic": _System(self, S3T, within(trees[S3T], 1)),
            "one order, matched": _System(self, MATCHED, trees[MATCHED]),
        }
        return {
            "accuracy": {
                kind: self._accuracy(kept(self.training(kind)).model)
                for kind in (JOINT, FACTORS, ONE_SHARD, S3T, SISA)
            },
            "streams": {name: its.over_rows(self.streams) for name, its in systems.items()},
            "known prior": {name: its.under_prior(self.streams) for name, its in known.items()},
            "storage": {name: its.storage for name, its in systems.items()},
            "asked": self._asked(trees),
        }

    def _tree(self, kind: str) -> SliceTree:
        record = kept(self.training(kind)).record
        assert record is not None  # a sharded learner keeps one
        return SliceTree(record)

    def _accuracy(self, model: nn.Module) -> float:
        its = self.place.room
        return float(accuracy(ask(its.family, model, its.test, Run()))[0])

    def _asked(self, trees: Mapping[str, SliceTree]) -> dict[str, Any]:
        """Of each model: accuracy on test rows, on the rows asked for, and the attack on them."""
        return {name: self._attacked(model) for name, model in self._models(trees)}

    def _models(self, trees: Mapping[str, SliceTree]) -> Iterator[tuple[str, nn.Module]]:
        hit = frozenset(ASKED)
        for kind in (JOINT, FACTORS):
            yield f"{kind}: original", kept(self.training(kind)).model
            yield f"{kind}: oracle", kept(self.training(kind, without=True)).model
        served = kept(self.training(S3T)).model
        assert isinstance(served, ShardEnsemble)
        yield "S3T: original", served
        for budget in (SLICES, 1):
            left = SliceTree(within(trees[S3T], budget).pruned(hit))
            yield f"S3T, B = {budget}: after the removal", served.serving(left)
        left = SliceTree(trees[S3T].pruned(hit))
        yield (
            "S3T, B = 4: the newest heads kept (a leak)",
            newest_heads(served.serving(left), trees[S3T], left.served),
        )
        yield "S3T, B = 1: oracle", kept(self.training(ONE_ORDER, without=True)).model
        checkpoints = kept(self.training(SISA)).model
        assert isinstance(checkpoints, ShardEnsemble)
        yield "SISA: original", checkpoints
        yield (
            "SISA: after the removal, not retrained",
            checkpoints.serving(SliceTree(trees[SISA].pruned(hit))),
        )
        yield (
            "SISA: oracle",
            kept(self.training(SISA, without=True)).model,
        )

    def _attacked(self, model: nn.Module) -> dict[str, float]:
        its = self.place.room
        gone = its.private.select(asked_rows(its.private, self.seed))
        both = Joined.of(gone, its.test)
        signals = ask(its.family, model, both, Run())
        member = torch.arange(len(both)) < len(gone)
        return {
            "test": self._accuracy(model),
            "asked": float(accuracy(ask(its.family, model, gone, Run()))[0]),
            "auc": Roc.of(loss_attack(Target.of(signals)), member).auc,
        }


def newest_heads(model: nn.Module, tree: SliceTree, served: Sequence[Prefix]) -> nn.Module:
    """What serving must not do: the groups that are left under the head of the whole order."""
    values: dict[str, Tensor] = {}
    for shard, prefix in enumerate(served):
        [whole] = [o for o in tree.layout.orders if o[: len(prefix)] == prefix]
        own = tree.own((shard, whole))
        values |= {f"members.{shard}.{n}": t for n, t in own.items() if ".lora_" not in n}
    return with_weights(model, values)


class _System:
    """A trained tree, and what it serves under streams of removals."""

    def __init__(self, reading: Reading, kind: str, tree: SliceTree) -> None:
        self.tree, self.seed, self.its = tree, reading.seed, reading.place.room
        blank = kept(reading.training(kind)).model
        assert isinstance(blank, ShardEnsemble)
        self.blank = blank
        self._right: dict[tuple[Prefix, ...], float] = {}

    @cached_property
    def _probabilities(self) -> dict[tuple[int, Prefix], Tensor]:
        """Of every node on the test rows, (n, C): those of a member served alone."""
        found = {}
        for prefix in dict.fromkeys(prefix for _, prefix in self.tree.nodes):
            here = [shard for shard in range(SHARDS) if (shard, prefix) in self.tree.nodes]
            nodes = {
                (shard, prefix[:end]): self.tree.own((shard, prefix[:end]))
                for shard in here
                for end in range(1, len(prefix) + 1)
            }
            none = PresentRows.none()  # only to be served from
            alone = SliceTree.of(self.tree.layout, self.tree.learner, nodes, {}, none)
            model = self.blank.serving(alone)
            for shard in here:
                logits, _ = logits_of(self.its.family, model.members[shard], self.its.test, Run())
                found[shard, prefix] = logits.double().softmax(-1)
        return found

    def accuracy_of(self, served: tuple[Prefix, ...]) -> float:
        """On test rows, of what is served; 1 / classes where nothing is."""
        if served not in self._right:
            chance = 1 / self.its.family.classes
            asked = [self._probabilities[n] for n in enumerate(served) if n[1]]
            labels = self.its.test.batch(torch.arange(len(self.its.test)), {"label"})["label"]
            right = (sum(asked[1:], asked[0]).argmax(1) == labels) if asked else None
            self._right[served] = chance if right is None else float(right.double().mean())
        return self._right[served]

    def over_rows(self, streams: int) -> dict[str, Any]:
        """Rows removed one by one in random order, until nothing is left."""
        ids, slots = list(self.its.private.ids), self.tree.layout.slot
        lasted, after = [], []
        for stream in range(streams):
            order = random.Random(f"{self.seed}/{stream}").sample(ids, len(ids))
            served = list(self._served(slots(name) for name in order))
            lasted.append(len(served) - 1)
            after.append([self.accuracy_of(served[min(n, len(served) - 1)]) for n in AFTER])
        placed = self.tree.layout.placed(ids)
        firsts = {order[0] for order in self.tree.layout.orders}
        sizes = [len(placed[s, q]) for s in range(SHARDS) for q in sorted(firsts)]
        return {
            "lasted": lasted,
            "expected, slices": requests_until_retraining(SHARDS, SLICES, len(firsts)),
            "expected, rows": rows_until_retraining(sizes, len(ids)),
            "accuracy": torch.tensor(after).mean(0).tolist(),
        }

    def under_prior(self, streams: int) -> dict[str, Any]:
        """Requests for slices of any shard, drawn by :data:`PRIOR`, until nothing is left."""
        lasted, working, right = [], [], []
        for stream in range(streams):
            draws = random.Random(f"{self.seed}/prior/{stream}")
            served = list(self._served(_drawn(draws)))
            lasted.append(len(served) - 1)
            working.append(sum(len(prefix) for one in served[1:] for prefix in one))
            right.append([self.accuracy_of(served[min(n, len(served) - 1)]) for n in AFTER])
        return {
            "lasted": lasted,
            "slices x requests": working,
            "accuracy": torch.tensor(right).mean(0).tolist(),
        }

    def _served(self, slots: Iterator[Slot]) -> Iterator[tuple[Prefix, ...]]:
        """What is served at first and after each removal, the last time nothing."""
        tree = SliceTree(Record({}, self.tree.record.facts))  # which nodes are left is enough
        yield tree.served
        while not tree.dead:
            tree = SliceTree(tree.pruned(frozenset([next(slots)])))
            yield tree.served

    @property
    def storage(self) -> dict[str, int]:
        """Nodes, steps of all orders without sharing, and bytes."""
        every = SHARDS * SLICES * len(self.tree.layout.orders)
        return {"nodes": len(self.tree.nodes), "steps": every, "bytes": self.tree.bytes()}


def _drawn(draws: random.Random) -> Iterator[Slot]:
    while True:
        shard = draws.randrange(SHARDS)
        [each] = draws.choices(range(SLICES), PRIOR)
        yield shard, each
