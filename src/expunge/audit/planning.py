"""A plan: what answering requests would mean, found without answering them.

Rows of every request, the methods that fit and why the others do not, what it would cost, and what
could go wrong (:mod:`expunge.audit.risks`). The deployment stays as it is.
"""

import copy
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from expunge.audit.measure import rows_held
from expunge.audit.probe import Cost, Estimate, Probe, View
from expunge.changes.deletion import DeletionState
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.methods.protocol import Method, Outcome, Suppresses, missing
from expunge.methods.retrain import Retrain
from expunge.problem import Problem
from expunge.requests import Named, Request, resolve


@dataclass(frozen=True)
class Group:
    """A class or a subject of which a request names rows.

    ``rows`` are those of the training table, ``named`` those of the request among them, ``left``
    those that no request up to and with this one names, and ``held_out`` those of the test table.
    """

    column: str
    value: str
    rows: int
    named: int
    left: int
    held_out: int


@dataclass(frozen=True)
class Asked:
    """The rows of one request, in their order; ``refused`` says why there are none.

    ``excluded`` are the rows that earlier requests removed, ``share`` is of the training set.
    """

    name: str
    column: str
    forget: int = 0
    retain: int = 0
    excluded: int = 0
    held_out: int = 0
    share: float = 0.0
    groups: tuple[Group, ...] = ()
    refused: str | None = None

    def of(self, column: str) -> tuple[Group, ...]:
        """The groups of one column."""
        return tuple(group for group in self.groups if group.column == column)


@dataclass(frozen=True)
class Overlap:
    """Rows that two requests share."""

    first: str
    second: str
    training: int
    held_out: int


@dataclass(frozen=True)
class Fit:
    """Whether a method can answer the requests: ``lacks`` is empty where it can.

    ``starts`` is the model that it starts from, ``returns`` what it gives, ``state`` the deletion
    state that it leaves.
    """

    name: str
    lacks: tuple[str, ...]
    reads: str = ""
    prepares_with: str = ""
    starts: str = ""
    returns: str = ""
    state: str = ""


@dataclass(frozen=True)
class Costed:
    """What a method costs, request by request; ``failed`` says why the probe found nothing."""

    name: str
    cost: Cost | None
    failed: str | None = None

    @property
    def total(self) -> Estimate | None:
        """All requests together; the ends of the range are added, as if all erred alike."""
        if self.cost is None or not self.cost.estimates:
            return None
        parts = self.cost.estimates
        touched: Counter[str] = Counter()
        for part in parts:
            touched.update(part.touched)
        return Estimate(
            sum(p.seconds for p in parts),
            sum(p.low for p in parts),
            sum(p.high for p in parts),
            dict(touched),
            parts[-1].how,
        )


@dataclass(frozen=True)
class Plan:
    """All that is known beforehand. ``oracle`` is one retraining without the rows of all requests,
    where there is a recipe; ``probed`` the seconds that the probes took."""

    asked: tuple[Asked, ...]
    overlaps: tuple[Overlap, ...]
    fits: tuple[Fit, ...]
    costs: tuple[Costed, ...]
    oracle: Estimate | None
    probed: float
    device: str


def plan(
    deployment: Deployment,
    requests: Sequence[Request],
    method: Method,
    test_table: Named,
    *,
    registered: Mapping[str, Method],
    others: Mapping[str, Method],
    probe: Probe | None,
) -> Plan:
    """The plan of answering ``requests`` with ``method``.

    Args:
        deployment: the model in use, with the requests that it has answered.
        requests: in the order in which they would be answered.
        method: what is to answer them.
        test_table: the columns of the held-out rows.
        registered: methods by name, with their defaults; each is said to fit or not.
        others: further methods whose cost is to be estimated.
        probe: how costs are found; None leaves them out.
    """
    asked = rows_of(deployment, requests, test_table)
    served = [r for r, found in zip(requests, asked, strict=True) if found.refused is None]
    candidates = {**registered, **others, method.name: method}
    fits = tuple(fit_of(name, each, deployment, served) for name, each in candidates.items())
    start = time.perf_counter()
    costs: tuple[Costed, ...] = ()
    if probe is not None and served:
        wanted = {method.name: method, **others}
        fitting = {f.name for f in fits if not f.lacks}
        wanted = {name: each for name, each in wanted.items() if name in fitting}
        if deployment.recipe is not None:
            wanted.setdefault(Retrain.name, Retrain())
        costs = tuple(_costed(each, deployment, served, probe, wanted) for each in wanted.values())
    return Plan(
        asked,
        overlaps_of(deployment, requests, asked, test_table),
        fits,
        costs,
        _oracle(costs),
        time.perf_counter() - start,
        "cpu" if probe is None else probe.device,
    )


def _oracle(costs: Sequence[Costed]) -> Estimate | None:
    """Retraining at the last request leaves out the rows of all."""
    for costed in costs:
        if costed.name == Retrain.name and costed.cost is not None and costed.cost.estimates:
            return costed.cost.estimates[-1]
    return None


def rows_of(
    deployment: Deployment, requests: Sequence[Request], test_table: Named
) -> tuple[Asked, ...]:
    """The rows of each request, those before it taken as answered."""
    table = deployment.table
    earlier = list(deployment.history.requests())
    columns = grouping(table)
    held = {name: Counter(_texts(test_table, name) or ()) for name in columns}
    gone = torch.zeros(len(table), dtype=torch.bool)
    for past in earlier:
        gone[past.target.rows(table)] = True
    found = []
    for request in requests:
        column = getattr(request.target, "column", request.target.kind)
        try:
            rows = resolve(request, table, earlier)
        except ExpungeError as error:
            found.append(Asked(request.name, column, refused=str(error)))
            continue
        earlier.append(request)
        gone[rows.forget] = True
        forget, retain = len(rows.forget), len(rows.retain)
        found.append(
            Asked(
                request.name,
                column,
                forget,
                retain,
                len(table) - forget - retain,
                len(rows_held(request.target, test_table)),
                forget / len(table),
                groups_of(columns, held, rows.forget, gone),
            )
        )
    return tuple(found)


def grouping(table: Named) -> dict[str, list[str]]:
    """The values (n) of the columns that hold groups: classes and subjects, where there are."""
    return {name: _texts(table, name) for name in ("label", "subject") if _counts(table, name)}


def groups_of(
    columns: Mapping[str, Sequence[str]],
    held: Mapping[str, Counter[str]],
    forget: Tensor,
    gone: Tensor,
) -> tuple[Group, ...]:
    """The groups of which rows are forgotten.

    Args:
        columns: as :func:`grouping` gives them.
        held: how often each value of a column stands in the held-out table.
        forget: positions (n,) of the rows to forget.
        gone: rows (N,) bool that are forgotten with them or were before.
    """
    found = []
    left_rows = (~gone).nonzero().reshape(-1).tolist()
    for column, values in columns.items():
        rows, named = Counter(values), Counter(values[i] for i in forget.tolist())
        left = Counter(values[i] for i in left_rows)
        found += [
            Group(column, value, rows[value], count, left[value], held[column][value])
            for value, count in sorted(named.items())
        ]
    return tuple(found)


def _counts(table: Named, column: str) -> bool:
    """Whether a column holds groups: it is there, and holds no measured numbers."""
    return column in table.column_names and not any(isinstance(v, float) for v in table[column][:1])


def _texts(table: Named, column: str) -> list[str]:
    return [str(v) for v in table[column][:]] if column in table.column_names else []


def overlaps_of(
    deployment: Deployment, requests: Sequence[Request], asked: Sequence[Asked], test_table: Named
) -> tuple[Overlap, ...]:
    """The pairs of requests that share rows; requests that were refused have none."""
    sets = [
        (r.name, set(r.target.rows(deployment.table).tolist()), _held(r, test_table))
        for r, found in zip(requests, asked, strict=True)
        if found.refused is None
    ]
    pairs = (
        Overlap(first, second, len(rows & others), len(held & others_held))
        for (first, rows, held), (second, others, others_held) in combinations(sets, 2)
    )
    return tuple(pair for pair in pairs if pair.training or pair.held_out)


def _held(request: Request, test_table: Named) -> set[int]:
    return set(rows_held(request.target, test_table).tolist())


def fit_of(name: str, method: Method, deployment: Deployment, requests: Sequence[Request]) -> Fit:
    """Whether a method fits, by the check that unlearning itself makes."""
    try:
        lacks: tuple[str, ...] = ("no request names rows",)
        if requests:
            problem = problems(deployment, requests[:1], method)[0]
            lacks = tuple(lack.clause for lack in missing(method, problem))
        return Fit(
            name,
            lacks,
            method.unlearns_with.describe(),
            method.prepares_with.describe(),
            "current model" if method.sequential else "base",
            *_left_by(method),
        )
    except Exception as error:  # a third party's method may fail in any way
        return Fit(name, (f"cannot be used: {_said(error)}",))


def _left_by(method: Method) -> tuple[str, str]:
    """What a method returns, in words, and the deletion state that it leaves."""
    if isinstance(method, Suppresses):
        return method.suppresses_by, DeletionState.SUPPRESSED.value
    if isinstance(method, Retrain):
        return "new weights", DeletionState.RETRAINED.value
    return "new weights" if method.sequential else "delta", DeletionState.EDITED.value


def problems(deployment: Deployment, requests: Sequence[Request], method: Method) -> list[Problem]:
    """What the method would see of each request, those before it taken as answered.

    The rows are views, so that a plan copies none; the deployment is not changed.
    """
    sketch = copy.copy(deployment)  # what is served to it leaves the deployment as it is
    sketch.train = View(deployment.train, torch.arange(len(deployment.train)))
    found = []
    for request in requests:
        found.append(sketch.problem(request, method))
        sketch.serve(request, method, Outcome(()))
    return found


def _costed(
    method: Method,
    deployment: Deployment,
    requests: Sequence[Request],
    probe: Probe,
    wanted: Mapping[str, Method],
) -> Costed:
    try:
        seen = problems(deployment, requests, method)
        return Costed(method.name, probe.cost(method, seen, probe.budget.seconds / len(wanted)))
    except Exception as error:  # a third party's method may fail in any way
        return Costed(method.name, None, _said(error))


def _said(error: Exception) -> str:
    """One line; with the kind of errors that are not ours."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, ExpungeError) else f"{type(error).__name__}: {first}"
