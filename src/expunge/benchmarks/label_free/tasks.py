"""The three removals of the paper, in worlds of real rows: a class, rows of classes, wrong labels.

Shen, Zhang, Zhao, Bialkowski, Chen, Xu (2024). Label-Agnostic Forgetting: 40 % of the rows of each
of the classes 5 to 9; 60 % of those of the classes 0 to 4 under a wrong label; the class 0. There a
wrong label is never a 9; here it is any other class. Which rows, and which labels, is the same for
every seed, so that a model can be held against the mean of several oracles.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import datasets
import torch

from expunge.benchmarks.classification.worlds import World, world
from expunge.data.samples import Samples, TensorSamples, all_but
from expunge.descent.optimisers import AdamW, Cosine
from expunge.families.from_logits import other_labels
from expunge.learning.supervised.plain import Plain
from expunge.requests import Named, Request, Rows
from expunge.run import Run

Task = Literal["class", "random", "noisy labels"]
TASKS: tuple[Task, ...] = ("class", "random", "noisy labels")

REMOVED, CLASSES = 0, 10
SHARES: Mapping[Task, tuple[float, tuple[int, ...]]] = {
    "random": (0.4, (5, 6, 7, 8, 9)),
    "noisy labels": (0.6, (0, 1, 2, 3, 4)),
}
"""The share of the rows of some classes that is to be forgotten."""

FEW = (2_000, 1_000, 1_000)
"""Training, validation and test rows of the clothes that are used: the first of each."""


def digits() -> World:
    """The digits and a fully connected network."""
    return replace(world("digits"), requests={})


def clothes() -> World:
    """A part of Fashion-MNIST and a small convolutional network."""
    whole = world("clothes")
    parts = [
        rows.select(torch.arange(count))
        for rows, count in zip((whole.train, whole.validation, whole.test), FEW, strict=True)
    ]
    tables = [_table(rows) for rows in parts]
    return replace(
        whole,
        about=f"{FEW[0]:,} clothes of 28 x 28 pixels, ten classes; two convolutions, one hidden "
        "layer",
        recipe=replace(whole.recipe, learner=Plain(12, 64, AdamW(1e-3, schedule=Cosine()))),
        train=parts[0],
        train_table=tables[0],
        validation=parts[1],
        validation_table=tables[1],
        test=parts[2],
        test_table=tables[2],
        requests={},
    )


WORLDS: Mapping[str, Callable[[], World]] = {"digits": digits, "clothes": clothes}


@cache
def room(name: str) -> World:
    """A world of this benchmark; its rows are read once a process."""
    return WORLDS[name]()


def _table(samples: Samples) -> Named:
    """Ids, by which requests name rows, and labels."""
    columns: dict[str, list[object]] = {"id": list(samples.ids), "subject": list(samples.subjects)}
    columns["label"] = samples.batch(torch.arange(len(samples)), {"label"})["label"].tolist()
    table: Named = datasets.Dataset.from_dict(columns)
    return table


@dataclass(frozen=True, eq=False)
class Removal:
    """What is trained on and what is to go.

    Args:
        train: training rows; of wrong labels, with these.
        table: beside them.
        request: names the rows.
        forget: positions of the rows that it names.
        validation: held-out rows, clean.
        test: others, clean.
    """

    train: TensorSamples
    table: Named
    request: Request
    forget: torch.Tensor
    validation: Samples
    test: Samples

    def rows(self, part: Literal["validation", "test"]) -> dict[str, Samples]:
        """The sets that a model is asked about, by name, with held-out rows of one part."""
        held = {"validation": self.validation, "test": self.test}[part]
        found = {
            "Train_r": self.train.select(all_but(len(self.train), self.forget)),
            "Train_f": self.train.select(self.forget),
            "Test": held,
        }
        if self.request.labels:
            labels = held.batch(torch.arange(len(held)), {"label"})["label"]
            gone = (labels == REMOVED).nonzero().reshape(-1)
            found["Test_r"], found["Test_f"] = (
                held.select(all_but(len(held), gone)),
                held.select(gone),
            )
        return found


@cache
def removal(name: str, task: Task) -> Removal:
    """A task in a world."""
    its = room(name)
    train = its.train
    assert isinstance(train, TensorSamples)
    labels = train.columns["label"]
    if task == "class":
        target = Rows("label", (str(REMOVED),))
        request, forget = Request(task, target, labels=(REMOVED,)), (labels == REMOVED).nonzero()
        forget = forget.reshape(-1)
    else:
        share, classes = SHARES[task]
        draws, chosen = Run().generator(f"label-free/{task}"), []
        for mine in classes:
            places = (labels == mine).nonzero().reshape(-1)
            order = torch.randperm(len(places), generator=draws)
            chosen.append(places[order[: round(share * len(places))]])
        forget = torch.cat(chosen).sort().values
        request = Request(task, Rows("id", tuple(train.ids[row] for row in forget.tolist())))
        if task == "noisy labels":
            wrong = labels.clone()
            wrong[forget] = other_labels(labels[forget], CLASSES, draws)
            train = train.with_column("label", wrong)
    return Removal(train, _table(train), request, forget, its.validation, its.test)
