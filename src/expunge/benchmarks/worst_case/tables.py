"""What the benchmark of worst-case forget sets found, as tables."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from expunge.benchmarks.worst_case.protocol import AVERAGED
from expunge.benchmarks.worst_case.work import ANSWERED, LOWEST, RANDOM, WORST

CAPTION = (
    "UA: share of the chosen rows that a model does not answer with their own label. Retrained: "
    "the same training and seed without the chosen rows. Overlap: with the random set, in rows. "
    "Start, end: the mean loss on the random rows and on the chosen ones of a model that unlearned "
    f"them. Gap: mean distance of {', '.join(AVERAGED)} to the retrained model, in points. All "
    "methods are at their presets; mean±sd over seeds."
)

Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    for training, its in result["trainings"].items():
        about = f"digits, {training}, {its['rows']} rows"
        found += [
            (f"{about}: the sets", _SET_COLUMNS, [_set(n, s) for n, s in its["sets"].items()]),
            _of_models(f"{about}: gap to the retrained model", its["gaps"], "gap"),
            _of_models(f"{about}: gap without the attack", its["gaps"], "gap without the attack"),
            _of_models(f"{about}: UA in %", its["gaps"], "UA"),
            (
                f"digits, {training}: the class that is chosen, and its rank of 10 by loss",
                ["seed", WORST, LOWEST, RANDOM],
                [[str(seed), *_classes(one)] for seed, one in enumerate(its["classes"])],
            ),
        ]
    return found


_SET_COLUMNS = (
    "set", "UA original", "UA retrained", "wrong labels %", "overlap", "start", "end"
)  # fmt: skip


def _set(name: str, its: Mapping[str, Any]) -> Sequence[object]:
    return [
        name,
        percent(its["UA of the original"]),
        percent(its["UA of the retrained"]),
        percent(its["wrong labels"]),
        f"{fmean(its['overlap']):.0f}",
        *("-" if None in its[end] else f"{fmean(its[end]):.2g}" for end in ("start", "end")),
    ]


def _of_models(title: str, gaps: Mapping[str, Any], shown: str) -> Table:
    rows: list[Sequence[object]] = [
        [model, *(percent(_values(gaps[name][model], shown)) for name in ANSWERED)]
        for model in gaps[WORST]
        if shown == "UA" or model != "retrained"
    ]
    return title, ["model", *ANSWERED], rows


def _values(its: Mapping[str, Any], shown: str) -> Sequence[float | None]:
    if shown in its:
        found: Sequence[float | None] = its[shown]
        return found
    return [None if figures is None else figures[shown] for figures in its["figures"]]


def _classes(one: Mapping[str, Any]) -> list[str]:
    losses = one["losses"]
    ranked = sorted(range(len(losses)), key=losses.__getitem__)
    return [f"{one[name]} ({ranked.index(one[name]) + 1})" for name in (WORST, LOWEST, RANDOM)]


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What the columns are, what the models know, and what was expected."""
    found = [CAPTION]
    for training, its in result["trainings"].items():
        known, right = (
            100 * fmean(base[name] for base in its["bases"]) for name in ("known by heart", "TA")
        )
        found.append(
            f"{training}: the originals know {known:.0f} % of the wrong labels by heart and answer "
            f"{right:.1f} % of the test rows."
        )
        found += [
            f"  {'yes' if so else 'NO'}: {expected}" for expected, so in its["checks"].items()
        ]
    return found


def percent(values: Sequence[float | None]) -> str:
    """Mean and standard deviation in percent; "failed" where there is no value of a seed."""
    sound = [100 * value for value in values if value is not None]
    if len(sound) < len(values) or not sound:
        return "failed"
    spread = f"±{stdev(sound):.1f}" if len(sound) > 1 else ""
    return f"{fmean(sound):.1f}{spread}"
