"""What the benchmark of facts found: tables, and a verdict on each target for each method.

Every figure is read against bases and oracles of the same draw. Of a stream that was combined by
several rules the table shows the best, chosen on the very figures that are shown, which favours it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch

from expunge.audit.kept import LEAST
from expunge.audit.persistence import PersistenceMatrix
from expunge.benchmarks.facts.work import STEPS
from expunge.signals.forget_quality import ALIKE, forget_quality

FORGOTTEN, RETAINED = 0.05, 0.95
"""The corner: the share of forgotten facts answered at most, and of all others at least."""

CHEAP, CHEAP_STREAM = 0.10, 0.25
"""Rows touched at most, as shares of one retraining, and of one retraining for each request."""

Cell = Mapping[str, Any]
Table = tuple[str, Sequence[str], list[Sequence[object]]]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over draws and seeds."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        found = list(values)
        return cls(fmean(found), stdev(found) if len(found) > 1 else math.nan)

    def __str__(self) -> str:
        shown = f"{self.mean:.2f}"
        return shown if math.isnan(self.sd) else f"{shown}±{self.sd:.2f}"


@dataclass(frozen=True)
class Oracles:
    """The oracles of one draw, and what they are held against."""

    cells: Sequence[Cell]

    def distance(self, cell: Cell) -> tuple[float, float]:
        """Mean KS distance of the log-probabilities of forgotten facts to the oracles other than
        the cell itself, and the median p-value."""
        mine = torch.tensor(cell["log probability"])
        tests = [
            forget_quality(mine, torch.tensor(one["log probability"]))
            for one in self.cells
            if one is not cell
        ]
        return fmean(t.distance for t in tests), median(t.p for t in tests)

    @property
    def interval(self) -> tuple[float, float]:
        """Fewest and most steps of relearning."""
        steps = [steps_of(cell) for cell in self.cells]
        return min(steps), max(steps)

    @property
    def touched(self) -> float:
        """Rows of one retraining."""
        return fmean(cell["touched"] for cell in self.cells)


def oracles_of(result: Mapping[str, Any]) -> dict[int, Oracles]:
    """The oracles by draw."""
    cells = [cell for cell in result["references"] if cell["without"]]
    return {d: Oracles([c for c in cells if c["draw"] == d]) for d in range(result["draws"])}


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table of the corner for every mode, one for every length of stream."""
    modes = dict.fromkeys(cell["mode"] for cell in result["answers"])
    lengths = dict.fromkeys(cell["length"] for cell in result["streams"])
    return [
        *(_corner(result, mode) for mode in modes),
        *(_stream(result, length) for length in lengths),
    ]


CORNER_COLUMNS = (
    "forget", "retain", "paraphrase F / R", "log p", "KS", "p", "relearned", "from others", "cost",
    "targets",
)  # fmt: skip


def _corner(result: Mapping[str, Any], mode: str) -> Table:
    every = oracles_of(result)
    bases = [cell for cell in result["references"] if not cell["without"]]
    oracles = [cell for cell in result["references"] if cell["without"]]
    rows: list[Sequence[object]] = [
        ("base", *_columns(bases, every), ""),
        ("oracle", *_columns(oracles, every), ""),
    ]
    for name, cells in by_method(c for c in result["answers"] if c["mode"] == mode):
        answered = [cell for cell in cells if "forget" in cell]
        if answered:
            reached = " ".join(t for t, (so, _) in corner_targets(answered, every).items() if so)
            rows.append((name, *_columns(answered, every), reached))
        else:
            rows.append((name, *["-"] * (len(CORNER_COLUMNS) - 1), _word(cells[0])))
    return f"one request for {result['size']['corner']} people, {mode}", ("", *CORNER_COLUMNS), rows


def knowledge_of(cells: Sequence[Cell]) -> list[object]:
    """What is answered of forgotten and of retained facts, in trained phrasings and in others, and
    how likely the forgotten answers are."""
    paraphrases = [fmean(c[f"{which} paraphrase"] for c in cells) for which in ("forget", "retain")]
    return [
        Spread.of(cell["forget"] for cell in cells),
        Spread.of(cell["retain"] for cell in cells),
        " / ".join(f"{share:.2f}" for share in paraphrases),
        Spread.of(fmean(cell["log probability"]) for cell in cells),
    ]


def _columns(cells: Sequence[Cell], every: Mapping[int, Oracles]) -> list[object]:
    distances = [every[cell["draw"]].distance(cell) for cell in cells]
    shares = [cell["touched"] / every[cell["draw"]].touched for cell in cells]
    return [
        *knowledge_of(cells),
        Spread.of(distance for distance, _ in distances),
        f"{median(p for _, p in distances):.2g}",
        Spread.of(map(steps_of, cells)),
        Spread.of(cell["from others"] for cell in cells),
        Spread.of(shares),
    ]


def corner_targets(
    cells: Sequence[Cell], every: Mapping[int, Oracles]
) -> dict[str, tuple[bool, str]]:
    """Whether targets (a), (b), (c) and (e) are met by the answers of one method in one mode, and
    the figures. (c) is there for methods that see no retain row alone."""
    forget, retain = (fmean(cell[part] for cell in cells) for part in ("forget", "retain"))
    corner = forget <= FORGOTTEN and retain >= RETAINED
    shown = f"forget {forget:.3f}, retain {retain:.3f}"
    share = fmean(cell["touched"] / every[cell["draw"]].touched for cell in cells)
    p = median(every[cell["draw"]].distance(cell)[1] for cell in cells)
    within = sum(_within(cell, every[cell["draw"]]) for cell in cells)
    found = {
        "a": (corner, shown),
        "b": (corner and share <= CHEAP, f"{shown}, {share:.1%} of one retraining"),
    }
    if cells[0]["retain-free"]:
        found["c"] = (corner, shown)
    intervals = [every[draw].interval for draw in dict.fromkeys(cell["draw"] for cell in cells)]
    oracles = ", ".join(f"{fewest:.0f} to {most:.0f}" for fewest, most in intervals)
    found["e"] = (
        p > ALIKE and 2 * within > len(cells),
        f"KS p {p:.2g}, relearned after {fmean(map(steps_of, cells)):.0f} steps, as the oracles "
        f"({oracles}) in {within} of {len(cells)}",
    )
    return found


def _within(cell: Cell, oracles: Oracles) -> bool:
    fewest, most = oracles.interval
    return fewest <= steps_of(cell) <= most


STREAM_COLUMNS = ("how", "forgotten", "back", "back most", "retain", "not yet", "cost", "target")


def _stream(result: Mapping[str, Any], length: int) -> Table:
    rows: list[Sequence[object]] = []
    for name, mode, how, cells in stream_groups(result, length):
        label = f"{name}, {mode}"
        if how is None:
            rows.append((label, *["-"] * (len(STREAM_COLUMNS) - 1), _word(cells[0])))
            continue
        found = [Stream.of(cell, how, result) for cell in cells]
        best = (
            Spread.of(s.final for s in found),
            Spread.of(s.back for s in found),
            f"{max(s.back_most for s in found):.2f}",
            Spread.of(s.retain for s in found),
            Spread.of(s.not_yet for s in found),
            Spread.of(s.share for s in found),
        )
        rows.append((label, how, *best, "d" if stream_target(found)[0] else ""))
    return f"{length} requests for {result['size']['together']} people", ("", *STREAM_COLUMNS), rows


@dataclass(frozen=True)
class Stream:
    """What a stream came to under one rule.

    Args:
        final: share of the forgotten facts that is answered after the last request.
        back: mean re-emergence at the end, signed: after the last request, less right after the
            own one.
        back_most: that of the request that comes back most.
        retain: share of the facts that nobody asked to remove, after the last request.
        not_yet: share of facts not yet requested but later, the mean over steps and requests.
        share: rows touched, as a share of one retraining for each request.
    """

    final: float
    back: float
    back_most: float
    retain: float
    not_yet: float
    share: float

    @classmethod
    def of(cls, cell: Cell, how: str, result: Mapping[str, Any]) -> "Stream":
        """Of one run."""
        matrix = persistence(cell, how)
        returned = (matrix.final - matrix.diagonal)[:-1]
        later = matrix.after[np.triu_indices(matrix.size, 1)]
        return cls(
            float(matrix.final.mean()),
            float(returned.mean()),
            float(returned.max()),
            cell["steps"][how][-1]["retain"],
            float(later.mean()),
            cell["touched"] / result["retraining rows"][str(matrix.size)],
        )


def persistence(cell: Cell, how: str) -> PersistenceMatrix:
    """The matrix of a stream: every request after every step."""
    after = [step["requests"] for step in cell["steps"][how]]
    names = tuple(f"request {i + 1}" for i in range(len(after)))
    return PersistenceMatrix(names, cell["before"]["requests"], after)  # type: ignore[arg-type]


def stream_target(found: Sequence[Stream]) -> tuple[bool, str]:
    """Whether target (d) is met, and the figures."""
    final, back, retain, not_yet, share = (
        fmean(getattr(s, part) for s in found)
        for part in ("final", "back", "retain", "not_yet", "share")
    )
    met = (
        max(final, back) <= FORGOTTEN and min(retain, not_yet) >= RETAINED and share <= CHEAP_STREAM
    )
    return met, (
        f"forgotten {final:.3f}, back {back:+.3f}, retain {retain:.3f}, not yet requested "
        f"{not_yet:.3f}, {share:.1%} of the retrainings"
    )


def stream_groups(
    result: Mapping[str, Any], length: int
) -> Iterator[tuple[str, str, str | None, list[Cell]]]:
    """Method, mode, how its answers were combined (None where it stopped), and its runs."""

    def of(cell: Cell) -> tuple[str, str, bool]:
        return cell["method"], cell["mode"], cell["sequential"]

    cells = sorted((c for c in result["streams"] if c["length"] == length), key=of)
    for (name, mode, _), group in groupby(cells, key=of):
        its = list(group)
        answered = [cell for cell in its if "steps" in cell]
        if not answered:
            yield name, mode, None, its
            continue

        def miss(how: str, answered: Sequence[Cell] = answered) -> float:
            found = [Stream.of(cell, how, result) for cell in answered]
            return fmean(s.final + (1 - s.retain) + (1 - s.not_yet) for s in found)

        yield name, mode, min(answered[0]["steps"], key=miss), answered


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """A line for every target, method and mode, with figures."""
    found, every = [], oracles_of(result)
    modes = dict.fromkeys(cell["mode"] for cell in result["answers"])
    for mode in modes:
        for name, cells in by_method(c for c in result["answers"] if c["mode"] == mode):
            answered = [cell for cell in cells if "forget" in cell]
            if not answered:
                found.append(f"(a) {name}, {mode}: {_stopped(cells)}")
                continue
            for target, (met, shown) in corner_targets(answered, every).items():
                rest = _after(target, cells, answered)
                found.append(f"({target}) {name}, {mode}: {'yes' if met else 'NO'}: {shown}{rest}")
    for length in dict.fromkeys(cell["length"] for cell in result["streams"]):
        for name, mode, how, cells in stream_groups(result, length):
            label = f"(d) {name}, {mode}, {length} requests"
            if how is None:
                found.append(f"{label}: {_stopped(cells)}")
                continue
            met, shown = stream_target([Stream.of(cell, how, result) for cell in cells])
            found.append(f"{label}, {how}: {'yes' if met else 'NO'}: {shown}")
    return sorted(found)


def _after(target: str, cells: Sequence[Cell], answered: Sequence[Cell]) -> str:
    """What a line about the corner adds: cells that refused, and models that would be refused."""
    words = ""
    if stopped := len(cells) - len(answered):
        words += f"; refused in {stopped} of {len(cells)}"
    if target == "a" and fmean(cell["retain"] for cell in answered) < LEAST:
        words += f"; `expunge forget` refuses it, since less than {LEAST:.0%} is retained"
    return words


def by_method(cells: Iterable[Cell]) -> Iterator[tuple[str, list[Cell]]]:
    """Cells by the name of their method, in the order of names."""
    ordered = sorted(cells, key=lambda cell: str(cell["method"]))
    for name, group in groupby(ordered, key=lambda cell: str(cell["method"])):
        yield name, list(group)


def _stopped(cells: Sequence[Cell]) -> str:
    word = _word(cells[0])
    return f"{word}: {cells[0][word]}"


def _word(cell: Cell) -> str:
    return "refused" if "refused" in cell else "failed"


def steps_of(cell: Cell) -> float:
    """Steps of relearning; one more than were made where they did not suffice."""
    return float(STEPS + 1 if cell["relearned"] is None else cell["relearned"])


CAPTION = (
    "Shares of facts that greedy decoding answers exactly, mean±sd over draws and seeds. "
    "Paraphrase F / R: in a phrasing that was trained for other people alone, of forgotten and of "
    "retained people. log p: mean log-probability of the forgotten answers per token, in nats; KS, "
    "p: its distribution over forgotten facts against the oracles'. relearned: steps on the "
    "forgotten facts until half are answered; from others: share answered while those about other "
    "forgotten people are shown. cost: rows touched, fields and looks included, as a share of one "
    "retraining, in a stream of one for each request. forgotten, retain: after the last request; "
    "back: what came back since the own request, mean and largest; not yet: facts that nobody had "
    "asked to remove yet, but later did, the mean over steps."
)
"""What the columns are."""
