"""What the benchmark of sparsity found, as tables: one row a pruned model, one column a method."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from expunge.benchmarks.classification.tables import Spread

CAPTION = (
    "gap: mean distance of UA, RA, TA and SVC-MIA (confidence) on test rows to the mean of the "
    "oracles, in points, mean±sd over seeds. oracles: of one oracle to the mean of the others, the "
    "least that can be asked for. none: of the pruned model as it is. FT fine-tune, GA gradient "
    "ascent, FF Fisher forgetting, IU influence, l1 l1-sparse."
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
Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    for kind, its in result["requests"].items():
        about = f"{result['world']}, {kind} ({its['forget rows']} rows)"
        for title, beside, of_pruner, of_method in (
            (
                "gap to the sparse oracles",
                ("oracles", "none"),
                lambda its: (its["gap among oracles"], its["gap of the originals"]),
                lambda method: method["gap"],
            ),
            (
                "gap to the sparse oracles without the attack",
                (),
                lambda its: (),
                lambda method: method["gap without the attack"],
            ),
            (
                "gap to the dense oracles",
                (),
                lambda its: (),
                lambda method: method["gap to the dense oracles"],
            ),
            (
                "gap to the sparse oracles at the strength of the dense model",
                (),
                lambda its: (),
                lambda method: method["gap at the dense strength"],
            ),
            ("unlearned, UA in %", ("original", "oracle"), _pair("UA"), _figure("UA")),
            ("test accuracy in %", ("original", "oracle"), _pair("TA"), _figure("TA")),
        ):
            names = list(its["pruners"]["dense"]["methods"])
            rows: list[Sequence[object]] = [
                [
                    pruner,
                    *map(_text, of_pruner(one)),
                    *(
                        _text(of_method(one["methods"][name])) if name in one["methods"] else "-"
                        for name in names
                    ),
                ]
                for pruner, one in its["pruners"].items()
            ]
            heads = ["model", *beside, *(SHORT.get(name, name) for name in names)]
            found.append((f"{about}: {title}", heads, rows))
        found += [_by_strength(about, name, its["pruners"]) for name in names]
    return found


def _by_strength(about: str, name: str, pruners: Mapping[str, Any]) -> Table:
    """What the strength of a method was chosen from."""
    rows: list[Sequence[object]] = []
    heads: list[str] = []
    for pruner, its in pruners.items():
        if name in its["methods"]:
            tried = its["methods"][name]["tried"]
            heads = [f"{trial['strength']:g}" for trial in tried]
            rows.append(
                [pruner, *(f"{100 * t['gap']:.1f}" if "gap" in t else "failed" for t in tried)]
            )
    return f"{about}: gap of {name} by strength, validation rows, seed 0", ["model", *heads], rows


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
    return [
        (
            f"{name}: {its['verdict']}. Of {total} pairs of a request and a method on a model "
            f"pruned to about 95 %, the gap is smaller than on the dense model in every one of "
            f"{seeds} seeds in {its['shrinks']}, larger in every seed in {its['grows']}."
        ),
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


def _text(values: Values) -> str:
    """Mean and standard deviation in percent, one digit behind the point."""
    spread = Spread.of(values)
    if spread is None or None in values:
        return "failed"
    return f"{100 * spread.mean:.1f}±{100 * spread.sd:.0f}"
