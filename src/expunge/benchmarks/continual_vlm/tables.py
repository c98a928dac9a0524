"""What the continual benchmark found: a table for every number of requests and each strength, and
the three questions answered from figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

import numpy as np

from expunge.audit.paired import sign_flip
from expunge.audit.persistence import PersistenceMatrix, avg_score
from expunge.benchmarks.facts.tables import Spread, Table

Cell = Mapping[str, Any]
Group = tuple[str, int]
"""A half (or `named`) and a number of requests."""

FIRST = "the strength of the first request"
STRENGTHS = {
    "matched": "at equal retained accuracy",
    "first": f"at {FIRST}",
}
BEFORE = ("forget", "worst", "retain", "all")
AFTER = ("Score", "Delta", "back", "most", "again", "s", "MB", "factor")
"""The columns, before and after those of unseen sets."""


@dataclass(frozen=True)
class End:
    """What one row came to in one order on one base.

    Args:
        forgotten: accuracy on the requests after the last one, the mean over requests.
        worst: that of the request that is remembered best.
        retained: accuracy on what nobody asked to remove.
        everything: accuracy on all pictures.
        score: the published mean of normalised scores, in percent.
        delta: the published mean absolute change since each request's own step, in points.
        back: signed re-emergence, the mean over requests; 0 for one request.
        back_most: that of the request that comes back most.
        relearned: accuracy on the requests after the last step of relearning.
        unseen: by set the accuracy on pictures of concepts that are retained.
    """

    forgotten: float
    worst: float
    retained: float
    everything: float
    score: float
    delta: float
    back: float
    back_most: float
    relearned: float | None
    unseen: Mapping[str, float]

    @classmethod
    def of(cls, names: Sequence[str], cell: Cell, reference: Cell) -> "End":
        """Of a row at one strength; ``reference`` is what was measured of the base."""
        before = dict(zip(reference["requests"], reference["base"]["requests"][0], strict=True))
        start = np.array([before[name] for name in names])
        matrix = PersistenceMatrix(tuple(names), start, np.array(cell["requests"]))
        returned = matrix.re_emergence()
        base, answered = reference["base"], start > 0
        score = avg_score(
            start[answered].tolist(),
            matrix.final[answered].tolist(),
            [base["retained"][0], base["all"][0], *base["unseen"].values()],
            [cell["retained"][-1], cell["all"][-1], *cell["unseen"].values()],
        )
        relearned = cell.get("relearned")
        return cls(
            float(matrix.final.mean()),
            float(matrix.final.max()),
            cell["retained"][-1],
            cell["all"][-1],
            score,
            100 * matrix.avg_delta(),
            float(returned.mean()) if len(returned) else 0.0,
            float(returned.max()) if len(returned) else 0.0,
            None if relearned is None else relearned[-1],
            cell["unseen"],
        )


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table for every set of groups, number of requests and strength."""
    return [
        (
            f"{half} groups, {count} requests, {told}",
            ("", *BEFORE, *unseen_of(result), *AFTER),
            [*_references(result, (half, count)), *_rows(result, (half, count), strength)],
        )
        for half, count in groups_of(result)
        for strength, told in STRENGTHS.items()
        if all(strength in row for row in result["rows"])
    ]


def groups_of(result: Mapping[str, Any]) -> list[Group]:
    """Every half with every number of requests."""
    return list(dict.fromkeys((r["half"], r["count"]) for r in result["references"]))


def unseen_of(result: Mapping[str, Any]) -> list[str]:
    """The unseen sets that were at hand."""
    return list(result["references"][0]["base"]["unseen"])


def reference_of(result: Mapping[str, Any], row: Cell) -> Cell:
    """What was measured of base and oracle of a row."""
    where = ("half", "seed", "count")
    [found] = [r for r in result["references"] if all(r[key] == row[key] for key in where)]
    return dict(found)


def ends(
    result: Mapping[str, Any], group: Group, strength: str
) -> Iterator[tuple[str, str, list[tuple[Cell, End]]]]:
    """Kind, rule, and what every base and order of it came to."""
    rows = [r for r in result["rows"] if (r["half"], r["count"]) == group]
    for (kind, rule), its in groupby(rows_sorted(rows), key=_name):
        yield (
            kind,
            rule,
            [
                (row, End.of(row["requests"], row[strength], reference_of(result, row)))
                for row in its
            ],
        )


def rows_sorted(rows: Sequence[Cell]) -> list[Cell]:
    """Rows of one name together, names in the order in which they were asked."""
    place = {name: number for number, name in enumerate(dict.fromkeys(map(_name, rows)))}
    return sorted(rows, key=lambda row: place[_name(row)])


def _name(row: Cell) -> tuple[str, str]:
    return row["kind"], row["rule"]


def _references(result: Mapping[str, Any], group: Group) -> list[Sequence[object]]:
    found = [r for r in result["references"] if (r["half"], r["count"]) == group]
    shown: list[Sequence[object]] = []
    for name in ("base", "oracle"):
        cells = [r[name] for r in found if name in r]
        if not cells:
            continue
        own = (
            Spread.of(fmean(c["requests"][0]) for c in cells),
            Spread.of(max(c["requests"][0]) for c in cells),
            Spread.of(c["retained"][0] for c in cells),
            Spread.of(c["all"][0] for c in cells),
            *(Spread.of(c["unseen"][each] for c in cells) for each in unseen_of(result)),
        )
        relearned = Spread.of(c["relearned"][-1] for c in cells)
        shown.append((name, *own, *["-"] * 4, relearned, *["-"] * 3))
    return shown


def _rows(result: Mapping[str, Any], group: Group, strength: str) -> Iterator[Sequence[object]]:
    for kind, rule, cells in ends(result, group, strength):
        found = [end for _, end in cells]
        relearned = [end.relearned for end in found if end.relearned is not None]
        limit = "" if all(row["reached"][strength] for row, _ in cells) else ">"
        yield (
            f"{kind} {rule}",
            Spread.of(end.forgotten for end in found),
            Spread.of(end.worst for end in found),
            Spread.of(end.retained for end in found),
            Spread.of(end.everything for end in found),
            *(Spread.of(end.unseen[each] for end in found) for each in unseen_of(result)),
            f"{fmean(end.score for end in found):.1f}",
            f"{fmean(end.delta for end in found):.1f}",
            f"{fmean(end.back for end in found):+.2f}",
            f"{max(end.back_most for end in found):+.2f}",
            Spread.of(relearned) if relearned else "-",
            f"{fmean(row['seconds'] for row, _ in cells):.0f}",
            f"{fmean(row['bytes'] for row, _ in cells) / 1e6:.0f}",
            f"{limit}{fmean(row[strength]['factor'] for row, _ in cells):.2f}",
        )


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """The questions, answered from figures at equal retained accuracy; and what was refused."""
    refused = [f"{kind}: {reason}" for kind, reason in result.get("refused", {}).items()]
    return refused + [
        line
        for group in groups_of(result)
        for question in (_vote_or_sum, _worst_and_damage, _better_vectors)
        for line in question(result, group)
    ]


Finds = Mapping[tuple[str, str], Sequence[tuple[Cell, End]]]


def _found(result: Mapping[str, Any], group: Group, strength: str) -> Finds:
    every = ends(result, group, strength)
    return {(kind, rule): cells for kind, rule, cells in every if kind != "sequential"}


def _vote_or_sum(result: Mapping[str, Any], group: Group) -> Iterator[str]:
    """Whether the sign vote beats the plain sum."""
    found = _found(result, group, "matched")
    for kind in dict.fromkeys(kind for kind, _ in found):
        if {(kind, "cata"), (kind, "sum")} <= set(found):
            pairs = list(zip(found[kind, "cata"], found[kind, "sum"], strict=True))
            less = [cata.forgotten - plain.forgotten for (_, cata), (_, plain) in pairs]
            worst = fmean(cata.worst - plain.worst for (_, cata), (_, plain) in pairs)
            opposite = fmean(
                c["opposite"]
                for c in result["conflicts"]
                if (c["half"], c["count"], c["kind"]) == (*group, kind)
            )
            yield (
                f"{_title(group)}, vote against sum on {kind}: cata leaves {fmean(less):+.3f} of "
                f"forgotten accuracy more than sum, {worst:+.3f} of the worst request; lower in "
                f"{sum(d < 0 for d in less)} and higher in {sum(d > 0 for d in less)} of "
                f"{len(less)} pairs{_p(pairs)}; {opposite:.0%} of the moved coordinates are moved "
                "both ways"
            )


def _p(pairs: Sequence[tuple[tuple[Cell, End], tuple[Cell, End]]]) -> str:
    """Orders of one base are no repetitions: the bases are compared, each by its mean."""
    by_seed: dict[int, list[float]] = {}
    for (row, one), (_, other) in pairs:
        by_seed.setdefault(row["seed"], []).append(one.forgotten - other.forgotten)
    if len(by_seed) < 2:
        return ", one base"
    return f", p {sign_flip([fmean(d) for d in by_seed.values()]):.2g} over {len(by_seed)} bases"


def _worst_and_damage(result: Mapping[str, Any], group: Group) -> Iterator[str]:
    """Which rule keeps the worst request forgotten, and which damages least."""
    level = _found(result, group, "matched")
    fixed = _found(result, group, "first") if "first" in result["rows"][0] else {}
    for kind in dict.fromkeys(kind for kind, _ in level):
        rules = [rule for other, rule in level if other == kind]
        if len(rules) < 2:
            continue
        worst = {rule: fmean(end.worst for _, end in level[kind, rule]) for rule in rules}
        lowest, told = min(worst.values()), []
        for found, when in ((level, "equal retained accuracy on validation"), (fixed, FIRST)):
            if found:
                kept = {rule: fmean(end.retained for _, end in found[kind, rule]) for rule in rules}
                most = max(kept.values())
                told.append(f"at {when} {_of(kept, most)} most retained on test ({most:.3f})")
        yield (
            f"{_title(group)}, rules on {kind}: worst request lowest by {_of(worst, lowest)} "
            f"({lowest:.3f}); {', '.join(told)}"
        )


def _of(values: Mapping[str, float], value: float) -> str:
    """The names of all that share a value."""
    return ", ".join(name for name, own in values.items() if own == value)


def _better_vectors(result: Mapping[str, Any], group: Group) -> Iterator[str]:
    """Whether vectors of better unlearners aggregate better than plain negation."""
    found = _found(result, group, "matched")
    means = {name: fmean(end.forgotten for _, end in cells) for name, cells in found.items()}
    if not any(kind == "negation" for kind, _ in means):
        return
    for kind in dict.fromkeys(kind for kind, _ in means):
        rules = [rule for other, rule in means if other == kind and ("negation", rule) in means]
        if kind == "negation" or not rules:
            continue
        told = ", ".join(
            f"{rule} {means[kind, rule]:.3f} against {means['negation', rule]:.3f}"
            for rule in rules
        )
        yield f"{_title(group)}, {kind} against negation, forgotten accuracy left: {told}"


def _title(group: Group) -> str:
    return f"{group[0]} groups, {group[1]} requests"


def caption(result: Mapping[str, Any]) -> str:
    """What the columns are, and chance."""
    return f"{CAPTION} Chance: 1 of {1 / result['chance']:,.0f}."


CAPTION = (
    "Accuracies on test rows, mean±sd over bases and orders. forget, worst: on the requests after "
    "the last one, their mean and the one that is remembered best; retain: on what nobody asked to "
    "remove; tux, clip art, openmoji: on pictures of retained concepts by drawers that nobody "
    "trained on, where these sets were fetched; Score in percent and Delta in points are Avg. "
    "Score and Avg. Delta as published (Lin et al. 2026). back, most: largest later value of a "
    "request less that of its own step, mean over requests and largest. again: accuracy on the "
    "requests after ten steps on one style of them. s: seconds of one thread, all vectors and "
    "folds without what is prepared once, or all requests in a row. MB: what the rule keeps "
    "between requests, without the vectors themselves. factor: of the combined change; > where the "
    "search ended at its limit. At the strength of the first request, methods in a row are as they "
    "were made."
)
"""What the columns are."""
