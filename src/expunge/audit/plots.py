"""The pictures of a report, drawn from its figures: heat maps, bars, relearning curves.

Two hues carry the meaning and stay apart for colour-blind readers: orange is what is still known
of something that was removed, blue is what stands of everything else.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from expunge.audit.figures import (
    ConfigurationRow,
    HeadlineFigure,
    IntervalFigure,
    PersistenceFigure,
    PersistenceSection,
    RelearningCurve,
    RelearningPanel,
    RelearningSection,
)


@dataclass(frozen=True)
class Theme:
    """Colours of one background. The ramps run from nothing to everything."""

    surface: str
    ink: str
    faint: str
    line: str
    removed: tuple[str, str, str]
    kept: tuple[str, str, str]
    series: tuple[str, ...]

    def ramp(self, stops: tuple[str, str, str]) -> LinearSegmentedColormap:
        """The colour map through three stops."""
        return LinearSegmentedColormap.from_list("ramp", stops)


LIGHT = Theme(
    surface="#ffffff",
    ink="#1c2430",
    faint="#66707d",
    line="#d9dee4",
    removed=("#fbf5ef", "#f0a868", "#b9480a"),
    kept=("#f1f6fa", "#86b4d9", "#1c5a93"),
    series=("#0072b2", "#009e73", "#cc79a7", "#7a5cc0", "#a6761d", "#d55e00"),
)
DARK = Theme(
    surface="#14181d",
    ink="#e8ecf1",
    faint="#9aa5b1",
    line="#343c46",
    removed=("#201b17", "#8f4a1a", "#f29a52"),
    kept=("#181e25", "#2b5f8d", "#8cc0ee"),
    series=("#56b4e9", "#2fc29a", "#e39cc4", "#a993e6", "#d3a550", "#f0883e"),
)

MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
"""Of points, in order."""

_GAP = 0.22  # of a cell, around the rows "before" and "oracle"
_MAP_TITLE, _MAP_LABELS, _CELL_W, _CELL_H = 0.30, 1.12, 0.56, 0.40  # inches


def persistence_png(section: PersistenceSection, theme: Theme = LIGHT) -> bytes:
    """One heat map per configuration, at most three in a row."""
    with _drawing():
        matrices = section["matrices"]
        across = min(3, len(matrices))
        sizes = [_map_size(matrix) for matrix in matrices]
        width = max(w for w, _ in sizes) + 0.42
        height = max(h for _, h in sizes) + 0.25
        down = math.ceil(len(matrices) / across)
        page = _Page(max(6.4, across * width + 0.3), down * height + 1.02, theme)
        page.title(f"Persistence: {section['score']} on every request after every step", 0.2, 0.3)
        for k, matrix in enumerate(matrices):
            left, top = 0.2 + (k % across) * width, 0.52 + (k // across) * height
            _heat_map(page, matrix, _scale(section), left, top, labelled=True)
        _keys(page, _scale(section), 0.2, page.height - 0.42)
        return page.png()


def headline_png(
    persistence: PersistenceSection | None, headline: HeadlineFigure | None, theme: Theme = LIGHT
) -> bytes:
    """The picture of a result: up to three heat maps, and forgotten against retained as bars."""
    with _drawing():
        shown = _highlighted(persistence) if persistence else []
        rows = headline["rows"] if headline else []
        sizes = [_map_size(matrix) for matrix in shown]
        labels = _MAP_LABELS if shown else 0.0
        maps = labels + sum(w - _MAP_LABELS + 0.32 for w, _ in sizes)
        tall = max([h for _, h in sizes] + [0.95 + 0.5 * len(rows)])
        page = _Page(0.2 + maps + (4.75 if rows else 0.0), tall + 0.75, theme)
        left = 0.2
        for k, matrix in enumerate(shown):
            scale = _scale(persistence) if persistence else (0.0, 1.0)
            _heat_map(page, matrix, scale, left, 0.15, labelled=k == 0, room=k == 0)
            left += _map_size(matrix)[0] - (0 if k == 0 else _MAP_LABELS) + 0.32
        if persistence and shown:
            _keys(page, _scale(persistence), 0.2, page.height - 0.42)
        if headline and rows:
            _bars(page, rows, left, tall)
        return page.png()


def relearning_png(section: RelearningSection, theme: Theme = LIGHT) -> bytes:
    """One panel per request, at most three in a row."""
    with _drawing():
        panels = section["panels"]
        across = min(3, len(panels))
        down = math.ceil(len(panels) / across)
        names = curve_names(section)
        page = _Page(max(6.4, 0.3 + across * 3.25), 0.95 + down * 2.6, theme)
        page.title(f"Relearning: {section['score']} after each step, beside the oracle", 0.2, 0.3)
        for k, panel in enumerate(panels):
            left, top = 0.75 + (k % across) * 3.25, 0.98 + (k // across) * 2.6
            axes = page.axes(left, top, 2.55, 1.8)
            _curves(axes, panel, names, theme)
            axes.set_title(
                _short(panel["request"], 34), loc="left", fontsize=9.5, pad=6, color=theme.ink
            )
            if k % across == 0:
                axes.set_ylabel(section["score"])
            if k + across >= len(panels):
                axes.set_xlabel("relearning steps")
        handles = [_handle(name, section, names, theme) for name in names]
        page.figure.legend(
            handles=handles,
            loc="upper left",
            ncols=min(5, len(handles)),
            handlelength=2.2,
            bbox_to_anchor=(0.12 / page.width, 1 - 0.38 / page.height),
            columnspacing=1.6,
        )
        return page.png()


def relearning_panel_png(
    panel: RelearningPanel, section: RelearningSection, theme: Theme = LIGHT
) -> bytes:
    """The curves of one request alone, small enough for a narrow page."""
    with _drawing():
        page = _Page(3.4, 2.45, theme)
        axes = page.axes(0.5, 0.12, 2.8, 1.88)
        _curves(axes, panel, curve_names(section), theme)
        axes.set_xlabel("relearning steps")
        return page.png()


def curve_names(section: RelearningSection) -> list[str]:
    """The curves of all panels in order of appearance, each once."""
    return list(dict.fromkeys(c["name"] for panel in section["panels"] for c in panel["curves"]))


def curve_colours(section: RelearningSection, theme: Theme) -> dict[str, str]:
    """The colour of each curve: fixed for the original and the oracle, in order for the others."""
    names = curve_names(section)
    return {name: _colour(_curve(name, section), names, theme) for name in names}


class _Page:
    """A figure measured in inches from its upper left corner."""

    def __init__(self, width: float, height: float, theme: Theme) -> None:
        self.width, self.height, self.theme = width, height, theme
        self.figure = Figure(figsize=(width, height), facecolor=theme.surface)
        FigureCanvasAgg(self.figure)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(box, facecolor=self.theme.surface)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(self.theme.line)
        axes.tick_params(colors=self.theme.faint, labelcolor=self.theme.faint, length=0, pad=4)
        axes.xaxis.label.set_color(self.theme.faint)
        axes.yaxis.label.set_color(self.theme.faint)
        axes.title.set_color(self.theme.ink)
        return axes

    def title(self, text: str, left: float, top: float) -> None:
        self.text(text, left, top, size=12, weight="bold", color=self.theme.ink)

    def text(self, text: str, left: float, top: float, **style: Any) -> None:
        style = {"color": self.theme.faint, "size": 8.5, "va": "center", "ha": "left", **style}
        self.figure.text(left / self.width, 1 - top / self.height, text, **style)

    def png(self) -> bytes:
        for legend in self.figure.legends:
            for label in legend.get_texts():
                label.set_color(self.theme.ink)
        return as_png(self.figure, 200)


def as_png(figure: Figure, dots: float) -> bytes:
    """A figure as a picture, drawn without a window.

    Args:
        figure: with the colour of its ground.
        dots: an inch.
    """
    FigureCanvasAgg(figure)
    target = io.BytesIO()
    figure.savefig(
        target,
        format="png",
        dpi=dots,
        facecolor=figure.get_facecolor(),
        metadata={"Software": None},
    )
    return target.getvalue()


def open_axes(axes: Axes, theme: Theme) -> None:
    """Small figures at the ticks, and no frame above and on the right."""
    axes.tick_params(labelsize=8, colors=theme.ink)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _drawing() -> Any:
    return mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 8.5,
            "axes.labelsize": 8.5,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "text.parse_math": False,
        }
    )


def _map_size(matrix: PersistenceFigure) -> tuple[float, float]:
    count = len(matrix["requests"])
    rows = count + 1 + _GAP + ((1 + _GAP) if "oracle" in matrix else 0)
    return _MAP_LABELS + max(count * _CELL_W, 1.5), _map_head(matrix) + rows * _CELL_H


def _map_head(matrix: PersistenceFigure) -> float:
    """Inches above the first row: the title and the slanted names of the requests."""
    longest = max(len(_short(name, 17)) for name in matrix["requests"])
    return _MAP_TITLE + 0.18 + 0.045 * longest


def _heat_map(
    page: _Page,
    matrix: PersistenceFigure,
    scale: tuple[float, float],
    left: float,
    top: float,
    *,
    labelled: bool,
    room: bool = True,
) -> None:
    """Rows from above: before, one per step, the oracle; a staircase parts removed from kept."""
    theme, count = page.theme, len(matrix["requests"])
    height = _map_size(matrix)[1]
    start = left + (_MAP_LABELS if room else 0.0)
    page.text(
        _short(matrix["name"], 30), start, top + 0.12, size=10, weight="bold", color=theme.ink
    )
    head = _map_head(matrix)
    bottom = (height - head) / _CELL_H
    axes = page.axes(start, top + head, count * _CELL_W, height - head)
    axes.set(xlim=(0, count), ylim=(bottom, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    first = 1 + _GAP

    def row(values: Sequence[float], y: float, label: str, removed: int) -> None:
        for j, value in enumerate(values):
            ground, ink = shade(theme, weight_of(value, scale), removed=j < removed)
            axes.add_patch(
                Rectangle((j, y), 1, 1, facecolor=ground, edgecolor=theme.surface, linewidth=1.4)
            )
            text = short_number(value)
            axes.text(j + 0.5, y + 0.52, text, ha="center", va="center", size=8.5, color=ink)
        if labelled:
            axes.text(-0.14, y + 0.5, label, ha="right", va="center", color=theme.faint, size=8)

    row(matrix["before"], 0, "before", 0)
    for t, values in enumerate(matrix["after"]):
        row(values, first + t, f"after {_short(matrix['requests'][t], 13)}", t + 1)
    if "oracle" in matrix:
        row(matrix["oracle"], first + count + _GAP, "oracle", count)
    for j, name in enumerate(matrix["requests"]):
        axes.text(
            j + 0.42,
            -0.18,
            _short(name, 17),
            rotation=40,
            ha="left",
            va="bottom",
            rotation_mode="anchor",
            color=theme.faint,
            size=8,
        )
    stairs = [(0.0, first), (1.0, first)]
    for t in range(1, count):
        stairs += [(t, first + t), (t + 1, first + t)]
    axes.plot(
        *zip(*stairs, strict=True),
        color=theme.ink,
        lw=1.5,
        clip_on=False,
        solid_joinstyle="miter",
        solid_capstyle="projecting",
    )


def shade(theme: Theme, weight: float, *, removed: bool) -> tuple[str, str]:
    """The colour of a heat-map cell and of the number on it, as hex.

    Args:
        theme: the background.
        weight: where the value stands on its scale, from 0 to 1.
        removed: whether the cell's request was served already (orange) or not (blue).
    """
    ground = theme.ramp(theme.removed if removed else theme.kept)(weight)[:3]
    text = max((theme.surface, theme.ink), key=lambda colour: _contrast(to_rgb(colour), ground))
    return to_hex(ground), text


def _contrast(text: Sequence[float], ground: Sequence[float]) -> float:
    """Contrast ratio of two colours (WCAG 2), from 1 to 21."""
    light = []
    for colour in (text, ground):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(light) / min(light)


def _keys(page: _Page, scale: tuple[float, float], left: float, top: float) -> None:
    """Two ramps with their meaning, side by side."""
    theme = page.theme
    for stops, text, offset in (
        (theme.removed, "already removed: what is still known", 0.0),
        (theme.kept, "not yet removed: what stands", 3.55),
    ):
        axes = page.axes(left + offset + 0.2, top, 0.72, 0.13)
        axes.imshow([[i / 63 for i in range(64)]], aspect="auto", cmap=theme.ramp(stops))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        page.text(f"{scale[0]:g}", left + offset + 0.14, top + 0.075, size=7.5, ha="right")
        page.text(f"{scale[1]:g}", left + offset + 0.98, top + 0.075, size=7.5)
        page.text(text, left + offset + 1.18, top + 0.075, size=8.5)


def _bars(page: _Page, rows: Sequence[ConfigurationRow], left: float, tall: float) -> None:
    """Forgotten and retained performance of each configuration, intervals as whiskers."""
    theme = page.theme
    removed, kept = theme.ramp(theme.removed)(0.68), theme.ramp(theme.kept)(0.86)
    axes = page.axes(left + 1.5, 0.72, 2.9, tall - 0.72)
    for y, row in enumerate(rows):
        for offset, value, interval, colour in (
            (-0.19, row["forgotten_mean"], row.get("forgotten_mean_interval"), removed),
            (0.19, row["retained"], row.get("retained_interval"), kept),
        ):
            axes.barh(y + offset, value, 0.34, color=colour)
            if interval is not None:
                ends = [interval["low"], interval["high"]]
                axes.plot(ends, [y + offset] * 2, color=theme.ink, lw=1.1)
            end = value if interval is None else max(value, interval["high"])
            axes.annotate(
                short_number(value),
                (end, y + offset),
                (3, 0),
                textcoords="offset points",
                va="center",
                size=8,
                color=theme.ink,
            )
    axes.set(ylim=(len(rows) - 0.45, -0.55), xlim=(0, _upper(rows)), xticks=[])
    axes.set_yticks(
        range(len(rows)),
        ["\n".join(wrap(row["name"], 22, max_lines=2, placeholder="…")) for row in rows],
    )
    axes.tick_params(labelcolor=theme.ink)
    axes.spines["bottom"].set_visible(False)
    page.text("After the last step", left + 1.5, 0.27, size=10, weight="bold", color=theme.ink)
    page.text("forgotten (mean)", left + 1.5, 0.52, color=theme.ramp(theme.removed)(0.9))
    page.text("retained", left + 2.65, 0.52, color=kept)
    for row in rows:
        if row.get("role") == "oracle":
            level = row["forgotten_mean"]
            axes.axvline(level, color=theme.faint, lw=0.9, ls=(0, (3, 2)), zorder=0.5)
            page.text("┆ oracle’s forgotten", left + 3.3, 0.52)


def _upper(rows: Sequence[ConfigurationRow]) -> float:
    ends = [
        max([row["forgotten_mean"], row["retained"], *[i["high"] for i in _intervals(row)]])
        for row in rows
    ]
    return 1.13 * max([*ends, 1e-9])


def _intervals(row: ConfigurationRow) -> list[IntervalFigure]:
    both = row.get("forgotten_mean_interval"), row.get("retained_interval")
    return [interval for interval in both if interval is not None]


def _curves(axes: Axes, panel: RelearningPanel, names: list[str], theme: Theme) -> None:
    tops = [max(curve["values"]) for curve in panel["curves"]]
    if "level" in panel:
        tops.append(panel["level"])
        axes.axhline(panel["level"], color=theme.faint, lw=0.9, ls=(0, (1, 2)))
        axes.annotate(
            "relearned",
            (0, panel["level"]),
            (4, 2.5),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="left",
            va="bottom",
            size=7,
            color=theme.faint,
        )
    for curve in panel["curves"]:
        axes.plot(curve["values"], **_style(curve, names, theme), clip_on=False)
    longest = max(len(curve["values"]) for curve in panel["curves"])
    axes.set(xlim=(0, max(1, longest - 1)), ylim=(0, max(0.05, 1.12 * max(tops))))
    axes.grid(axis="y", color=theme.line, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _style(curve: RelearningCurve, names: list[str], theme: Theme) -> dict[str, Any]:
    reference = curve.get("role") == "oracle"
    return {
        "color": _colour(curve, names, theme),
        "lw": 1.8,
        "ls": (0, (4, 2)) if reference else "-",
        "marker": "" if reference else MARKS[names.index(curve["name"]) % len(MARKS)],
        "ms": 3.6,
        "zorder": 2.5 if reference else 3,
    }


def _colour(curve: RelearningCurve, names: list[str], theme: Theme) -> str:
    """Ink for the oracle, grey for the original, the first colour of the series for the best."""
    fixed = {"oracle": theme.ink, "original": theme.faint, "best": theme.series[0]}
    others = theme.series[1:]
    return fixed.get(curve.get("role", "rule"), others[names.index(curve["name"]) % len(others)])


def _curve(name: str, section: RelearningSection) -> RelearningCurve:
    return next(c for panel in section["panels"] for c in panel["curves"] if c["name"] == name)


def _handle(name: str, section: RelearningSection, names: list[str], theme: Theme) -> Line2D:
    return Line2D([], [], label=_short(name, 26), **_style(_curve(name, section), names, theme))


def _highlighted(section: PersistenceSection) -> list[PersistenceFigure]:
    chosen = section.get("highlighted")
    if chosen is None:
        return section["matrices"][:3]
    return [m for name in chosen for m in section["matrices"] if m["name"] == name][:3]


def _scale(section: PersistenceSection) -> tuple[float, float]:
    return section.get("scale", (0.0, 1.0))


def weight_of(value: float, scale: tuple[float, float]) -> float:
    """Where a value stands on its scale, from 0 to 1."""
    low, high = scale
    return min(1.0, max(0.0, (value - low) / (high - low)))


def short_number(value: float) -> str:
    """Two decimals, without the zero before the point: ``.57``, ``1.00``, ``−.05``."""
    text = f"{abs(value):.2f}"
    sign = "−" if value < 0 and float(text) != 0 else ""
    return sign + text.removeprefix("0")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
