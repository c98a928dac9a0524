"""What the benchmark of ACU found, as tables, and what it says."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from expunge.benchmarks.classification.tables import Spread

TOLERANCE = 1e-10
"""Distance to the retrained head, as a share of its norm, that counts as equal."""

CAPTION = (
    "Distances are |W - W*| / |W*| to the head retrained from the rows that are there, the largest "
    "over seeds (beside baselines: mean±sd). estimated: what the recursion's certificate says of "
    "itself. guards: requests that were solved anew, "
    "without guards only where there is no step at all. attack: accuracy of logistic regression on "
    "the loss, forgotten against unseen rows; 50 is chance; read it beside the oracle's. "
    "Accuracies in % (chance: one over the classes, 12.5 of emoji, 10 of clothes), mean±sd over "
    "seeds; test without the class that goes. Rates of the baselines "
    "were chosen on validation rows; they descend and climb the loss of the ridge head."
)

FIGURES = ("forgotten", "retained", "test", "attack")

Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    for name, its in result["places"].items():
        found += [
            _stream(name, its, "stream", its["ridge"]),
            _stream(name, its, "smallest ridge", float(next(iter(its["ridges"])))),
            _few(name, its),
        ]
        found += [_beside(name, its, kind) for kind in its["beside"]]
    return found


def sentences(result: Mapping[str, Any]) -> list[str]:
    """The caption, and whether the claim holds."""
    return [CAPTION, *(f"{name}: {_verdict(its)}" for name, its in result["places"].items())]


def _verdict(its: Mapping[str, Any]) -> str:
    streams = [*its["stream"], *its["smallest ridge"]]
    looks = [look for one in streams for look in one["after"]]
    worst = {form: max(look[form] for look in looks) for form in ("recursion", "resolve")}
    bits = sum(look["in every bit"] for look in looks)
    sums = sum(look["sums"] for look in looks)
    held = max(worst.values()) <= TOLERANCE
    return (
        f"equal to retraining within {TOLERANCE:g}: {'yes' if held else 'NO'}; largest distance "
        f"{_power(worst['recursion'])} by the recursion, {_power(worst['resolve'])} by solving the "
        f"sums, equal in every bit at {bits} of {len(looks)} looks (the sums at {sums}). Another "
        f"solver ends {_power(max(one['by another solver'] for one in streams))} from the same "
        f"head. The served head answers "
        f"{100 * min(one['same answers'] for one in streams):.1f} % of test rows like the "
        f"retrained one; test accuracy "
        f"{_spread([one['test accuracy'] for one in its['stream']])} %. Ridge {its['ridge']:g} of "
        f"{', '.join(its['ridges'])}."
    )


def _stream(name: str, its: Mapping[str, Any], which: str, ridge: float) -> Table:
    seeds = its[which]
    kinds = ", ".join(f"{count} {kind}" for kind, count in seeds[0]["kinds"].items())
    rows: list[Sequence[object]] = []
    for place in range(len(seeds[0]["after"])):
        looks = [one["after"][place] for one in seeds]
        estimated = [look["estimated"] for look in looks if look["estimated"] is not None]
        rows.append(
            [
                looks[0]["requests"],
                _power(max(look["recursion"] for look in looks)),
                _power(max(estimated)) if estimated else None,
                _power(max(look["resolve"] for look in looks)),
                _power(max(look["single"] for look in looks)),
            ]
        )
    fired = [sum(one["guards"].values()) for one in seeds]
    condition = _power(max(one["condition"] for one in seeds))
    title = (
        f"{its['about']}; ridge {ridge:g}, condition {condition}, {len(seeds)} seed(s); {kinds} in "
        f"seed 0; guards fired at {', '.join(map(str, fired))} of "
        f"{seeds[0]['after'][-1]['requests']}"
    )
    heads = ["after", "recursion", "estimated", "resolve", "recursion in float32"]
    return title, heads, rows


def _few(name: str, its: Mapping[str, Any]) -> Table:
    seeds = its["few rows"]
    first, last = seeds[0]["rows"]
    rows: list[Sequence[object]] = []
    for place, form in enumerate(seeds[0]["forms"]):
        those = [one["forms"][place] for one in seeds]
        fired = [sum(each["guards"].values()) for each in those]
        which = sorted({guard for each in those for guard in each["guards"]})
        solves = form["form"] == "resolve"
        rows.append(
            [
                f"{form['precision']}, ridge {form['ridge']:g}, {form['form']}",
                _power(max(each["apart"] for each in those)),
                None if solves else f"{min(fired)}-{max(fired)} of {form['requests']}",
                ", ".join(which) or None,
            ]
        )
    title = f"{name}: from {first:,} to {last:,} rows, fewer than features"
    return title, ["form", "distance", "guards", "which"], rows


def _beside(name: str, its: Mapping[str, Any], kind: str) -> Table:
    seeds = its["beside"][kind]
    shown = seeds[0]["shown"]
    rows: list[Sequence[object]] = []
    for method in seeds[0]["after"]:
        for place, number in enumerate(shown):
            if method == "original" and place:
                continue
            those = [one["after"][method][place] for one in seeds]
            rows.append(
                [
                    method if kind == "class" else f"{method}, {number}",
                    *(str(Spread.of(each[figure] for each in those)) for figure in FIGURES),
                    _distance([each["distance"] for each in those]),
                ]
            )
    rates = ", ".join(
        f"{baseline} {'/'.join(format(one['rates'][baseline]['rate'], 'g') for one in seeds)}"
        for baseline in seeds[0]["rates"]
    )
    what = (
        f"a class ({'/'.join(str(one['rows']) for one in seeds)} rows)"
        if kind == "class"
        else f"requests in a row, {seeds[0]['rows']} random rows each"
    )
    heads = ["method" if kind == "class" else "method, after", *FIGURES, "distance"]
    return f"{name}: {what}; rates {rates}", heads, rows


def _spread(values: Sequence[float]) -> str:
    return str(Spread.of(values))


def _power(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}"


def _distance(values: Sequence[float]) -> str:
    """Small ones as a power of ten, others with their deviation."""
    if max(values) < 1e-3:
        return _power(max(values))
    deviation = stdev(values) if len(values) > 1 else math.nan
    return f"{fmean(values):.2f}" + ("" if math.isnan(deviation) else f"±{deviation:.2f}")
