"""What the benchmark prints: methods against identified shares, one table a measure."""

from collections.abc import Mapping, Sequence
from typing import Any

Table = tuple[str, Sequence[str], list[Sequence[object]]]

SHOWN = (
    ("corrected", "as it comes", "corrected accuracy, as it comes"),
    ("retained", "as it comes", "retained accuracy, as it comes"),
    ("corrected", "matched", "corrected accuracy, matched"),
    ("retained", "matched", "retained accuracy, matched"),
    ("attacked", "as it comes", "attack success (lower is better), as it comes"),
    ("manipulated", "as it comes", "clean answers on all manipulated rows (S_m), as it comes"),
    ("identified", "as it comes", "clean answers on the identified rows (S_f), as it comes"),
)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of every table, and the findings last."""
    found = [
        _table(panel, *which)
        for panel in result["panels"]
        for which in SHOWN
        if which[0] in panel["original"]
    ]
    return [*found, _findings(result["findings"])] if result["findings"] else found


def _table(panel: Mapping[str, Any], measure: str, variant: str, title: str) -> Table:
    shares = panel["shares"]
    rows: list[Sequence[object]] = []
    for name in ("original", "clean"):
        cell = _percent(panel[name][measure])
        label = "original" if name == "original" else "REFERENCE: clean data"
        # of the two references S_f is read where all of S_m is identified
        rows.append([label, *([cell] if measure != "identified" else ["-"]) * len(shares)])
    for name, cells in panel["methods"].items():
        mine = [cells.get(f"{share:g}") for share in shares]
        if all(cell is None or variant not in cell for cell in mine):
            continue
        label = "retrain (baseline)" if name == "retrain" else name
        rows.append([label, *(_shown(cell, variant, measure) for cell in mine)])
    head = f"{panel['world']}, {panel['manipulation']}: {title}"
    chance = "" if measure == "attacked" else f"; chance {100 * panel['chance']:.0f}"
    return (
        f"{head}. %, mean ± sd over seeds{chance}. Columns: identified share of S_m",
        ["method", *(f"{share:.0%}" for share in shares)],
        rows,
    )


def _shown(cell: Mapping[str, Any] | None, variant: str, measure: str) -> str | None:
    if cell is None or variant not in cell:
        return None
    mark = "!!" if cell["collapsed"] else "!" if cell["damaged"] else ""
    return _percent(cell[variant][measure]) + (mark if variant == "as it comes" else "")


def _percent(spread: Mapping[str, Any]) -> str:
    mean = f"{100 * spread['mean']:.0f}"
    return mean if spread["sd"] is None else f"{mean}±{100 * spread['sd']:.0f}"


def _findings(found: Sequence[Mapping[str, Any]]) -> Table:
    return (
        "Expected, and measured (means over seeds, %)",
        ["where and what", "measured", "held"],
        [
            [f"{f['panel']}: {f['expected']}", f["measured"], "yes" if f["held"] else "NO"]
            for f in found
        ],
    )


def notes(result: Mapping[str, Any]) -> list[str]:
    """Sizes, collapsed models, methods that could not be run, and how things were chosen."""
    found = []
    for panel in result["panels"]:
        where = f"{panel['world']}, {panel['manipulation']}"
        effective = "/".join(map(str, sorted(set(panel["effective"]))))
        found.append(
            f"{where}: {panel['manipulated']} of {panel['rows']:,} training rows manipulated, "
            f"{effective} of them with another label than before; corrected accuracy is on "
            f"{panel['domain']}."
        )
        found += _of_methods(panel, where, result["seeds"])
    return [
        *found,
        f"!: damaged, !!: collapsed, which is a retained accuracy below "
        f"{result['damaged below']:.0%} and {result['collapsed below']:.0%} of the original's in "
        "at least one seed.",
        "Retraining without the identified part learns the rest of the manipulation again: it is "
        "a baseline. The reference is the same model trained on the clean rows.",
        "Attack success: answered with the trigger's class, or with the other of two confused "
        "classes.",
        _chosen(result["trials"]),
        f"Matched: scaled to lose at most {100 * result['tolerance']:.0f} points of the original's "
        "retained accuracy on validation rows.",
    ]


def _chosen(trials: int) -> str:
    if not trials:
        return "Every method is at its shipped preset; nothing is tuned."
    return (
        f"Each method with something to tune has {trials} trials on the model that it corrects, "
        "judged by the mean of clean answers on the identified rows and retained accuracy on "
        "validation rows; no test row and no hidden row is looked at."
    )


def _of_methods(panel: Mapping[str, Any], where: str, seeds: int) -> list[str]:
    found = []
    for name, cells in panel["methods"].items():
        reasons: dict[str, list[str]] = {}
        for share, cell in cells.items():
            if reason := cell.get("unfit") or cell.get("failed"):
                reasons.setdefault(reason, []).append(f"{float(share):.0%}")
        found += [
            f"{where}: {name} is not shown at {', '.join(shares)}: {reason}"
            for reason, shares in reasons.items()
        ]
        lost = {s: c["collapsed"] for s, c in cells.items() if c.get("collapsed")}
        if lost:
            kept = min(cells[share]["as it comes"]["retained"]["mean"] for share in lost)
            at = ", ".join(f"{float(s):.0%} ({n} of {seeds} seeds)" for s, n in lost.items())
            found.append(
                f"{where}: {name} collapsed the model at {at}: retained accuracy down to "
                f"{kept:.2f} from {panel['original']['retained']['mean']:.2f}."
            )
    return found
