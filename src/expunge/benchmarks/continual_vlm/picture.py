"""The picture of the continual benchmark: forgotten against retained accuracy over strength."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from expunge.audit.plots import LIGHT, MARKS, as_png, open_axes
from expunge.benchmarks.continual_vlm.tables import Group, groups_of


def png(result: Mapping[str, Any]) -> bytes:
    """A plot for every set of groups and number of requests: for each kind and rule what the test
    vendor's pictures say over strength, the mean over bases, with base and oracles. A kind has one
    colour and a rule one mark in all of them."""
    groups = groups_of(result)
    figure = Figure(figsize=(5.2 * len(groups), 4.8), facecolor=LIGHT.surface)
    every = figure.subplots(1, len(groups), squeeze=False, sharex=True, sharey=True)[0]
    for axes, group in zip(every, groups, strict=True):
        _drawn(axes, result, group)
        axes.set_title(f"{group[0]} groups, {group[1]} requests", fontsize=9, color=LIGHT.ink)
        axes.set_xlabel("accuracy on the requests", fontsize=8)
        axes.set_ylabel("accuracy on what nobody asked to remove", fontsize=8)
        axes.legend(frameon=False, fontsize=7)
        open_axes(axes, LIGHT)
    figure.tight_layout()
    return as_png(figure, 150)


def _drawn(axes: Axes, result: Mapping[str, Any], group: Group) -> None:
    curves = [c for c in result["curves"] if (c["half"], c["count"]) == group]
    kinds = sorted({curve["kind"] for curve in result["curves"]})
    rules = sorted({curve["rule"] for curve in result["curves"]})
    for kind, rule in sorted({(c["kind"], c["rule"]) for c in curves}):
        its = [c["points"] for c in curves if (c["kind"], c["rule"]) == (kind, rule)]
        base = fmean(fmean(r["base"]["requests"][0]) for r in _references(result, group))
        start = fmean(r["base"]["retained"] for r in _references(result, group))
        means = [
            [fmean(point["test"][axis] for point in points) for axis in (0, 1)]
            for points in zip(*its, strict=True)
        ]
        across, up = zip((base, start), *means, strict=True)
        axes.plot(
            across,
            up,
            color=LIGHT.series[kinds.index(kind) % len(LIGHT.series)],
            marker=MARKS[rules.index(rule) % len(MARKS)],
            markersize=4,
            linewidth=1,
            label=f"{kind} {rule}",
        )
    for name, mark, ink in (("base", "*", LIGHT.ink), ("oracle", "h", LIGHT.faint)):
        found = [r[name] for r in _references(result, group)]
        left = fmean(fmean(cell["requests"][0]) for cell in found)
        kept = fmean(cell["retained"] for cell in found)
        axes.plot(left, kept, mark, color=ink, markersize=9, label=name, linestyle="none")


def _references(result: Mapping[str, Any], group: Group) -> list[Mapping[str, Any]]:
    return [r for r in result["references"] if (r["half"], r["count"]) == group]
