"""Rows of a table over seeds: one cell of figures a seed, of which some may be missing."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

Cell = Mapping[str, Any]
"""Figures of one seed by name. One that is None or NaN is missing."""


def mean(cells: Iterable[Cell], figure: str) -> float:
    """Of the seeds that have the figure; NaN where none has."""
    values = _values(cells, figure)
    return fmean(values) if values else math.nan


def spread(cells: Sequence[Cell], figure: str, decimals: int) -> str | None:
    """Mean and standard deviation, and of how many seeds where some lack it; None where all do."""
    values = _values(cells, figure)
    if not values:
        return None
    deviation = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
    fewer = f" ({len(values)} of {len(cells)})" if len(values) < len(cells) else ""
    return f"{fmean(values):.{decimals}f}{deviation}{fewer}"


def differences(one: Sequence[Cell], other: Sequence[Cell], figure: str) -> list[float]:
    """``one`` less ``other`` on every seed on which both have the figure.

    Args:
        one: cells of some seeds.
        other: of the same seeds in the same order.
        figure: its name.

    Raises:
        ValueError: the rows have not the same number of seeds.
    """
    return [
        float(a[figure]) - float(b[figure])
        for a, b in zip(one, other, strict=True)
        if not _missing(a, figure) and not _missing(b, figure)
    ]


def _values(cells: Iterable[Cell], figure: str) -> list[float]:
    return [float(cell[figure]) for cell in cells if not _missing(cell, figure)]


def _missing(cell: Cell, figure: str) -> bool:
    return cell.get(figure) is None or math.isnan(float(cell[figure]))
