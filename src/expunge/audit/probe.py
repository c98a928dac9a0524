"""What a method costs, found by letting it run for a moment on a copy of the model.

Any method can be probed. There are three ways to an estimate, and the best that applies is taken:

- ``whole``: the method came to its end within the time; nothing is extrapolated.
- ``steps``: it was stopped inside its one loop, which had said how many steps it would take. Their
  pace gives the time, and the order of its batches the rows.
- ``rows``: it shows no steps, or several loops. It runs to its end on two shares of the rows of
  every role, and a straight line through both leads to all rows.
"""

import copy
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from expunge.audit.watching import Enough, Loop, Watch, WatchedRun
from expunge.changes.delta import Delta, Sparse
from expunge.changes.kinds import Change, Replacement
from expunge.changes.stored import kind_of, save
from expunge.changes.weights import stored_tensors
from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.length import batches_of
from expunge.errors import ExpungeError
from expunge.methods.protocol import Method, Outcome, unlearn
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Precision, peak_memory

How = Literal["whole", "steps", "rows", "between"]


@dataclass(frozen=True)
class Budget:
    """How long a plan may try things out.

    Args:
        seconds: for all probes of a plan together. A step that has begun is finished, so that slow
            steps make it longer.
        rehearsal: share of the time for a first run on a few rows, which shows what is returned.
        few: rows of each role in that run.
        steps: steps from which a pace is taken; the first is left out, since it warms things up.
        requests: most requests that are probed for each method, spread over the sizes of their
            forget sets; what lies between is interpolated.
        drift: half the width of the range around an estimate, as a share of it: how far two runs of
            the same work lie apart on one machine (docs/plan.md has the measured ratios).
    """

    seconds: float = 6.0
    rehearsal: float = 0.2
    few: int = 16
    steps: int = 5
    requests: int = 3
    drift: float = 0.5


@dataclass(frozen=True)
class Estimate:
    """Seconds with their range, and the rows of each role that will be touched.

    ``how`` is ``between`` where the request was not probed itself: its figures lie between those of
    the probed requests with fewer and with more rows to forget.
    """

    seconds: float
    low: float
    high: float
    touched: Mapping[str, int]
    how: How


@dataclass(frozen=True)
class Footprint:
    """Bytes beyond the model in use.

    ``weights`` is one working copy, ``optimiser`` its states, ``activations`` what one step keeps
    for its backward pass; ``change`` what is stored, None where the probe did not see the end.
    ``peak`` is the largest memory of this whole process so far: libraries, data and probes.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    peak: int
    change: int | None

    @property
    def working(self) -> int:
        """All that lives at once in a step."""
        return self.weights + self.gradients + self.optimiser + self.activations


@dataclass(frozen=True)
class Cost:
    """What a method costs for each probed or interpolated request.

    ``kinds`` are the changes that it returned, none where every try was stopped.
    """

    estimates: tuple[Estimate, ...]
    footprint: Footprint
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class _Tried:
    """One try; ``outcome`` is None where it was stopped."""

    outcome: Outcome | None
    started: float
    ended: float
    watch: Watch

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass(frozen=True)
class View:
    """Samples of which rows were selected and none was copied yet; ``taken`` copies them."""

    samples: Samples
    rows: Tensor

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the selected rows."""
        return [self.samples.ids[i] for i in self.rows.tolist()]

    @property
    def subjects(self) -> Sequence[str]:
        """Their subjects."""
        return [self.samples.subjects[i] for i in self.rows.tolist()]

    @property
    def fields(self) -> frozenset[str]:
        """The fields of the samples."""
        return self.samples.fields

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        """A batch of the selected rows."""
        return {**self.samples.batch(self.rows[rows], fields), ROW: rows}

    def select(self, rows: Tensor) -> "View":
        """The view of some of them."""
        return View(self.samples, self.rows[rows])

    def taken(self, rows: Tensor) -> Samples:
        """Samples of the original's own kind."""
        return self.samples.select(self.rows[rows])


@dataclass(frozen=True)
class Probe:
    """Tries methods on one device, from one seed, within a budget."""

    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "float32"

    def cost(self, method: Method, problems: Sequence[Problem], seconds: float) -> Cost:
        """What the method costs for the problems of several requests.

        Neither the problems' model nor torch's global random numbers are changed. What the method
        raises, this raises.
        """
        _warmed(self.device)
        end = time.perf_counter() + seconds
        few = _part(method, problems[0], 0.0, self.budget.few)
        try:
            first = self._tried(method, few, self.budget.rehearsal * seconds)
        except ExpungeError:  # few rows may hold too little for a preset; if all do, that is raised
            whole = _part(method, problems[0], 1.0)
            first = self._tried(method, whole, self.budget.rehearsal * seconds)
        chosen = _spread([len(p.data[Role.FORGET]) for p in problems], self.budget.requests)
        found: dict[int, Estimate] = {}
        tries = [first]
        for left, i in zip(range(len(chosen), 0, -1), chosen, strict=True):
            share = max(0.0, end - time.perf_counter()) / left
            estimate, seen = self._estimated(method, problems[i], first, share)
            tries += seen
            if estimate is not None:
                found[i] = estimate
        ended = [tried.outcome.changes for tried in tries if tried.outcome is not None]
        footprint = Footprint(
            sum(t.numel() * t.element_size() for t in stored_tensors(problems[0].model).values()),
            max(tried.watch.gradients for tried in tries),
            max(tried.watch.optimiser for tried in tries),
            max(tried.watch.activations for tried in tries),
            peak_memory(),
            sum(map(stored_bytes, ended[-1])) if ended else None,
        )
        estimates = _interpolated(found, [len(p.data[Role.FORGET]) for p in problems])
        kinds = tuple(map(kind_of, ended[-1])) if ended else ()
        return Cost(estimates, footprint, kinds)

    def _tried(self, method: Method, problem: Problem, seconds: float) -> _Tried:
        companions = {name: copy.deepcopy(part) for name, part in problem.companions.items()}
        own = replace(problem, model=copy.deepcopy(problem.model), companions=companions)
        start, outcome = time.perf_counter(), None
        watch = Watch(deadline=start + seconds, hard=start + 3 * seconds, steps=self.budget.steps)
        run = WatchedRun(self.seed, self.device, self.precision, meter=watch)
        with run.seeded("probe"), watch.watching(own.model), suppress(Enough):
            outcome = unlearn(method, own, run)
        return _Tried(outcome, start, time.perf_counter(), watch)

    def _estimated(
        self, method: Method, problem: Problem, first: _Tried, seconds: float
    ) -> tuple[Estimate | None, list[_Tried]]:
        """The estimate, and every try on the way."""
        loops, tries = len(first.watch.loops), list[_Tried]()
        if loops == 1 or (loops == 0 and first.watch.touched):
            whole = _part(method, problem, 1.0)
            tried = self._tried(method, whole, seconds if loops else seconds / 2)
            tries.append(tried)
            if tried.outcome is not None:
                if seconds - tried.seconds > tried.seconds:
                    tries.append(self._tried(method, whole, seconds - tried.seconds))
                return self._whole([t for t in tries if t.outcome is not None]), tries
            if len(tried.watch.loops) == 1:
                return self._from_steps(tried, method, problem, first), tries
        estimate, seen = self._from_rows(method, problem, seconds / 2 if tries else seconds)
        return estimate, [*tries, *seen]

    def _whole(self, ends: Sequence[_Tried]) -> Estimate:
        """The last of one or two whole runs: the first warms things up."""
        took = [tried.seconds for tried in ends]
        return self._ranged(took[-1], took, dict(ends[-1].watch.touched), "whole")

    def _ranged(
        self, seconds: float, likewise: Sequence[float], touched: Mapping[str, int], how: How
    ) -> Estimate:
        """The range spans what the tries would ``likewise`` suggest, and the drift beyond it."""
        low = min(seconds, *likewise) * (1 - self.budget.drift)
        high = max(seconds, *likewise) * (1 + self.budget.drift)
        return Estimate(seconds, low, high, touched, how)

    def _from_steps(
        self, tried: _Tried, method: Method, problem: Problem, first: _Tried
    ) -> Estimate:
        loop = tried.watch.loops[0]
        took = np.diff(loop.at)
        steady = took[1:] if len(took) > 1 else took
        left = loop.total - loop.steps
        tail = first.ended - first.watch.loops[-1].at[-1] if first.outcome is not None else 0.0
        spent = loop.at[-1] - tried.started + tail
        blocks = np.array_split(steady, min(4, len(steady)))
        touched = {
            role: touched_after(tried.watch, loop, role, _rows_of(role, method, problem))
            for role in tried.watch.touched
        }
        likewise = [spent + left * float(block.mean()) for block in blocks]
        return self._ranged(spent + left * float(steady.mean()), likewise, touched, "steps")

    def _from_rows(
        self, method: Method, problem: Problem, seconds: float
    ) -> tuple[Estimate | None, list[_Tried]]:
        """Runs on ever larger shares, each twice the one before; a line through the last two."""
        end = time.perf_counter() + seconds
        points: list[tuple[Problem, _Tried]] = []
        for part, whole in _growing(method, problem, 2 * self.budget.few):
            left = end - time.perf_counter()
            if len(points) > 1 and 2.5 * points[-1][1].seconds > left:
                break
            allowed = left if len(points) != 1 else max(left, 4 * points[0][1].seconds)
            try:
                tried = self._tried(method, part, allowed)
            except ExpungeError:
                if whole:
                    raise
                continue  # a part may hold too little for a preset
            if tried.outcome is None:
                break
            points.append((part, tried))
            if whole:
                return self._whole([tried]), [t for _, t in points]
        line = self._line(points[-2:], method, problem) if len(points) > 1 else None
        return line, [tried for _, tried in points]

    def _line(
        self, points: Sequence[tuple[Problem, _Tried]], method: Method, problem: Problem
    ) -> Estimate:
        touched = {}
        for role in points[-1][1].watch.touched:
            at = [(_rows_of(role, method, part), t.watch.touched[role]) for part, t in points]
            touched[role] = round(_through(at, _rows_of(role, method, problem)))
        rows = [sum(t.watch.touched.values()) for _, t in points]
        target = sum(touched.values())
        if rows[0] == rows[1]:  # it counts no rows: those that it was given stand for them
            opened = points[0][0].data
            rows = [sum(len(part.data[role]) for role in opened) for part, _ in points]
            target = sum(len(problem.data[role]) for role in opened)
        took = [t.seconds for _, t in points]
        line = max(took[1], _through(list(zip(rows, took, strict=True)), target))
        in_proportion = took[1] * target / max(1, rows[1])
        return self._ranged(line, [in_proportion], touched, "rows")


def _warmed(device: str) -> None:
    """One step of an optimiser, since torch loads much of itself at the first, which would be
    taken for the cost of the method."""
    weight = torch.nn.Parameter(torch.zeros(1, device=device))
    optimiser = torch.optim.AdamW([weight])
    weight.grad = torch.zeros_like(weight)
    optimiser.step()


def _rows_of(role: str, method: Method, problem: Problem) -> int:
    """The rows behind a role that was touched; a method may hand its own role on under another
    name, as retraining trains on the retain set, and then its largest role stands for it."""
    opened = (method.prepares_with | method.unlearns_with).roles
    named = [opened_role for opened_role in opened if opened_role.value == role]
    return max((len(problem.data[r]) for r in named or opened), default=0)


def touched_after(watch: Watch, loop: Loop, role: str, rows: int) -> int:
    """The rows of a role that a loop will have touched at its end.

    A stream visits every row once a pass, in batches of one size, the last of a pass smaller. Where
    that gives the count that was seen, it is followed to the end; else the count is scaled.
    """
    before, so_far = loop.calls[0][role], watch.calls[role]
    per_step = (loop.calls[-1][role] - before) / loop.steps
    calls = before + round(loop.total * per_step)
    for size in (watch.largest[role], watch.largest[role] - 1):  # a single row joins a batch
        if size > 0 and rows and _streamed(rows, size, so_far) == watch.touched[role]:
            return _streamed(rows, size, calls)
    return round(watch.touched[role] * calls / so_far)


def _streamed(rows: int, size: int, calls: int) -> int:
    """Rows in the first ``calls`` batches of a stream."""
    passes, rest = divmod(calls, batches_of(rows, size))
    return passes * rows + min(rest * size, rows)


def _through(points: Sequence[tuple[float, float]], x: float) -> float:
    """The line through two points, at ``x``; level where both lie above one another."""
    (x0, y0), (x1, y1) = points
    return y1 if x0 == x1 else y1 + (y1 - y0) / (x1 - x0) * (x - x1)


def _part(method: Method, problem: Problem, share: float, least: int = 1) -> Problem:
    """The problem with a share of the rows of every role that the method opens, evenly spaced."""
    data: dict[Role, Samples] = {}
    for role in (method.prepares_with | method.unlearns_with).roles:
        held = problem.data[role]
        count = min(len(held), max(least, round(share * len(held))))
        rows = torch.arange(count) * len(held) // max(1, count)
        data[role] = held.taken(rows) if isinstance(held, View) else held.select(rows)
    return replace(problem, data=data)


def _growing(method: Method, problem: Problem, start: int) -> Iterator[tuple[Problem, bool]]:
    """Parts of a problem, from ``start`` rows of its largest role doubled up to all rows."""
    opened = (method.prepares_with | method.unlearns_with).roles
    largest = max((len(problem.data[role]) for role in opened), default=1)
    count = start
    while count < largest:
        yield _part(method, problem, count / largest, 2), False
        count *= 2
    yield _part(method, problem, 1.0), True


def _spread(sizes: Sequence[int], most: int) -> list[int]:
    """At most ``most`` positions, from the smallest size to the largest."""
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    if len(order) <= most:
        return order
    picked = np.linspace(0, len(order) - 1, max(2, most)).round().astype(int)
    return [order[i] for i in dict.fromkeys(picked.tolist())]


def _interpolated(found: Mapping[int, Estimate], sizes: Sequence[int]) -> tuple[Estimate, ...]:
    """One estimate for each size; none where nothing could be estimated."""
    if not found:
        return ()
    known = sorted(found, key=lambda i: sizes[i])
    at = [sizes[i] for i in known]

    def between(size: int, values: Sequence[float]) -> float:
        return float(np.interp(size, at, values))

    estimates = []
    for i, size in enumerate(sizes):
        if i in found:
            estimates.append(found[i])
            continue
        roles = dict.fromkeys(role for e in found.values() for role in e.touched)
        touched = {
            r: round(between(size, [found[k].touched.get(r, 0) for k in known])) for r in roles
        }
        seconds, low, high = (
            between(size, [getattr(found[k], name) for k in known])
            for name in ("seconds", "low", "high")
        )
        estimates.append(Estimate(seconds, low, high, touched, "between"))
    return tuple(estimates)


def stored_bytes(change: Change) -> int:
    """What a change takes on disk: its tensors; of kinds that keep more than these, its file."""
    if isinstance(change, Replacement):
        tensors = list(change.tensors.values())
    elif isinstance(change, Delta):
        tensors = list(change.buffers.values())
        for entry in change.entries.values():
            tensors += [entry.indices, entry.values] if isinstance(entry, Sparse) else [entry]
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "change.safetensors"
            save(change, path)
            return path.stat().st_size
    return sum(t.numel() * t.element_size() for t in tensors)
