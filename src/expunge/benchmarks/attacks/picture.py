"""The picture of the attacks: forgotten facts answered by budget, in steps and in rows."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from expunge.audit.plots import LIGHT, MARKS, as_png, open_axes
from expunge.benchmarks.attacks.tables import bases_of, comparisons, oracles_of

ROWS = "few forgotten"
"""The kind of relearning that has a plot of its own by rows shown."""

Cells = Sequence[Mapping[str, Any]]


def png(result: Mapping[str, Any]) -> bytes:
    """A plot for every kind of relearning, at the largest number of rows, and one by rows."""
    bases, oracles = bases_of(result), oracles_of(result)
    attacks = oracles[0]["attacks"]
    kinds = [name for name, found in attacks.items() if "curves" in found]
    methods = {name: comparison.cells for name, comparison in comparisons(result).items()}
    figure = Figure(figsize=(11.4, 7.2), facecolor=LIGHT.surface)
    axes = figure.subplots(2, math.ceil((len(kinds) + 1) / 2), squeeze=False, sharey=True)
    every = list(axes.reshape(-1))
    for axis, kind in zip(every, kinds, strict=False):
        count = max(attacks[kind]["curves"], key=int)
        _by_steps(axis, kind, count, (bases, oracles), methods)
        axis.set_title(f"{kind}: {count} rows shown", fontsize=9)
        axis.set_xlabel("steps", fontsize=8)
    _by_rows(every[len(kinds)], sorted(attacks[ROWS]["curves"], key=int), (bases, oracles), methods)
    for axis in every:
        axis.set_ylim(-0.03, 1.03)
        open_axes(axis, LIGHT)
    for row in axes:
        row[0].set_ylabel("forgotten facts answered, share", fontsize=8)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=8, frameon=False, fontsize=7)
    figure.tight_layout(rect=(0, 0.03 + 0.025 * math.ceil(len(labels) / 8), 1, 1))
    return as_png(figure, 150)


def curves(cells: Cells, kind: str, count: str) -> list[list[float]]:
    """Of the models that can be relearned: share answered after each step."""
    found = [cell["attacks"][kind] for cell in cells]
    return [one["curves"][count] for one in found if "curves" in one]


def _by_steps(
    axis: Axes, kind: str, count: str, known: tuple[Cells, Cells], methods: Mapping[str, Cells]
) -> None:
    for place, (name, cells) in enumerate(methods.items()):
        if its := curves(cells, kind, count):
            axis.plot([fmean(step) for step in zip(*its, strict=True)], label=name, **_line(place))
    bases, oracles = (curves(cells, kind, count) for cells in known)
    axis.plot(
        [fmean(step) for step in zip(*bases, strict=True)],
        color=LIGHT.ink,
        linestyle=":",
        linewidth=1,
        label="base",
    )
    steps = list(zip(*oracles, strict=True))
    low, high = [min(step) for step in steps], [max(step) for step in steps]
    axis.fill_between(range(len(steps)), low, high, color=LIGHT.line, label="oracles", zorder=0)


def _by_rows(
    axis: Axes, counts: Sequence[str], known: tuple[Cells, Cells], methods: Mapping[str, Cells]
) -> None:
    def most(cells: Cells) -> list[list[float]]:
        return [[max(curve) for curve in curves(cells, ROWS, count)] for count in counts]

    rows = [int(count) for count in counts]
    for place, cells in enumerate(methods.values()):
        if all(shares := most(cells)):
            look = _line(place) | {"marker": MARKS[place // len(LIGHT.series) % len(MARKS)]}
            axis.plot(rows, [fmean(each) for each in shares], markersize=3.5, **look)
    _, oracles = (most(cells) for cells in known)
    low, high = [min(each) for each in oracles], [max(each) for each in oracles]
    axis.fill_between(rows, low, high, color=LIGHT.line, zorder=0)
    axis.set_xticks(rows)
    axis.set_title(f"{ROWS}: most in any step", fontsize=9)
    axis.set_xlabel("rows shown", fontsize=8)


def _line(place: int) -> dict[str, Any]:
    styles = ("-", "--", "-.", ":")
    return {
        "color": LIGHT.series[place % len(LIGHT.series)],
        "linestyle": styles[place // len(LIGHT.series) % len(styles)],
        "linewidth": 1.1,
    }
