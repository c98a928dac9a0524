"""Speed of what classifier unlearning computes: row gradients, steps, methods against retraining.

Four questions. How much faster is the vectorised per-sample Fisher than a loop over the rows, where
both give the same numbers? What does a step under SalUn's mask cost beside one without? What do
bfloat16 and the channels-last layout of pictures bring, and cost in accuracy? How many seconds does
a method take beside retraining, and what did it leave behind? Seconds are processor time of this
process, the best of several repeats, in turns; another process on the same cores disturbs them less
than it does the clock on the wall.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from rich.console import Console
from torch import nn

from expunge.aggregation.sum import Sum
from expunge.benchmarks.shipped import Work, digits_classifier_work
from expunge.benchmarks.step_times import step_ends
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data import mnist, own
from expunge.data.samples import Samples, TensorSamples
from expunge.deployment import Deployment
from expunge.descent.length import Epochs
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import On, Player
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.classifier import Classifier
from expunge.methods.fisher_forgetting import FisherForgetting
from expunge.methods.influence import Influence
from expunge.methods.lfssd import LFSSD
from expunge.methods.protocol import Method
from expunge.methods.random_label import RandomLabel
from expunge.methods.retrain import Retrain
from expunge.methods.salun import SalUn
from expunge.methods.ssd import SSD
from expunge.models.cnn import SmallCnn
from expunge.models.resnet import ResNet18
from expunge.models.vit import VisionTransformer
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST, Request, Rows
from expunge.run import Precision, Run
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


LAYOUTS: Mapping[str, tuple[Precision, bool]] = {
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    "channels last": ("float32", True),
    "both": ("bfloat16", True),
}
"""Precision of the forward passes, and whether pictures are laid out with channels last."""

BATCH = 64
"""Rows of a timed step."""

TURNS = 4
"""Turns of each descent with and without a mask in a repeat: their steps differ by little."""

EPOCHS = 6
"""Passes of the trainings whose accuracies are compared."""

HELD_OUT = 1000
"""Test rows that they are compared on."""


def run(rows: int = 256, repeats: int = 3, console: Console | None = None) -> dict[str, Any]:
    """Measure all questions.

    Args:
        rows: rows of which the Fisher diagonal is taken; four times as many are trained on where
            precisions are compared.
        repeats: of every measurement.
        console: where progress is drawn.

    Returns:
        JSON values: seconds, ratios, differences, accuracies.

    Raises:
        ExpungeError: the two forms of the Fisher differ by more than rounding, or a mask that lets
            everything move changes a bit.
    """
    work = digits_classifier_work()
    base = work.recipe.make(work.data, Run()).model
    cases = _cases(work, base, rows)
    networks = _networks()
    count = len(cases) + 2 * len(networks) + len(METHODS) + 1
    with Run(console=console).progress("speed", count) as bar:
        fisher = []
        for name, (family, model, samples) in cases.items():
            fisher.append(_fisher(name, family, model, samples, repeats))
            bar.advance()
        masked, precision = [], []
        for name, builder in networks.items():
            masked.append(_masked(name, builder(), _pictures("train", rows), repeats))
            bar.advance()
            precision.append(_precision(name, builder, 4 * rows))
            bar.advance()
        methods = []
        for name, method in {"retrain": Retrain(), **METHODS}.items():
            methods.append(_method(name, method, work, base, repeats))
            bar.advance()
    return {
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "fisher": fisher,
        "masked": masked,
        "precision": precision,
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
    masked: list[Sequence[object]] = [
        [
            row["model"],
            f"{row['parameters']:,}",
            f"{1e3 * row['unmasked']:.1f}",
            f"{1e3 * row['masked']:.1f}",
            f"{row['ratio']:.3f}",
        ]
        for row in result["masked"]
    ]
    precision: list[Sequence[object]] = [
        [
            row["model"],
            row["rows"],
            *(
                f"{1e3 * row[name]['seconds']:.1f} / {100 * row[name]['accuracy']:.1f}"
                for name in LAYOUTS
            ),
        ]
        for row in result["precision"]
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
            f"A step of SalUn (half of the weights) and of random label, batches of {BATCH}, "
            f"processor milliseconds, {best}. A mask of ones gives the same bits as none",
            ["model", "weights", "unmasked", "masked", "ratio"],
            masked,
        ),
        (
            f"A step of training, batches of {BATCH}, processor milliseconds, the best of all "
            f"steps, {result['threads']} threads / test accuracy in % after {EPOCHS} epochs, "
            "chance 10",
            ["model", "rows", *LAYOUTS],
            precision,
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


def _networks() -> dict[str, Callable[[], nn.Module]]:
    """What makes each network anew."""

    def seed() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    return {
        "CNN": lambda: SmallCnn(seed()),
        "ResNet-18/16": lambda: ResNet18(seed(), width=16, channels=1),
        "ViT 2 x 48": lambda: VisionTransformer(seed(), 28, depth=2, width=48, patch=7, channels=1),
    }


def _pictures(split: str, rows: int) -> TensorSamples:
    table = mnist.load(split)
    rows = min(rows, len(table))
    table = table.select([place * len(table) // rows for place in range(rows)])  # of every class
    return own.samples(table, mnist.tensors(table))


def _masked(name: str, model: nn.Module, rows: Samples, repeats: int) -> dict[str, Any]:
    """A step of the same descent with a mask and without; first that a mask of ones is none."""
    half = len(rows) // 2
    data = {
        Role.FORGET: rows.select(torch.arange(half)),
        Role.RETAIN: rows.select(torch.arange(half, len(rows))),
    }
    problem = Problem(model, Classifier(classes=10), NO_REQUEST, data, History())
    free = RandomLabel(1, 0.01, batch_size=BATCH).descent()
    whole, masked = (SalUn(kept, 1, 0.01, batch_size=BATCH).descent() for kept in (1.0, 0.5))
    if len({digest_of(each.minimise(problem, Run()).model) for each in (free, whole)}) != 1:
        raise ExpungeError(
            f"A step of {name} under a mask of ones ends in other bits than one without a mask; "
            "their times would say nothing."
        )
    seconds = [float("inf")] * 2
    for _ in range(TURNS * repeats):
        for place, descent in enumerate((free, masked)):
            seconds[place] = min(seconds[place], _step(descent, problem, Run())[0])
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "unmasked": seconds[0],
        "masked": seconds[1],
        "ratio": seconds[1] / seconds[0],
    }


def _precision(name: str, builder: Callable[[], nn.Module], rows: int) -> dict[str, Any]:
    """A step of training in every precision and layout, and the accuracy that it leads to."""
    family, test = Classifier(classes=10), _pictures("test", HELD_OUT)
    data = {Role.TRAIN: _pictures("train", rows)}
    player = Player(others={"train": On(Role.TRAIN, Loss())}, optimiser=AdamW(1e-3))
    training = Descent(player, length=Epochs(EPOCHS, of=Role.TRAIN), batch_size=BATCH)
    found: dict[str, Any] = {"model": name, "rows": len(data[Role.TRAIN])}
    for form, (precision, last) in LAYOUTS.items():
        model = builder()
        if last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        problem, run = Problem(model, family, NO_REQUEST, data, History()), Run(precision=precision)
        seconds, trained = _step(training, problem, run)
        right = float(accuracy(ask(family, trained, test, run))[0])
        found[form] = {"seconds": seconds, "accuracy": right}
    return found


def _step(descent: Descent, problem: Problem, run: Run) -> tuple[float, nn.Module]:
    """The least processor time between the ends of two steps, and where the descent ends."""
    ends, model = step_ends(descent, problem, run)
    return min(later - sooner for sooner, later in pairwise(ends)), model


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
    after = method.unlearn(opened, artifact, Run()).applied_to(base)
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
        **_scores(problem, after, work),
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
