"""Requests in a row to a classifier of twenty classes, a second family beside the dual encoder.

Handwritten digits and clothes, ten classes each, go to one small convolutional network. The classes
are split into two halves by the digests of their names; nothing was chosen on either, as every
method is at its preset, and strengths are matched on validation rows. A base is asked for some
classes of one half, one after another; vectors may be made with rows of the other half's classes
as retained. What is measured is that of :mod:`expunge.benchmarks.continual_vlm`.
"""

import functools
import hashlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import described, digest_of_rooms, digest_of_samples
from expunge.audit.measure import Panel
from expunge.benchmarks.classification.worlds import FEW, Part, grey
from expunge.benchmarks.continual_vlm.kinds import PRESETS
from expunge.benchmarks.continual_vlm.stream import LARGEST_BATCH, Stream
from expunge.benchmarks.continual_vlm.work import ATTACK, CODE, POINTS
from expunge.benchmarks.continual_vlm.world import HALVES
from expunge.benchmarks.jobs import Result, Told, by_job
from expunge.data import own, splits
from expunge.data.samples import TensorSamples
from expunge.data.sets import fashion_mnist
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW, Cosine
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.plain import Plain
from expunge.models.cnn import SmallCnn
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run

CLASSES = (*(f"digit {digit}" for digit in range(10)), *fashion_mnist.CLASSES)
"""Of the network, in its order."""

OWN_CODE = ("benchmarks/continual_classes.py", "benchmarks/continual_vlm/stream.py")
"""Files that results depend on beside those of the other benchmark."""

LEARNER = Plain(4, 128, AdamW(1e-3, schedule=Cosine()))
"""How bases and oracles are trained."""

REQUESTS = 5
"""T, of ten classes of a half."""


def half(name: str) -> tuple[str, ...]:
    """The classes of a half, in the order of the digests of their names.

    Raises:
        ExpungeError: there is no such half.
    """
    if name not in HALVES:
        raise ExpungeError(
            f"The half {name!r} of the classes was asked for; {' or '.join(HALVES)} is expected."
        )
    ranked = sorted(CLASSES, key=lambda each: hashlib.sha256(each.encode()).hexdigest())
    return tuple(ranked[list(HALVES).index(name) :: len(HALVES)])


def drawn(name: str, seed: int, count: int) -> tuple[str, ...]:
    """So many classes of a half in the order in which a base is asked for them.

    Raises:
        ExpungeError: the half has fewer.
    """
    of = list(half(name))
    if not 1 <= count <= len(of):
        raise ExpungeError(
            f"{count} requests were asked for, and a half has {len(of)} classes; give a number "
            "from 1 to that."
        )
    random.Random(f"{name} classes of seed {seed}").shuffle(of)
    return tuple(of[:count])


@functools.cache
def rows(split: str) -> Part:
    """Digits and clothes of a split, labelled in the order of :data:`CLASSES`; read once a process.

    Raises:
        ExpungeError: one of the sets was not fetched.
    """
    count = FEW[splits.NAMES.index(split)]
    parts = [grey("mnist-10k", split), grey("fashion-mnist", split, count)]
    labels = torch.cat([parts[0][0].columns["label"], parts[1][0].columns["label"] + 10])
    ids = [name for samples, _ in parts for name in samples.ids]
    names = [CLASSES[label] for label in labels.tolist()]
    table = datasets.Dataset.from_dict({"id": ids, "subject": names, "label": names})
    pictures = torch.cat([samples.columns["image"] for samples, _ in parts])
    return own.samples(table, {"image": pictures, "label": labels}), table


def network(seed: int) -> nn.Module:
    """The untrained network of a seed."""
    return SmallCnn(torch.Generator().manual_seed(seed), classes=len(CLASSES))


def stream(name: str, seed: int, count: int) -> Stream:
    """The base of a seed, trained now, and the classes that it is asked to forget.

    Raises:
        ExpungeError: a set was not fetched, or the half has fewer classes.
    """
    asked = drawn(name, seed, count)
    train, table = rows("train")
    recipe = Recipe(network, Classifier(classes=len(CLASSES)), LEARNER, seed)
    run = Run(seed)
    base = recipe.make({Role.TRAIN: train}, run).model
    deployment = Deployment(base, recipe.family, train, table, Sum(), recipe=recipe)
    requests = tuple(
        Request(each, Rows("label", (each,)), labels=(CLASSES.index(each),)) for each in asked
    )
    validation, test = (Panel.of(*rows(split), requests) for split in ("validation", "test"))
    return Stream(deployment, requests, validation, test, reserve(name), run)


def reserve(name: str) -> Tensor:
    """Positions (n,) of the training rows that vectors for classes of a half may be made with as
    retained: those of the other half's classes, which no request names."""
    _, table = rows("train")
    kept = tuple(each for each in CLASSES if each not in half(name))
    return Rows("label", kept).rows(table)


@dataclass(frozen=True)
class Asking:
    """All rows of one base."""

    half: str
    seed: int
    count: int
    kinds: tuple[str, ...]
    rules: tuple[str, ...]

    @property
    def title(self) -> str:
        """Half, seed, and number of requests."""
        return f"{self.half} classes, seed {self.seed}, {self.count} requests"

    def depends_on(self) -> Mapping[str, object]:
        """What is asked of which base, by which vectors and rules, and the code."""
        return {
            "asked": list(drawn(self.half, self.seed, self.count)),
            "kept": list(half(self.half)),
            "seed": self.seed,
            "learner": described(LEARNER),
            "rows": [digest_of_samples(_samples(split)) for split in splits.NAMES],
            "kinds": {kind: described(PRESETS[kind]) for kind in self.kinds},
            "rules": list(self.rules),
            "measured": [POINTS, described(ATTACK), LARGEST_BATCH],
            "code": digest_of_rooms((*CODE, *OWN_CODE)),
        }

    def done(self) -> Result:
        """As that of :class:`~expunge.benchmarks.continual_vlm.stream.Stream`."""
        where = {"half": self.half, "seed": self.seed, "count": self.count}
        methods = {kind: PRESETS[kind] for kind in self.kinds}
        return stream(self.half, self.seed, self.count).conduct(where, methods, self.rules)


def _samples(split: str) -> TensorSamples:
    samples, _ = rows(split)
    return samples


def conduct(
    folder: Path,
    halves: tuple[str, ...],
    seeds: tuple[int, ...],
    counts: tuple[int, ...],
    kinds: tuple[str, ...],
    rules: tuple[str, ...],
    processes: int,
    told: Told,
) -> dict[str, Any]:
    """Every base with every row; JSON values.

    Args:
        folder: where results are stored; a stopped run goes on.
        halves: whose classes are asked for.
        seeds: of the bases; those of the half where there are none.
        counts: numbers of requests T.
        kinds: of vectors, by the names of :data:`~expunge.benchmarks.continual_vlm.kinds.PRESETS`.
        rules: registered aggregations.
        processes: jobs that run at once.
        told: is told of every job.

    Raises:
        ExpungeError: a half is not known or has fewer classes, or a set was not fetched.
    """
    start = time.perf_counter()
    for name in halves:
        for count in counts:
            drawn(name, 0, count)  # refused before anything is read
    jobs = [
        Asking(name, seed, count, kinds, rules)
        for name in halves
        for seed in seeds or HALVES[name]
        for count in counts
    ]
    found = by_job(jobs, folder / "results", processes, told)
    parts = ("references", "conflicts", "rows")
    joined = {part: [row for one in found.values() for row in one[part]] for part in parts}
    return {
        **joined,
        "curves": [],
        "refused": {
            f"{job.title}, {kind}": reason
            for job, one in found.items()
            for kind, reason in one["refused"].items()
        },
        "chance": 1 / len(CLASSES),
        "seconds": time.perf_counter() - start,
    }
