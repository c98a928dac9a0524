"""The picture of the facts: forget against utility, and what forgetting leaves behind."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from expunge.audit.plots import LIGHT, MARKS, as_png, open_axes
from expunge.benchmarks.facts.tables import (
    FORGOTTEN,
    RETAINED,
    Cell,
    Spread,
    by_method,
    steps_of,
)

Points = Mapping[str, Sequence[Cell]]
"""Of each method, what was measured of its models."""


def png(result: Mapping[str, Any], mode: str = "preset") -> bytes:
    """Two plots of the answers to one request in one mode: facts that are answered, forgotten and
    retained, with the corner; and how likely the forgotten answers are, with the steps until they
    are relearned, with the spread of the oracles. Means, with standard deviations over draws and
    seeds."""
    oracles = [cell for cell in result["references"] if cell["without"]]
    bases = [cell for cell in result["references"] if not cell["without"]]
    asked = (cell for cell in result["answers"] if cell["mode"] == mode and "forget" in cell)
    points = dict(by_method(asked))
    figure = Figure(figsize=(10.6, 5.6), facecolor=LIGHT.surface)
    left, right = figure.subplots(1, 2)
    corner = left.inset_axes((0.32, 0.25, 0.66, 0.6))
    for axes in (left, corner):
        axes.add_patch(
            Rectangle((-1, RETAINED), 1 + FORGOTTEN, 2 - RETAINED, color=LIGHT.line, zorder=0)
        )
        _drawn(axes, points, _shares)
        _references(axes, bases, oracles, _shares)
    left.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    corner.set(xlim=(-0.005, 0.105), ylim=(0.895, 1.005))
    corner.set_title("the corner", fontsize=8, color=LIGHT.faint)
    left.set_xlabel("forgotten facts answered, share", fontsize=8)
    left.set_ylabel("retained facts answered, share", fontsize=8)
    _drawn(right, points, _trace)
    _references(right, [], oracles, _trace)
    seen = [_trace(cell) for cell in oracles]
    spread = [(min(axis), max(axis)) for axis in zip(*seen, strict=True)]
    (low, high), (first, last) = spread
    right.add_patch(Rectangle((low, first), high - low, last - first, color=LIGHT.line, zorder=0))
    right.set_xlabel("mean log-probability of a forgotten answer's token, nats", fontsize=8)
    right.set_ylabel("steps until half is relearned", fontsize=8)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=6, frameon=False, fontsize=7)
    for axes in (left, corner, right):
        open_axes(axes, LIGHT)
    figure.tight_layout(rect=(0, 0.03 + 0.03 * math.ceil(len(labels) / 6), 1, 1))
    return as_png(figure, 150)


def _shares(cell: Cell) -> tuple[float, float]:
    return cell["forget"], cell["retain"]


def _trace(cell: Cell) -> tuple[float, float]:
    return fmean(cell["log probability"]), steps_of(cell)


def _drawn(axes: Axes, points: Points, place: Any) -> None:
    for number, (name, cells) in enumerate(points.items()):
        across, up = (Spread.of(values) for values in zip(*map(place, cells), strict=True))
        axes.errorbar(
            across.mean,
            up.mean,
            xerr=None if math.isnan(across.sd) else across.sd,
            yerr=None if math.isnan(up.sd) else up.sd,
            label=name,
            color=LIGHT.series[number % len(LIGHT.series)],
            marker=MARKS[number // len(LIGHT.series) % len(MARKS)],
            markersize=5,
            linestyle="none",
            elinewidth=0.6,
            capsize=2,
        )


def _references(axes: Axes, bases: Sequence[Cell], oracles: Sequence[Cell], place: Any) -> None:
    kinds = (("base", bases, "*", LIGHT.ink), ("oracles", oracles, "h", LIGHT.faint))
    for name, cells, mark, ink in kinds:
        if cells:
            across, up = zip(*map(place, cells), strict=True)
            axes.plot(across, up, mark, color=ink, markersize=9, label=name)
