"""What mini-TOFU found, as tables: the references, the ends of the methods, and their curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from expunge.signals.forget_quality import ALIKE

CAPTION = (
    "log10 p: forget quality, KS of the truth ratios on forgotten questions against two oracles, "
    f"median; above {ALIKE:g} (log10 -1.3) a model is not told from an oracle. utility: harmonic "
    "mean of nine. TR: forget truth ratio, 1 where wrong answers are as likely as the true one. P, "
    "ROUGE, ES: probability, ROUGE-L recall and extraction strength on forgotten answers. Min-K: "
    "AUC against facts that no model saw. Forgetting is nearness to the oracles' row, in either "
    "direction; utility belongs beside it. *: the rate that was chosen; < or >: it is the smallest "
    "or the largest that was tried, and a better one may lie beyond it."
)

Table = tuple[str, Sequence[str], list[Sequence[object]]]

COLUMNS: Mapping[str, str] = {
    "log10 p": "forget quality (log10 p)",
    "utility": "model utility",
    "TR": "forget truth ratio",
    "P": "forget probability",
    "ROUGE": "forget ROUGE",
    "ES": "extraction strength",
    "Min-K": "AUC of Min-K%",
    "PrivLeak": "PrivLeak",
}


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of what is printed."""
    found: list[Table] = []
    for share, its in result["requests"].items():
        about = f"{share} of {result['authors']} authors ({its['questions']} questions)"
        found.append((f"{about}: where methods end", *_ends(its)))
        for name in ("log10 p", "utility", "TR", "ROUGE"):
            found.append((f"{about}: {name} by epoch", *_curves(its, COLUMNS[name])))
        if its["tuning"]["tried"]:
            found.append((f"{about}: distance to the oracles by rate, other authors", *_tried(its)))
    return found


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What the columns are, and whether forgetting can be measured."""
    found = [CAPTION]
    for share, its in result["requests"].items():
        gate = its["gate"]
        found.append(
            f"{share}: oracle against oracle 10^"
            f"{gate['oracle against oracle (log10 p)']:.2f}, original against oracle 10^"
            f"{gate['original against oracle (log10 p)']:.2f}: forgetting "
            f"{'can' if its['measurable'] else 'CANNOT'} be measured here."
        )
    seconds = result["training seconds"]
    found.append(
        f"Training took {min(seconds.values()):.0f} to {max(seconds.values()):.0f} processor "
        "seconds a model."
    )
    found += [f"Left out: {name}, {why}." for name, why in result["left out"].items()]
    return found


def _ends(its: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[object]]]:
    rows: list[Sequence[object]] = [("original", None, *_figures(its["original"]), None)]
    rows += [
        (f"oracle {number}", None, *_figures(oracle), None)
        for number, oracle in enumerate(its["oracles"], 1)
    ]
    rows += [
        (name, f"{one['rate']:g}", *_figures(one["final"]), f"{one['seconds']:.1f}")
        if "final" in one
        else (name, f"{one['rate']:g}", *("failed" for _ in COLUMNS), None)
        for name, one in its["methods"].items()
    ]
    return ("model", "rate", *COLUMNS, "seconds"), rows


def _figures(one: Mapping[str, Any]) -> list[object]:
    return [_text(one.get(name)) for name in COLUMNS.values()]


def _curves(its: Mapping[str, Any], figure: str) -> tuple[Sequence[str], list[Sequence[object]]]:
    curves = {n: {p["epoch"]: p[figure] for p in one["curve"]} for n, one in its["methods"].items()}
    epochs = sorted({epoch for curve in curves.values() for epoch in curve})
    rows: list[Sequence[object]] = [
        (name, *(_text(curve.get(epoch)) for epoch in epochs)) for name, curve in curves.items()
    ]
    return ("method", *map(str, epochs)), rows


def _tried(its: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[object]]]:
    tried, rates = its["tuning"]["tried"], its["tuning"]["rates"]
    heads = list(dict.fromkeys(rate for of in tried.values() for rate in of))
    rows: list[Sequence[object]] = [
        (name, *(_chosen(of.get(rate), _mark(rate, heads, rates.get(name))) for rate in heads))
        for name, of in tried.items()
    ]
    return ("method", *heads), rows


def _mark(rate: str, heads: Sequence[str], chosen: float | None) -> str:
    """Whether it was chosen, and is the smallest or the largest that was tried."""
    if chosen is None or float(rate) != chosen:
        return ""
    return "<" if rate == heads[0] else ">" if rate == heads[-1] else "*"


def _chosen(value: float | None, mark: str) -> str:
    return "failed" if value is None else f"{value:.3f}{mark}"


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
