"""What the benchmark of sparsity found, as tables: one row a pruned model, one column a method."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from expunge.benchmarks.classification.tables import Spread
from expunge.benchmarks.sparsity.verdict import NOT_JUDGED, SPARSEST
from expunge.benchmarks.sparsity.work import DENSE

CAPTION = (
    "gap: mean distance of UA, RA, TA and SVC-MIA (confidence) on test rows to the mean of the "
    "oracles, in points, mean±sd over seeds. oracles: of one oracle to the mean of the others, the "
    "least that can be asked for. none: of the pruned model as it is. FT fine-tune, GA gradient "
    "ascent, FF Fisher forgetting, IU influence, l1 l1-sparse. *: the strength that was chosen. "
    "< or >: it is the smallest or the largest that was tried; a better one may lie beyond it."
)

SHORT = {
    "fine-tune": "FT",
    "gradient-ascent": "GA",
    "fisher-forgetting": "FF",
    "influence": "IU",
    "l1-sparse": "l1",
}
"""The methods as the paper abbreviates them."""

EXPECTED = "Expected: the gap to the sparse oracles shrinks with sparsity."

Values = Sequence[float | None]
OfPruner = Callable[[Any], tuple[Values, ...]]
Table = tuple[str, Sequence[str], list[Sequence[object]]]


FAILED = "failed"
AT_DENSE = "gap to the sparse oracles at the strength of the dense model"


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    for kind, its in result["requests"].items():
        about = f"{result['world']}, {kind} ({its['forget rows']} rows)"
        for title, beside, of_pruner, of_method in _shown():
            names = list(its["pruners"][DENSE]["methods"])
            rows: list[Sequence[object]] = [
                [
                    pruner,
                    *map(percent, of_pruner(one)),
                    *(_cell(its["pruners"], pruner, name, of_method, title) for name in names),
                ]
                for pruner, one in its["pruners"].items()
            ]
            heads = ["model", *beside, *(SHORT.get(name, name) for name in names)]
            found.append((f"{about}: {title}", heads, rows))
        found += [_by_strength(about, name, its["pruners"]) for name in names]
    return found


def _shown() -> Sequence[tuple[str, Sequence[str], OfPruner, Callable[[Any], Values]]]:
    """Titles, columns of the models themselves, and how these and those of methods are read."""

    def nothing(pruner: Any) -> tuple[Values, ...]:
        return ()

    def known(pruner: Any) -> tuple[Values, ...]:
        return pruner["gap among oracles"], pruner["gap of the originals"]

    sparse, pair = "gap to the sparse oracles", ("original", "oracle")
    return (
        (sparse, ("oracles", "none"), known, itemgetter("gap")),
        (f"{sparse} without the attack", (), nothing, itemgetter("gap without the attack")),
        ("gap to the dense oracles", (), nothing, itemgetter("gap to the dense oracles")),
        (AT_DENSE, (), nothing, itemgetter("gap at the dense strength")),
        ("unlearned, UA in %", pair, _pair("UA"), _figure("UA")),
        ("test accuracy in %", pair, _pair("TA"), _figure("TA")),
    )


def _cell(
    pruners: Mapping[str, Any],
    pruner: str,
    name: str,
    of_method: Callable[[Any], Values],
    title: str,
) -> str:
    """A method's number on a pruned model, marked where its strength is the first or the last."""
    its = pruners[pruner]["methods"].get(name)
    if its is None:
        return "-"
    text = percent(of_method(its))
    strength = pruners[DENSE]["methods"][name]["strength"] if title == AT_DENSE else its["strength"]
    return text if text == FAILED else text + _edge(its["tried"], strength)


def _edge(tried: Sequence[Mapping[str, Any]], strength: float) -> str:
    strengths = [trial["strength"] for trial in tried]
    return "<" if strength == strengths[0] else ">" if strength == strengths[-1] else ""


def _by_strength(about: str, name: str, pruners: Mapping[str, Any]) -> Table:
    """What the strength of a method was chosen from."""
    rows: list[Sequence[object]] = []
    heads: list[str] = []
    for pruner, its in pruners.items():
        if name in its["methods"]:
            own = its["methods"][name]
            heads = [f"{trial['strength']:g}" for trial in own["tried"]]
            rows.append([pruner, *(_trial(trial, own["strength"]) for trial in own["tried"])])
    return f"{about}: gap of {name} by strength, validation rows, seed 0", ["model", *heads], rows


def _trial(trial: Mapping[str, Any], chosen: float | None) -> str:
    if "gap" not in trial:
        return FAILED
    return f"{100 * trial['gap']:.1f}" + ("*" if trial["strength"] == chosen else "")


def sentences(result: Mapping[str, Any]) -> list[str]:
    """The expectation, the verdict, and what was chosen."""
    return [
        CAPTION,
        EXPECTED,
        *_said("Verdict", result["verdict"], result["seeds"]),
        *_said(
            "Without the attack (UA, RA, TA)", result["verdict without the attack"], result["seeds"]
        ),
    ]


def _said(name: str, its: Mapping[str, Any], seeds: int) -> list[str]:
    total = its["shrinks"] + its["unclear"] + its["grows"]
    judged = (
        f"Of {total} pairs of a request and a method on a model pruned to about 95 %, the gap is "
        f"smaller than on the dense model in every one of {seeds} seeds in {its['shrinks']}, "
        f"larger in every seed in {its['grows']}."
    )
    if its["verdict"] == NOT_JUDGED:
        judged = f"Nothing was measured on the models it is judged on: {', '.join(SPARSEST)}."
    return [
        f"{name}: {its['verdict']}. {judged}",
        *(
            f"{pruner}: smaller in every seed in {one['shrinks']} of {sum(one.values())}, larger "
            f"in every seed in {one['grows']}."
            for pruner, one in its["by pruner"].items()
        ),
    ]


def _figure(name: str) -> Callable[[Any], Values]:
    return lambda method: _of(method["figures"], name)


def _pair(name: str) -> Callable[[Any], tuple[Values, ...]]:
    return lambda its: (_of(its["originals"], name), _of(its["oracles"], name))


def _of(figures: Sequence[Mapping[str, float] | None], name: str) -> Values:
    return [None if found is None else found[name] for found in figures]


def percent(values: Values) -> str:
    """Mean and standard deviation in percent, one digit behind the point."""
    spread = Spread.of(values)
    if spread is None or None in values:
        return FAILED
    return f"{100 * spread.mean:.1f}±{100 * spread.sd:.0f}"
