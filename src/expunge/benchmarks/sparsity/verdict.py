"""The verdict: whether gaps shrink with sparsity, counted over requests, methods and models."""

from collections.abc import Mapping, Sequence
from typing import Any

from expunge.benchmarks.sparsity.work import DENSE

SPARSEST = ("one-shot 95 %", "iterative 96 %", "SynFlow 95 %")
"""What is held against the dense model in the verdict."""

NOT_JUDGED = "not judged"
"""The verdict where nothing was measured on the sparsest models."""


def verdict(requests: Mapping[str, Any], key: str = "gap") -> dict[str, Any]:
    """Whether gaps are smaller on pruned models than on the dense one, seed by seed.

    A cell is a request, a method and a pruned model; its gap shrinks or grows where it does so in
    every seed. The claim is judged on :data:`SPARSEST`: reproduced where more than half of their
    cells shrink, contradicted where more grow than shrink, not judged where there are none. ``by
    pruner`` counts all models; ``key`` names the gap.
    """
    cells: list[dict[str, Any]] = []
    for kind, its in requests.items():
        dense = its["pruners"][DENSE]["methods"]
        for pruner, one in its["pruners"].items():
            for name, found in one["methods"].items():
                pairs = list(zip(dense[name][key], found[key], strict=True))
                if pruner != DENSE and not any(None in pair for pair in pairs):
                    less = [before - after for before, after in pairs]
                    where = {"request": kind, "pruner": pruner, "method": name}
                    cells.append({**where, "less": less, "way": _way(less)})
    judged = _counts([cell for cell in cells if cell["pruner"] in SPARSEST])
    said = "not reproduced"
    if not any(judged.values()):
        said = NOT_JUDGED
    elif judged["grows"] > judged["shrinks"]:
        said = "contradicted"
    elif 2 * judged["shrinks"] > sum(judged.values()):
        said = "reproduced"
    names = dict.fromkeys(cell["pruner"] for cell in cells)
    by = {name: _counts([cell for cell in cells if cell["pruner"] == name]) for name in names}
    return {"verdict": said, **judged, "by pruner": by, "cells": cells}


def _way(less: Sequence[float]) -> str:
    if all(value > 0 for value in less):
        return "shrinks"
    return "grows" if all(value < 0 for value in less) else "unclear"


def _counts(cells: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    ways = [cell["way"] for cell in cells]
    return {way: ways.count(way) for way in ("shrinks", "unclear", "grows")}
