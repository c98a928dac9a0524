"""Speed of what classifier unlearning computes: row gradients, and methods against retraining.

Two questions. How much faster is the vectorised per-sample Fisher than a loop over the rows, where
both give the same numbers? How many seconds does a method take beside retraining, and what did it
leave behind? Seconds are processor time of this process, the best of several repeats, in turns;
another process on the same cores disturbs them less than it does the clock on the wall.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.changes.delta import Delta
from expunge.changes.kinds import Replacement
from expunge.data import mnist, own
from expunge.data.samples import Samples
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.methods.fisher_forgetting import FisherForgetting
from expunge.methods.influence import Influence
from expunge.methods.lfssd import LFSSD
from expunge.methods.protocol import Method
from expunge.methods.retrain import Retrain
from expunge.methods.ssd import SSD
from expunge.models.cnn import SmallCnn
from expunge.models.resnet import ResNet18
from expunge.models.vit import VisionTransformer
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy, accuracy_by_subject
from expunge.signals.ask import ask
from expunge.signals.fisher import diagonal_fisher
from expunge.signals.gradients import Gradients, RowGradients, one_by_one, vectorised

EQUAL = 1e-3
"""Largest difference of the two forms that counts as rounding, as a share of the largest value."""

THREES = Request("the threes", Rows("label", ("3",)))

METHODS: dict[str, Method] = {
    "ssd 9": SSD(9.0),
    "ssd published 40": SSD(40.0, as_published=True),
    "lfssd 10": LFSSD(10.0),
    "influence": Influence(damping=0.1),
    "fisher-forgetting": FisherForgetting(1e-6),
}
"""What is timed; numbers are alphas. They were set by hand on this one model, so that each does
something: no method is judged here."""


def run(rows: int = 256, repeats: int = 3, console: Console | None = None) -> dict[str, Any]:
    """Measure both questions.

    Args:
        rows: rows of which the Fisher diagonal is taken.
        repeats: of every measurement.
        console: where progress is drawn.

    Returns:
        JSON values: seconds, ratios, differences, accuracies.

    Raises:
        ExpungeError: the two forms of the Fisher differ by more than rounding.
    """
    work = digits_classifier_work()
    base = work.recipe.make(work.data, Run()).model
    cases = _cases(work, base, rows)
    with Run(console=console).progress("speed", len(cases) + len(METHODS) + 1) as bar:
        fisher = []
        for name, (family, model, samples) in cases.items():
            fisher.append(_fisher(name, family, model, samples, repeats))
            bar.advance()
        methods = []
        for name, method in {"retrain": Retrain(), **METHODS}.items():
            methods.append(_method(name, method, work, base, repeats))
            bar.advance()
    return {
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "fisher": fisher,
        "methods": [_original(work, base), *methods],
    }


def tables(result: dict[str, Any]) -> list[tuple[str, Sequence[str], list[Sequence[object]]]]:
    """Title, columns and rows of what is printed."""
    fisher: list[Sequence[object]] = [
        [
            row["model"],
            f"{row['parameters']:,}",
            row["rows"],
            f"{row['difference']:.0e}",
            f"{row['loop']:.2f}",
            f"{row['vectorised']:.2f}",
            f"{row['ratio']:.1f}",
        ]
        for row in result["fisher"]
    ]
    methods: list[Sequence[object]] = [
        [
            row["method"],
            *("-" if row[key] is None else f"{row[key]:.2f}" for key in ("prepare", "unlearn")),
            "-" if row["share"] is None else f"{100 * row['share']:.0f}",
            *(f"{100 * row[key]:.1f}" for key in ("forget", "retain", "test")),
        ]
        for row in result["methods"]
    ]
    best = f"best of {result['repeats']}, {result['threads']} threads"
    return [
        (
            f"Per-sample Fisher diagonal, processor seconds, {best}. differ: the largest "
            "difference as a share of the largest value; ratio: loop / vmap",
            ["model", "weights", "rows", "differ", "loop", "vmap", "ratio"],
            fisher,
        ),
        (
            f"Class 3 of the digits (a tenth of 1,078 rows), processor seconds, {best}; share: "
            "unlearning in % of retraining. Accuracies in %, the forgotten one against that of "
            "retrain, chance 10; test: the nine other classes. Alphas set by hand on this model",
            ["method", "prepare", "unlearn", "share", "forget", "retain", "test"],
            methods,
        ),
    ]


def _cases(work: Work, base: nn.Module, rows: int) -> dict[str, tuple[Family, nn.Module, Samples]]:
    table = mnist.load("train").select(range(rows))
    pictures = own.samples(table, mnist.tensors(table))
    family = Classifier(classes=10)
    generator = torch.Generator().manual_seed(0)
    few = min(rows, len(work.data[Role.TRAIN]))
    return {
        "MLP, digits": (
            work.recipe.family,
            base,
            work.data[Role.TRAIN].select(torch.arange(few)),
        ),
        "CNN, MNIST": (family, SmallCnn(generator), pictures),
        "ResNet-18/8, MNIST": (
            family,
            ResNet18(generator, width=8, channels=1),
            pictures.select(torch.arange(rows // 4)),
        ),
        "ViT 2 x 48, MNIST": (
            family,
            VisionTransformer(generator, 28, depth=2, width=48, patch=7, channels=1),
            pictures.select(torch.arange(rows // 4)),
        ),
    }


def _best(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """The least processor time of each action, in seconds; the actions take turns."""
    times = [float("inf")] * len(actions)
    for _ in range(repeats):
        for place, action in enumerate(actions):
            start = time.process_time()
            action()
            times[place] = min(times[place], time.process_time() - start)
    return times


def _fisher(
    name: str, family: Family, model: nn.Module, samples: Samples, repeats: int
) -> dict[str, Any]:
    """Both forms on one model: first that they agree, then their seconds."""

    def of(form: RowGradients) -> Gradients:
        return diagonal_fisher(family, model, samples, Run(), form)

    fast, slow = of(vectorised), of(one_by_one)
    largest = max(float(tensor.max()) for tensor in slow.values())
    difference = max(float((fast[n] - slow[n]).abs().max()) for n in slow) / largest
    if not difference <= EQUAL:
        raise ExpungeError(
            f"The two forms of the Fisher diagonal of {name} differ by {difference:.1g} of the "
            f"largest value, and {EQUAL:g} are allowed; their times would say nothing."
        )
    seconds, loop = _best(repeats, lambda: of(vectorised), lambda: of(one_by_one))
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "rows": len(samples),
        "difference": difference,
        "vectorised": seconds,
        "loop": loop,
        "ratio": loop / seconds,
    }


def _method(name: str, method: Method, work: Work, base: nn.Module, repeats: int) -> dict[str, Any]:
    """What one method takes to prepare and to answer the request, and what it left."""
    problem = _deployment(work, base).problem(THREES, method)
    seen, opened = (problem.opened(a) for a in (method.prepares_with, method.unlearns_with))
    artifact = method.prepare(seen, Run())
    [change] = method.unlearn(opened, artifact, Run()).changes
    assert isinstance(change, Delta | Replacement)
    prepare, unlearn, retrain = _best(
        repeats,
        lambda: method.prepare(seen, Run()),
        lambda: method.unlearn(opened, artifact, Run()),
        lambda: Retrain().unlearn(problem, artifact, Run()),
    )
    return {
        "method": name,
        "prepare": prepare if method.prepares_with.roles else None,
        "unlearn": unlearn,
        "retrain": retrain,
        "share": unlearn / retrain,
        **_scores(problem, change.applied_to(base), work),
    }


def _original(work: Work, base: nn.Module) -> dict[str, Any]:
    problem = _deployment(work, base).problem(THREES, Retrain())
    nothing = dict.fromkeys(("prepare", "unlearn", "retrain", "share"))
    return {"method": "original", **nothing, **_scores(problem, base, work)}


def _deployment(work: Work, base: nn.Module) -> Deployment:
    rows = work.data[Role.TRAIN]
    return Deployment(base, work.recipe.family, rows, work.table, Sum(), recipe=work.recipe)


def _scores(problem: Problem, model: nn.Module, work: Work) -> dict[str, float]:
    """Accuracy on the forget rows, the retain rows, and the test rows of the other classes."""
    forget, retain = (
        float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])
        for role in (Role.FORGET, Role.RETAIN)
    )
    found = accuracy_by_subject(ask(problem.family, model, work.test, Run()))
    others = [float(value[0]) for subject, value in found.items() if subject != "digit 3"]
    return {"forget": forget, "retain": retain, "test": sum(others) / len(others)}
