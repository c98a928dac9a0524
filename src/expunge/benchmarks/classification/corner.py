"""The oracle corner: every method by its distances to the oracle, which stands in the corner.

One panel holds forgetting against what is retained, the other membership against held-out rows. The
shaded rectangle is how far an oracle is from the others: nothing nearer than that means anything.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from expunge.audit.plots import LIGHT, Theme, as_png
from expunge.benchmarks.classification.rows import Figures, gap
from expunge.benchmarks.classification.tables import (
    SETTINGS,
    Line,
    Setting,
    each_and_others,
    lines,
    settings_of,
)

PANELS = (
    ("UA", "RA", "forget rows (UA)", "retain rows (RA)"),
    ("LR-MIA", "TA", "membership (LR-MIA)", "test rows (TA)"),
)
"""Figures across and up, and what they are called."""

WIDTH, HEIGHT = 9.6, 4.4
"""Inches of one request."""

LEAST = 1e-3
"""Distances below this are drawn here: the axes are logarithmic."""


def corner_png(
    title: str, request: Mapping[str, Any], setting: Setting, theme: Theme = LIGHT
) -> bytes:
    """The picture of one request.

    Args:
        title: what stands above it.
        request: its part of the result.
        setting: how the methods are shown.
        theme: colours.
    """
    rows = [line for line in lines(request, setting) if line.failed is None]
    oracle, methods = rows[1], [rows[0], *rows[2:]]
    with mpl.rc_context({"font.size": 8.5, "text.color": theme.ink}):
        figure = Figure((WIDTH, HEIGHT), facecolor=theme.surface)
        for place, (x, y, across, up) in enumerate(PANELS):
            axes = figure.add_axes((0.07 + 0.35 * place, 0.13, 0.28, 0.70))
            _panel(axes, (x, y), oracle, methods, request["references"]["oracles"], theme)
            axes.set_xlabel(f"distance to the oracle, {across}")
            axes.set_ylabel(f"distance, {up}")
        figure.text(0.07, 0.93, f"{title}; {SETTINGS[setting]}", fontsize=10, color=theme.ink)
        names = "\n".join(f"{_number(i)}  {line.name}" for i, line in enumerate(methods))
        figure.text(0.79, 0.85, names, va="top", fontsize=8, linespacing=1.45, color=theme.ink)
        figure.text(
            0.79, 0.10, "filled: over the oracle\nhollow: under it", va="top", color=theme.faint
        )
        return as_png(figure, 150)


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """One picture for every request and setting, by a name that can be a file's."""
    found: dict[str, bytes] = {}
    for world, content in result["worlds"].items():
        for kind, request in content["requests"].items():
            words = "".join(c if c.isalnum() else "-" for c in kind.replace(" %", "")).strip("-")
            for setting in settings_of(request):
                name = f"{world}-{words}-{setting.replace(', ', '-')}"
                found[name] = corner_png(f"{world}, {kind}", request, setting)
    return found


def _panel(
    axes: Axes,
    pair: tuple[str, str],
    oracle: Line,
    methods: Sequence[Line],
    oracles: Sequence[Figures],
    theme: Theme,
) -> None:
    centre = [_mean(oracle, name) for name in pair]
    spread = [
        max(
            LEAST,
            fmean(gap(one, others, (name,)) for one, others in each_and_others(oracles)),
        )
        for name in pair
    ]
    axes.add_patch(
        Rectangle(
            (LEAST / 2, LEAST / 2),
            *(side - LEAST / 2 for side in spread),
            color=theme.line,
            zorder=0,
        )
    )
    for place, line in enumerate(methods):
        away = [_mean(line, name) - middle for name, middle in zip(pair, centre, strict=True)]
        x, y = (max(LEAST, abs(value)) for value in away)
        colour = theme.ink if line.name == "original" else theme.series[0]
        face = colour if away[0] > 0 else theme.surface
        axes.plot(x, y, "o", markersize=6, color=colour, markerfacecolor=face)
        axes.annotate(
            _number(place), (x, y), (3, 3), textcoords="offset points", color=theme.ink, fontsize=8
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(LEAST / 2, 1.2)
    axes.set_ylim(LEAST / 2, 1.2)
    axes.set_facecolor(theme.surface)
    axes.grid(color=theme.line, linewidth=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mean(line: Line, name: str) -> float:
    found = line.figures[name]
    assert found is not None
    return found.mean


def _number(place: int) -> str:
    return "o" if place == 0 else str(place)
