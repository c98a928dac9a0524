"""What the continual benchmark found: a table for every number of requests and each strength, and
the three questions answered from figures."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median_low
from typing import Any

import numpy as np

from expunge.audit.paired import sign_flip
from expunge.audit.persistence import PersistenceMatrix, avg_score
from expunge.benchmarks.continual_vlm.work import ATTACK
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
AFTER = ("Score", "Delta", "back", "most", "again", "steps", "s", "MB", "factor")
"""The columns, before and after those of unseen sets."""

OURS = ("confined", "sum")
"""The row of our own design, which is held against :data:`THEIRS`."""

THEIRS = (("negation", "cata"), ("negation", "sum"))
"""Plain vectors by the paper's rule and by the sum."""

REGAINED = 0.9
"""Share of the base's accuracy on the requests at which relearning has brought them back."""


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
        steps: of relearning until :data:`REGAINED` of the base's accuracy on the requests is
            regained; infinite where the last does not suffice.
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
    steps: float | None
    unseen: Mapping[str, float]

    @classmethod
    def of(cls, names: Sequence[str], cell: Cell, reference: Cell) -> "End":
        """Of a row at one strength; ``reference`` is what was measured of the base."""
        before = dict(zip(reference["requests"], reference["base"]["requests"][0], strict=True))
        start = np.array([before[name] for name in names])
        matrix = PersistenceMatrix(tuple(names), start, np.array(cell["requests"]))
        returned = matrix.re_emergence()
        base, answered = reference["base"], start > 0
        kept = [
            [its["retained"], its["all"], *(its["unseen"][name] for name in base["unseen"])]
            for its in (base, cell)
        ]
        shared = [pair for pair in zip(*kept, strict=True) if pair[0] > 0]
        score = avg_score(
            start[answered].tolist(),
            matrix.final[answered].tolist(),
            [was for was, _ in shared],
            [now for _, now in shared],
        )
        relearned = cell.get("relearned")
        return cls(
            float(matrix.final.mean()),
            float(matrix.final.max()),
            cell["retained"],
            cell["all"],
            score,
            100 * matrix.avg_delta(),
            float(returned.mean()) if len(returned) else 0.0,
            float(returned.max()) if len(returned) else 0.0,
            None if relearned is None else relearned[-1],
            None if relearned is None else steps_to_regain(relearned, base),
            cell["unseen"],
        )


def steps_to_regain(relearned: Sequence[float], base: Cell) -> float:
    """The first step of relearning at which the requests are answered nearly as by the base."""
    level = REGAINED * base["end"][0]
    found = (step for step, share in enumerate(relearned) if share >= level)
    return next(found, math.inf)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """One table for every set of groups, number of requests and strength; and one of the strengths
    that the development half froze."""
    return [*_at_strengths(result), *_at_frozen(result)]


def _at_strengths(result: Mapping[str, Any]) -> list[Table]:
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


def _at_frozen(result: Mapping[str, Any]) -> Iterator[Table]:
    for half, count in groups_of(result):
        rows = [r for r in result.get("frozen", ()) if (r["half"], r["count"]) == (half, count)]
        if rows:
            yield (
                f"{half} groups, {count} requests, at the strengths of the development half",
                ("", "bases", "forget", "worst", "retain", "again"),
                [
                    (
                        f"{kind} {rule}",
                        len({r["seed"] for r in its}),
                        _spread((r["seed"], fmean(r["left"])) for r in its),
                        _spread((r["seed"], max(r["left"])) for r in its),
                        _spread((r["seed"], r["retained"]) for r in its),
                        _spread((r["seed"], r["relearned"][-1]) for r in its),
                    )
                    for (kind, rule), its in _named(rows)
                ],
            )


def _named(rows: Sequence[Cell]) -> Iterator[tuple[tuple[str, str], list[Cell]]]:
    for name, its in groupby(rows_sorted(rows), key=_name):
        yield name, list(its)


def _spread(values: Iterable[tuple[int, float]]) -> Spread:
    """Over bases, each by the mean of its orders: these are no repetitions."""
    return Spread.of(_by_seed(values).values())


def _by_seed(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for seed, value in values:
        found.setdefault(seed, []).append(value)
    return {seed: fmean(own) for seed, own in found.items()}


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
    for (kind, rule), its in _named(rows):
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
            Spread.of(c["retained"] for c in cells),
            Spread.of(c["all"] for c in cells),
            *(Spread.of(c["unseen"][each] for c in cells) for each in unseen_of(result)),
        )
        relearned = Spread.of(c["relearned"][-1] for c in cells)
        bases = [r["base"] for r in found]
        steps = [
            steps_to_regain(c["relearned"], base) for c, base in zip(cells, bases, strict=True)
        ]
        shown.append((name, *own, *["-"] * 4, relearned, _steps(steps), *["-"] * 3))
    return shown


def _rows(result: Mapping[str, Any], group: Group, strength: str) -> Iterator[Sequence[object]]:
    for kind, rule, cells in ends(result, group, strength):
        found = [end for _, end in cells]

        def spread(of: Callable[[End], float], its: Sequence[tuple[Cell, End]] = cells) -> Spread:
            return _spread((row["seed"], of(end)) for row, end in its)

        again = [(row, end) for row, end in cells if end.relearned is not None]
        limit = "" if all(row["reached"][strength] for row, _ in cells) else ">"
        yield (
            f"{kind} {rule}",
            spread(lambda end: end.forgotten),
            spread(lambda end: end.worst),
            spread(lambda end: end.retained),
            spread(lambda end: end.everything),
            *(
                _spread((row["seed"], end.unseen[each]) for row, end in cells)
                for each in unseen_of(result)
            ),
            f"{fmean(end.score for end in found):.1f}",
            f"{fmean(end.delta for end in found):.1f}",
            f"{fmean(end.back for end in found):+.2f}",
            f"{max(end.back_most for end in found):+.2f}",
            _spread((row["seed"], end.relearned or 0.0) for row, end in again) if again else "-",
            _steps([end.steps for end in found if end.steps is not None]),
            f"{fmean(row['seconds'] for row, _ in cells):.0f}",
            f"{fmean(row['bytes'] for row, _ in cells) / 1e6:.0f}",
            f"{limit}{fmean(row[strength]['factor'] for row, _ in cells):.2f}",
        )


def _steps(found: Sequence[float]) -> str:
    """The median; > the last step where that does not regain what was forgotten."""
    if not found:
        return "-"
    middle = median_low(found)
    return f">{ATTACK.steps}" if math.isinf(middle) else f"{middle:.0f}"


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """The questions, answered from figures at equal retained accuracy; and what was refused."""
    refused = [f"{kind}: {reason}" for kind, reason in result.get("refused", {}).items()]
    return refused + [
        line
        for group in groups_of(result)
        for question in (_vote_or_sum, _worst_and_damage, _better_vectors, _ours)
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
            worst = fmean(cata.worst - plain.worst for (_, cata), (_, plain) in pairs)
            its = [
                c
                for c in result["conflicts"]
                if (c["half"], c["count"], c["kind"]) == (*group, kind)
            ]
            opposite, cancelled = (fmean(c[key] for c in its) for key in ("opposite", "cancelled"))
            bases = _by_seed(
                (row["seed"], cata.forgotten - plain.forgotten) for (row, cata), (_, plain) in pairs
            ).values()
            yield (
                f"{_title(group)}, vote against sum on {kind}: cata leaves {fmean(bases):+.3f} of "
                f"forgotten accuracy more than sum, {worst:+.3f} of the worst request; lower on "
                f"{sum(d < 0 for d in bases)} and higher on {sum(d > 0 for d in bases)} of "
                f"{len(bases)} bases{_p(pairs)}; {opposite:.0%} of the moved coordinates are moved "
                f"both ways, {cancelled:.0%} of all moves cancel in the sum"
                f"{_missed(found, (kind, 'cata'), (kind, 'sum'))}"
            )


def _p(pairs: Sequence[tuple[tuple[Cell, End], tuple[Cell, End]]]) -> str:
    """Orders of one base are no repetitions: the bases are compared, each by its mean."""
    bases = _by_seed(
        (row["seed"], one.forgotten - other.forgotten) for (row, one), (_, other) in pairs
    )
    if len(bases) < 2:
        return ", one base"
    return f", p {sign_flip([*bases.values()]):.2g} over {len(bases)} bases"


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
                most, least = max(kept.values()), min(kept.values())
                told.append(
                    f"at {when} {_of(kept, most)} most retained on test ({most:.3f}), "
                    f"{_of(kept, least)} least ({least:.3f})"
                )
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
        names = [(own, rule) for rule in rules for own in (kind, "negation")]
        yield (
            f"{_title(group)}, {kind} against negation, forgotten accuracy left: {told}"
            f"{_missed(found, *names)}"
        )


def _ours(result: Mapping[str, Any], group: Group) -> Iterator[str]:
    """Whether our own design forgets more than the paper's rule and more than the plain sum, in the
    mean and in the worst request."""
    found = _found(result, group, "matched")
    for theirs in THEIRS:
        if {OURS, theirs} <= set(found):
            pairs = list(zip(found[OURS], found[theirs], strict=True))
            mean, worst = (
                _by_seed((row["seed"], of(one) - of(other)) for (row, one), (_, other) in pairs)
                for of in (_forgotten, _worst)
            )
            yield (
                f"{_title(group)}, {' '.join(OURS)} (ours) against {' '.join(theirs)}: "
                f"{fmean(mean.values()):+.3f} of forgotten accuracy in the mean, "
                f"{fmean(worst.values()):+.3f} of the worst request; lower in both on "
                f"{sum(mean[s] < 0 and worst[s] < 0 for s in mean)} of {len(mean)} bases"
                f"{_p(pairs)}{_missed(found, OURS, theirs)}"
            )


def _missed(found: Finds, *names: tuple[str, str]) -> str:
    """Which rows are not at that accuracy, since their search ended at its limit."""
    told = []
    for name in names:
        missed = sum(not row["reached"]["matched"] for row, _ in found[name])
        if missed:
            told.append(f"{' '.join(name)} {missed} of {len(found[name])}")
    return f"; not brought to that accuracy: {', '.join(told)}" if told else ""


def _forgotten(end: End) -> float:
    return end.forgotten


def _worst(end: End) -> float:
    return end.worst


def _title(group: Group) -> str:
    return f"{group[0]} groups, {group[1]} requests"


def caption(result: Mapping[str, Any]) -> str:
    """What the columns are, and chance."""
    return f"{CAPTION} Chance: 1 of {1 / result['chance']:,.0f}."


CAPTION = (
    "Accuracies on test rows, mean±sd over bases (each the mean of its orders). forget, worst: on "
    "the requests after the last one, their mean and the one that is remembered best; retain: on "
    "what nobody asked to remove; tux, clip art, openmoji: on pictures of retained concepts by "
    "drawers that nobody trained on, where these sets were fetched; Score in percent and Delta in "
    "points are Avg. Score and Avg. Delta as published (Lin et al. 2026). back, most: largest "
    "later value of a request less that of its own step, mean over requests and largest. again: "
    "accuracy on the requests after ten steps on one style of them; steps: until nine tenths of "
    "the base's accuracy on them are regained, the median. s: seconds of one thread, all vectors "
    "and folds without what is prepared once, or all requests in a row. MB: what the rule keeps "
    "between requests and what was prepared, without the vectors themselves. factor: of the "
    "combined change; > where the search ended at its limit. At the strength of the first request, "
    "methods in a row are as they were made."
)
"""What the columns are."""
