"""Speed of ACU: a request of ten rows against solving anew from 60,000 rows of clothes.

The features (2,048 random ones of the pixels of Fashion-MNIST) are at hand for everybody, so that a
retraining is one product of all rows with themselves and one solution. It is timed twice: as our
learner forms the product, and with a routine that computes one half of it, since it is symmetric,
the fastest retraining that we know of. A request is timed as algebra alone, and as the whole
method, which reads the rows through the model, checks that they are there, and writes the head and
its certificate. Seconds are processor time of this process, the least of several repeats; before
any ratio is told, the heads are held against each other.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor, nn

from expunge.benchmarks.classification.worlds import world
from expunge.changes.history import History
from expunge.data.samples import Joined, Samples
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.learning.supervised.ridge import Chunk, Recursion, Resolve, Solved, Solver, Sums
from expunge.learning.supervised.ridge_head import RidgeHead, kept_by
from expunge.methods.acu import ACU
from expunge.methods.protocol import unlearn
from expunge.models.random_features import RandomReLU
from expunge.problem import Problem
from expunge.recipe import Role, Trained
from expunge.requests import Request, Rows
from expunge.run import Run

CLASSES, RIDGE, REQUEST = 10, 1.0, 10
"""Outputs, lambda, and rows of a request."""

AT_ONCE = 4096
"""Rows of one product of a retraining."""

EQUAL = 1e-10
"""Largest distance of two heads, as a share of their norm, at which their times are compared."""

FLOOR = 100.0
"""Times faster than a retraining that a request is to be."""


def run(rows: int, width: int, repeats: int, told: Callable[[str], None]) -> dict[str, Any]:
    """Time retraining and requests.

    Args:
        rows: of Fashion-MNIST, of its training and validation rows.
        width: random features.
        repeats: of each request; retraining is timed once each way, since it takes so long.
        told: is told what is done.

    Returns:
        JSON values: seconds and ratios.

    Raises:
        ExpungeError: Fashion-MNIST was not fetched, or two heads differ by more than rounding.
    """
    clothes = world("clothes")
    everything = Joined.of(clothes.train, clothes.validation)
    samples = everything.select(torch.arange(min(rows, len(everything))))
    model = nn.Sequential(
        nn.Flatten(), RandomReLU(784, width), nn.Linear(width, CLASSES, bias=False)
    )
    told(f"{len(samples):,} rows, {width:,} features, learned by the learner")
    solvers: dict[str, Solver] = {"recursion": Recursion(), "resolve": Resolve()}
    learner, family = RidgeHead(RIDGE), Classifier(classes=CLASSES)
    seconds, trained = _timed(lambda: learner.fit(model, family, {Role.TRAIN: samples}, Run()))
    told("learned anew from features, in two ways")
    features, labels = _features(learner, model, samples)
    anew, whole = _timed(lambda: _retrained(features, labels, slice(0, None)))
    half, symmetric = _timed(lambda: _symmetric(features, labels))
    left = _retrained(features, labels, slice(REQUEST, None))
    _check("a retraining and the learner", whole, kept_by(trained.record).solved.head)
    _check("two retrainings", symmetric, whole)
    request = Chunk(features[:REQUEST].double(), _hot(labels[:REQUEST]))
    found: dict[str, Any] = {}
    for name, solver in solvers.items():
        told(f"requests of {REQUEST} rows, {name}")
        own = RidgeHead(RIDGE, solver)
        start = solver.anew(kept_by(trained.record).solved.sums, RIDGE)
        found[name] = {
            **_request(start, solver, request, left, repeats),
            "method": _method(own, trained, start, samples, repeats),
        }
    for times in found.values():
        for kind in ("algebra", "method"):
            times[f"{kind} ratio"] = anew / times[kind]
            times[f"{kind} ratio to the symmetric"] = half / times[kind]
    return {
        "rows": len(samples),
        "width": width,
        "request": REQUEST,
        "ridge": RIDGE,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "floor": FLOOR,
        "learning from pictures": seconds,
        "anew": anew,
        "anew, symmetric": half,
        "requests": found,
    }


def table(result: dict[str, Any]) -> tuple[str, list[str], list[list[object]], str]:
    """Title, columns, rows, and what stands below."""
    rows: list[list[object]] = [
        ["anew from the features of all rows", result["anew"], 1.0, None],
        ["the same, symmetric product", result["anew, symmetric"], None, 1.0],
    ]
    for name, its in result["requests"].items():
        for kind in ("algebra", "method"):
            ratios = its[f"{kind} ratio"], its[f"{kind} ratio to the symmetric"]
            rows.append([f"a request, {name}, {kind}", its[kind], *ratios])
    title = (
        f"{result['request']} of {result['rows']:,} rows removed, {result['width']:,} features, "
        f"{result['threads']} thread(s)"
    )
    met = result["requests"]["recursion"]["algebra ratio"] >= result["floor"]
    below = (
        f"Ratios: times faster than anew. Expected of the recursion: {result['floor']:g} x; "
        f"{'met' if met else 'not met'}. Seconds of processor time, best of {result['repeats']} "
        "for requests. A method's seconds include the model, the check of the rows and the "
        f"certificate. Distance to the retrained head: "
        + ", ".join(f"{name} {its['apart']:.1g}" for name, its in result["requests"].items())
        + "."
    )
    return title, ["", "seconds", "ratio", "to the symmetric"], rows, below


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    done = action()
    return time.process_time() - start, done


def _least(action: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """The least time, after one that is not counted."""
    action()
    times = [_timed(action) for _ in range(repeats)]
    return min(seconds for seconds, _ in times), times[-1][1]


def _features(learner: RidgeHead, model: nn.Module, samples: Samples) -> tuple[Tensor, Tensor]:
    """Rounded features of all rows as float32, which holds them exactly here, and labels."""
    parts = list(learner.gathered(model, Classifier(classes=CLASSES), samples, Run()))
    features = torch.cat([part.features.float() for part in parts])
    return features, torch.cat([part.labels for part in parts])


def _hot(labels: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels, CLASSES).double()


def _retrained(features: Tensor, labels: Tensor, where: slice) -> Tensor:
    """The head of rows whose features are at hand, by the learner's own sums."""
    sums = Sums.none(features.shape[1], CLASSES)
    parts = zip(
        torch.split(features[where], AT_ONCE), torch.split(labels[where], AT_ONCE), strict=True
    )
    for some, their in parts:
        sums = sums.moved(Chunk(some.double(), _hot(their)), 1)
    return Resolve().anew(sums, RIDGE).head


def _symmetric(features: Tensor, labels: Tensor) -> Tensor:
    """The same with one half of the product computed."""
    width = features.shape[1]
    upper = torch.zeros(width, width, dtype=torch.float64).numpy().T
    cross = torch.zeros(width, CLASSES, dtype=torch.float64)
    for some, their in zip(
        torch.split(features, AT_ONCE), torch.split(labels, AT_ONCE), strict=True
    ):
        part = some.double()
        upper = dsyrk(1.0, part.numpy().T, beta=1.0, c=upper, overwrite_c=True)
        cross.addmm_(part.T, _hot(their))
    gram = torch.from_numpy(upper)
    gram = gram.triu() + gram.triu(1).T
    counts = torch.bincount(labels, minlength=CLASSES)
    return Resolve().anew(Sums(gram, cross, counts), RIDGE).head


def _request(
    start: Solved, solver: Solver, request: Chunk, left: Tensor, repeats: int
) -> dict[str, float]:
    seconds, after = _least(lambda: solver.moved(start, RIDGE, [request], -1), repeats)
    if after.why:
        raise ExpungeError(
            f"The recursion solved anew ({after.why}), so that its time would be that of another "
            "algorithm; give a larger ridge."
        )
    _check("a request and a retraining without its rows", after.head, left)
    return {"algebra": seconds, "apart": _apart(after.head, left)}


def _method(
    learner: RidgeHead, trained: Trained, start: Solved, samples: Samples, repeats: int
) -> float:
    """Seconds of the whole method on a request."""
    kept = kept_by(trained.record)
    own = learner.trained(trained.model, type(kept)(start, kept.rows))
    problem = Problem(
        own.model,
        Classifier(classes=CLASSES),
        Request("ten rows", Rows("id", tuple(samples.ids[:REQUEST]))),
        {Role.FORGET: samples.select(torch.arange(REQUEST))},
        History(),
        record=own.record,
    )
    return _least(lambda: unlearn(ACU(), problem, Run()), repeats)[0]


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _check(what: str, one: Tensor, other: Tensor) -> None:
    if not _apart(one, other) <= EQUAL:
        raise ExpungeError(
            f"The heads of {what} differ by {_apart(one, other):.1g} of their norm, and {EQUAL:g} "
            "is allowed; their times would say nothing."
        )
