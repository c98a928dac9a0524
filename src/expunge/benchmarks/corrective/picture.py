"""The picture: corrected accuracy against the identified share, retained accuracy beside it."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from expunge.audit.plots import LIGHT, MARKS, as_png, open_axes
from expunge.benchmarks.corrective.forms import OF_THE_PAPER


def png(result: Mapping[str, Any]) -> bytes:
    """One row of two plots a panel: the paper's methods as they come, original and clean data."""
    panels = result["panels"]
    figure = Figure(figsize=(9.2, 0.9 + 2.9 * len(panels)), facecolor=LIGHT.surface)
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for pair, panel in zip(axes, panels, strict=True):
        for axis, measure in zip(pair, ("corrected", "retained"), strict=True):
            _draw(axis, panel, measure)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=5, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.6 / figure.get_figheight(), 1, 1))
    return as_png(figure, 150)


def _draw(axis: Axes, panel: Mapping[str, Any], measure: str) -> None:
    names = [form.name for form in OF_THE_PAPER if form.name in panel["methods"]]
    for place, name in enumerate(names):
        cells = panel["methods"][name]
        measured = [(float(s), c) for s, c in cells.items() if "as it comes" in c]
        spreads = [cell["as it comes"][measure] for _, cell in measured]
        axis.errorbar(
            [100 * share for share, _ in measured],
            [100 * spread["mean"] for spread in spreads],
            [100 * (spread["sd"] or 0) for spread in spreads],
            label=name,
            color=LIGHT.ink if name == "retrain" else LIGHT.series[place % len(LIGHT.series)],
            marker=MARKS[place % len(MARKS)],
            markersize=4,
            linewidth=1.2,
            elinewidth=0.6,
            capsize=2,
        )
    for name, style in (("original", ":"), ("clean", "--")):
        level = 100 * panel[name][measure]["mean"]
        label = "original" if name == "original" else "reference: clean data"
        axis.axhline(level, color=LIGHT.faint, linestyle=style, linewidth=1, label=label)
    axis.axhline(100 * panel["chance"], color=LIGHT.line, linewidth=0.8, label="chance")
    axis.set_ylim(-3, 103)
    axis.set_title(f"{panel['world']}, {panel['manipulation']}: {measure} accuracy, %", fontsize=9)
    axis.set_xlabel("identified share of the manipulated rows, %", fontsize=8)
    open_axes(axis, LIGHT)
