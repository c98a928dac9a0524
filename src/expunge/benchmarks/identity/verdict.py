"""What the rows show: who forgets and keeps the task, and which findings of the paper come back."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from expunge.benchmarks.classification.work import TOLERANCE
from expunge.benchmarks.identity.forms import ADVANCED, FINE_TUNE, NEG_GRAD, ORACLE, ORIGINAL

MEMORISED, BEYOND = 0.6, 0.03
"""Accuracy of the attack on the original above which there is something to forget, and by how much
it has to be above that on the retrained model, where the attack sees no more than that persons
differ."""

FORGETS = 0.5
"""Share of the original's distance to the oracles that may be left of a row that forgets."""

APART = ("a to the oracles", "forget to the oracles")
"""The two distances by which forgetting is judged: the attack, and the accuracy on those who
left."""

Cell = Mapping[str, Any]


def verdict(result: Mapping[str, Any]) -> dict[str, Any]:
    """Judged cell by cell, a cell being a split and a seed.

    A row forgets where the mean of :data:`APART` is at most :data:`FORGETS` of the original's, and
    keeps the task where its accuracy on test persons is at least the oracles' mean less two points;
    both in every cell.
    """
    cells: Sequence[Cell] = result["cells"]
    found = means(cells)
    rows: list[dict[str, Any]] = []
    for way, name in dict.fromkeys((c["way"], c["name"]) for c in cells):
        own = [c for c in cells if (c["way"], c["name"]) == (way, name)]
        if name in (ORIGINAL, ORACLE):
            continue
        sound = [c for c in own if "failed" not in c]
        forgets = sum(_left(c, cells) <= FORGETS for c in sound)
        keeps = sum(_keeps(c, cells) for c in sound)
        both = sum(_left(c, cells) <= FORGETS and _keeps(c, cells) for c in sound)
        counts = {"cells": len(own), "forgets": forgets, "keeps": keeps, "both": both}
        rows.append({"way": way, "name": name, **counts})
    original, oracle = (found["models", name]["a"] for name in (ORIGINAL, ORACLE))
    memorised = original > MEMORISED and original > oracle + BEYOND
    reached = [row for row in rows if row["both"] == row["cells"]]
    return {
        "memorised": memorised,
        "rows": rows,
        "reached": [f"{row['name']} ({row['way']})" for row in reached] if memorised else [],
        "expected": _expected(found) if memorised else [],
        "above the retrained": [
            name if way == "models" else f"{name} ({way})"
            for (way, name), values in found.items()
            if values["NoMUS"] > found["models", ORACLE]["NoMUS"]
        ],
    }


def means(cells: Iterable[Cell]) -> dict[tuple[str, str], dict[str, float]]:
    """Mean of every figure over the cells of a row that did not fail, by way and name."""
    by: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if "failed" not in cell:
            by.setdefault((cell["way"], cell["name"]), []).append(cell["figures"])
    return {
        row: {
            name: fmean(one[name] for one in figures)
            for name in figures[0]
            if figures[0][name] is not None
        }
        for row, figures in by.items()
    }


def _left(cell: Cell, cells: Sequence[Cell]) -> float:
    """What is left of the original's distance to the oracles."""
    before = next(c for c in _split(cell, cells, ORIGINAL) if c["seed"] == cell["seed"])
    far, was = (fmean(c["figures"][name] for name in APART) for c in (cell, before))
    return far / was if was > 0 else 1.0


def _keeps(cell: Cell, cells: Sequence[Cell]) -> bool:
    oracles = [c["figures"]["accuracy"] for c in _split(cell, cells, ORACLE)]
    return bool(cell["figures"]["accuracy"] >= fmean(oracles) - TOLERANCE)


def _split(cell: Cell, cells: Sequence[Cell], name: str) -> list[Cell]:
    return [c for c in cells if c["draw"] == cell["draw"] and c["name"] == name]


def _expected(found: Mapping[tuple[str, str], Mapping[str, float]]) -> list[dict[str, Any]]:
    """The directions of the paper's table, in its own settings, and what was measured."""
    original, oracle = (found["models", name] for name in (ORIGINAL, ORACLE))
    rows = [
        (
            "the attack on the retrained model is within .03 of a half",
            abs(oracle["a"] - 0.5) <= 0.03,
            f"a = {oracle['a']:.3f}",
        )
    ]
    if tuned := found.get(("as published", FINE_TUNE)):
        moved = tuned["a"] - original["a"]
        rows.append(("fine-tuning leaves a as it is (to .02)", abs(moved) <= 0.02, f"{moved:+.3f}"))
    if ascent := found.get(("as published", NEG_GRAD)):
        lost = original["accuracy"] - ascent["accuracy"]
        rows.append(
            ("NegGrad loses more than 10 points", lost > 0.1, f"loses {100 * lost:.1f} points")
        )
    if both := found.get(("as published", ADVANCED)):
        lost = original["accuracy"] - both["accuracy"]
        less = 1 - both["deviation"] / original["deviation"]
        rows.append(
            (
                "Advanced NegGrad lowers |a - .5| by more than 40 % at less than 5 points",
                less > 0.4 and lost < 0.05,
                f"lowers it by {100 * less:.0f} % and loses {100 * lost:.1f} points",
            )
        )
    return [{"finding": words, "holds": holds, "measured": said} for words, holds, said in rows]
