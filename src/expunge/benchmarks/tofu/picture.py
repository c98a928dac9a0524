"""The picture of mini-TOFU: forget quality against utility, every method from epoch to epoch."""

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from expunge.audit.plots import LIGHT, MARKS, as_png, open_axes
from expunge.signals.forget_quality import ALIKE

QUALITY, UTILITY = "forget quality (log10 p)", "model utility"


def png(result: Mapping[str, Any]) -> bytes:
    """One plot a request: the way of each method, the original, the oracles, and p = 0.05."""
    requests = result["requests"]
    figure = Figure(figsize=(5.2 * len(requests), 5.4), facecolor=LIGHT.surface)
    axes = figure.subplots(1, len(requests), squeeze=False)[0]
    for axis, (share, its) in zip(axes, requests.items(), strict=True):
        _draw(axis, its)
        axis.set_title(f"{share} of the authors forgotten", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=7)
    figure.tight_layout(rect=(0, 0.08 + 0.03 * math.ceil(len(labels) / 4), 1, 1))
    return as_png(figure, 150)


def _draw(axis: Axes, its: Mapping[str, Any]) -> None:
    for place, (name, one) in enumerate(its["methods"].items()):
        points = [its["original"], *one["curve"]]
        axis.plot(
            [point[UTILITY] for point in points],
            [point[QUALITY] for point in points],
            label=name,
            color=LIGHT.series[place % len(LIGHT.series)],
            marker=MARKS[place // len(LIGHT.series) % len(MARKS)],
            markersize=3.5,
            linewidth=1,
        )
    original = its["original"]
    axis.plot(
        original[UTILITY], original[QUALITY], "*", color=LIGHT.ink, markersize=11, label="original"
    )
    for number, oracle in enumerate(its["oracles"]):
        label = None if number else "oracles"
        axis.plot(oracle[UTILITY], oracle[QUALITY], "h", color=LIGHT.faint, ms=9, label=label)
    axis.axhline(math.log10(ALIKE), color=LIGHT.faint, linestyle=":", linewidth=1, label="p = 0.05")
    axis.set_xlim(-0.03, 1.03)
    axis.set_xlabel("model utility", fontsize=8)
    axis.set_ylabel("forget quality, log10 p", fontsize=8)
    open_axes(axis, LIGHT)
