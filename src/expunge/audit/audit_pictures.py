"""The pictures of an audit as SVG: ROCs, histograms, relearning curves, values beside oracles.

A picture has classes instead of colours, so that one drawing follows the page from light to dark
and to paper; its text stays text. Orange is what is still known of what was to be forgotten, blue
is what stands of everything else, ink is the oracles, grey is the model before.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from expunge.audit.audit_schema import StoredAttack, StoredCurve, StoredEvidence
from expunge.audit.plots import Theme

Role = Literal["removed", "kept", "oracle", "original"]
"""Whose values: the deployed model's on what was to be forgotten or on the rest, or others'."""

STYLE = """
.chart text { font: 11px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.chart text { fill: %(faint)s; }
.chart text.strong { fill: %(ink)s; }
.chart .end { text-anchor: end; } .chart .middle { text-anchor: middle; }
.chart .axis { stroke: %(line)s; fill: none; }
.chart .open { fill: none; } .chart .weak { fill: %(line)s; opacity: .45; }
.chart .mark { stroke: %(faint)s; fill: none; stroke-dasharray: 2 3; }
.chart .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .curve.removed, .chart .area.removed { stroke: %(removed)s; }
.chart .curve.kept, .chart .area.kept { stroke: %(kept)s; }
.chart .curve.oracle { stroke: %(ink)s; stroke-width: 1.4; stroke-dasharray: 5 3; }
.chart .curve.original { stroke: %(faint)s; stroke-width: 1.4; }
.chart .area { fill-opacity: .35; stroke-width: 1.2; }
.chart .area.removed, .chart .dot.removed { fill: %(removed)s; }
.chart .area.kept, .chart .dot.kept { fill: %(kept)s; }
.chart .whisker.removed { stroke: %(removed)s; stroke-width: 2; }
.chart .whisker.kept { stroke: %(kept)s; stroke-width: 2; }
.chart .tick { stroke: %(ink)s; stroke-width: 1.4; }
.chart .hollow { fill: %(surface)s; stroke: %(faint)s; stroke-width: 1.4; }
"""
"""Rules of the classes; the colours are filled in by name."""

WIDTH, HEIGHT = 380, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 20, 26, 38
LEAST_RATE = 1e-3
"""Where the axes of a ROC begin."""
BINS = 24


@dataclass(frozen=True)
class Picture:
    """A drawing.

    Args:
        says: what it shows, for who cannot see it.
        body: SVG elements.
        height: in pixels; the width is :data:`WIDTH`.
        legend: role and name of what is drawn.
    """

    says: str
    body: Markup
    height: float = HEIGHT
    legend: tuple[tuple[Role, str], ...] = ()

    def inline(self) -> Markup:
        """The drawing inside a page that has the rules of :func:`page_style`."""
        return Markup(
            '<svg class="chart" viewBox="0 0 {} {}" width="{}" height="{}" role="img" '
            'aria-label="{}">{}</svg>'
        ).format(WIDTH, _n(self.height), WIDTH, _n(self.height), self.says, self.body)

    def standalone(self, theme: Theme) -> str:
        """The drawing as a file of its own, in the colours of one background."""
        rules = Markup("<style>{}</style>").format(Markup(STYLE % colours_of(theme)))
        ground = Markup('<rect width="100%" height="100%" fill="{}"/>').format(theme.surface)
        opening = '<svg xmlns="http://www.w3.org/2000/svg" '
        drawn = str(self.inline()).replace("<svg ", opening, 1)
        return drawn.replace(">", f">{rules}{ground}", 1)


def page_style() -> str:
    """The rules of all pictures, in the page's own colours."""
    names = ("surface", "ink", "faint", "line", "removed", "kept")
    return STYLE % {name: f"var(--{name})" for name in names}


def roc_picture(name: str, found: StoredCurve, evidence: StoredEvidence) -> Picture:
    """One attack's ROC, both axes logarithmic: the deployed model, the model before, a guess.

    Args:
        name: of the attack.
        found: the deployed model's curve.
        evidence: the figure that it belongs to.
    """
    plot = _Plot(_Scale(LEAST_RATE, 1.0, log=True), _Scale(LEAST_RATE, 1.0, log=True))
    details, parts = evidence.details, []
    if details.non_members and 1 / details.non_members > LEAST_RATE:
        parts.append(plot.band(LEAST_RATE, 1 / details.non_members))
    parts += [plot.axes("false positives", "true positives", _rate), plot.line(_DIAGONAL, "mark")]
    legend: list[tuple[Role, str]] = [("removed", "this model")]
    if isinstance(details.original, StoredAttack):
        parts.append(plot.line(_points(details.original.roc), "curve original"))
        legend.append(("original", "the model before"))
    parts.append(plot.line(_points(found), "curve removed"))
    says = (
        f"ROC of the {name} on logarithmic axes: the further above the dotted diagonal, the more "
        f"members are told. Area under the curve {_said(evidence.value)}, "
        f"{evidence.against or 'reference'} {_said(evidence.reference)}."
    )
    return Picture(says, Markup("").join(parts), legend=tuple(legend))


def histogram_picture(
    what: str, series: Sequence[tuple[Role, str, Sequence[float]]], unit: str
) -> Picture:
    """Shares of rows by value: the first of the series filled, the others as outlines.

    Args:
        what: is counted, in words.
        series: role, name and values (n,) of each; values of all must be finite.
        unit: of the values.
    """
    everything = [value for _, _, values in series for value in values]
    low, high = _widened(min(everything), max(everything))
    counted = [_shares(values, low, high) for _, _, values in series]
    plot = _Plot(_Scale(low, high), _Scale(0.0, 1.08 * max(map(max, counted))))
    parts = [plot.axes(unit, "share of rows", _short)]
    for place, ((role, _, _), shares) in enumerate(zip(series, counted, strict=True)):
        kind = "area" if place == 0 else "curve"
        parts.append(plot.steps(shares, f"{kind} {role}"))
    medians = ", ".join(f"{name} {_said(_median(values))}" for _, name, values in series)
    says = f"Histogram of {what}. Medians in {unit}: {medians}."
    return Picture(says, Markup("").join(parts), legend=tuple((r, n) for r, n, _ in series))


def relearning_picture(
    shown: str,
    deployed: Sequence[float],
    oracles: Sequence[Sequence[float]],
    level: float | None,
) -> Picture:
    """Score on forgotten rows after each step of relearning, beside the oracles.

    Args:
        shown: the rows that are learned, and how fast, in words.
        deployed: (steps + 1,).
        oracles: (steps + 1,) each.
        level: that counts as relearned, where there is one.
    """
    curves = [deployed, *oracles]
    values = [value for curve in curves for value in curve]
    values += [] if level is None else [level]
    low, high = min(0.0, *values), max(0.05, *values)
    plot = _Plot(
        _Scale(0, max(1, max(map(len, curves)) - 1)), _Scale(low, high + 0.08 * (high - low))
    )
    parts = [plot.axes("steps of relearning", "score on forgotten rows", _short)]
    if level is not None:
        parts += [plot.across(level), plot.note(level, "counts as relearned")]
    parts += [plot.line(list(enumerate(curve)), "curve oracle") for curve in oracles]
    parts.append(plot.line(list(enumerate(deployed)), "curve removed"))
    ends = ", ".join(_said(curve[-1]) for curve in oracles) or "none"
    says = (
        f"Score on forgotten rows while learning {shown}: this model goes from "
        f"{_said(deployed[0])} to {_said(deployed[-1])}, the oracles to {ends}."
    )
    legend: list[tuple[Role, str]] = [("removed", "this model")]
    return Picture(
        says,
        Markup("").join(parts),
        legend=(*legend, *((("oracle", "oracles"),) if oracles else ())),
    )


@dataclass(frozen=True)
class Beside:
    """One figure of the deployed model and what is drawn next to it; None where there is none."""

    name: str
    value: float
    oracles: tuple[float, ...]
    interval: tuple[float, float] | None
    original: float | None
    reference: float | None

    @property
    def range(self) -> tuple[float, float]:
        """0 to 1 for shares; otherwise what is there, a little wider."""
        shown = [self.value, *self.oracles, *(self.interval or ())]
        shown += [one for one in (self.original, self.reference) if one is not None]
        if min(shown) >= 0 and max(shown) <= 1:
            return 0.0, 1.0
        return _widened(min(shown), max(shown))


def beside_picture(figures: Sequence[Beside], role: Role) -> Picture:
    """Each figure on a line of its own: the model with its interval, oracles, the model before."""
    parts, step = [], 46
    for place, one in enumerate(figures):
        scale, y = _Scale(*one.range), place * step + 32
        parts.append(_text(8, y - 18, one.name, "strong"))
        parts.append(_path([(8, y), (WIDTH - 8, y)], "axis"))
        parts += [
            _text(8, y + 13, _short(scale.low), ""),
            _text(WIDTH - 8, y + 13, _short(scale.high), "end"),
        ]
        at = [8 + (WIDTH - 16) * scale.share(value) for value in one.oracles]
        parts += [_path([(x, y - 7), (x, y + 7)], "tick") for x in at]
        if one.reference is not None:
            x = 8 + (WIDTH - 16) * scale.share(one.reference)
            parts.append(_path([(x, y - 11), (x, y + 11)], "mark"))
        if one.original is not None:
            parts.append(_dot(8 + (WIDTH - 16) * scale.share(one.original), y, "hollow"))
        if one.interval is not None:
            ends = [(8 + (WIDTH - 16) * scale.share(end), y) for end in one.interval]
            parts.append(_path(ends, f"whisker {role}"))
        parts.append(_dot(8 + (WIDTH - 16) * scale.share(one.value), y, f"dot {role}"))
    says = "; ".join(
        f"{one.name}: this model {_said(one.value)}, held against {_said(one.reference)}, "
        f"before {_said(one.original)}"
        for one in figures
    )
    legend: list[tuple[Role, str]] = [(role, "this model, with its interval")]
    if any(one.oracles for one in figures):
        legend.append(("oracle", "each oracle"))
    if any(one.original is not None for one in figures):
        legend.append(("original", "the model before"))
    return Picture(
        f"{says}.", Markup("").join(parts), len(figures) * step + 6, legend=tuple(legend)
    )


@dataclass(frozen=True)
class _Scale:
    """An axis from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value stands, from 0 to 1; beyond the ends it stands on them."""
        inside = min(self.high, max(self.low, value))
        if self.log:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Decades, or about four round numbers."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        rough = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        count = int((self.high - first * step) / step + 1e-9) + 1
        return [(first + k) * step for k in range(count)]


@dataclass(frozen=True)
class _Plot:
    """Two axes and what is drawn between them."""

    across_scale: _Scale
    up_scale: _Scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        wide, tall = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        across, up = self.across_scale.share(x), self.up_scale.share(y)
        return _LEFT + wide * across, _TOP + tall * (1 - up)

    def axes(self, across: str, up: str, words: Callable[[float], str]) -> Markup:
        """Lines, numbers and names of both axes."""
        floor, parts = HEIGHT - _BOTTOM, []
        for tick in self.up_scale.ticks():
            _, y = self.at(self.across_scale.low, tick)
            parts.append(_path([(_LEFT, y), (WIDTH - _RIGHT, y)], "axis"))
            parts.append(_text(_LEFT - 5, y + 4, words(tick), "end"))
        for tick in self.across_scale.ticks():
            x, _ = self.at(tick, self.up_scale.low)
            parts.append(_text(x, floor + 15, words(tick), "middle"))
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(_text(middle, HEIGHT - 6, across, "middle"))
        parts.append(_text(4, 12, up, ""))
        return Markup("").join(parts)

    def line(self, points: Iterable[tuple[float, float]], role: str) -> Markup:
        """A line through points."""
        return _path([self.at(x, y) for x, y in points], role)

    def steps(self, shares: Sequence[float], role: str) -> Markup:
        """A histogram's outline."""
        low, high = self.across_scale.low, self.across_scale.high
        edges = [low + (high - low) * k / len(shares) for k in range(len(shares) + 1)]
        points = [(low, 0.0)]
        for k, share in enumerate(shares):
            points += [(edges[k], share), (edges[k + 1], share)]
        return self.line([*points, (high, 0.0)], role)

    def across(self, value: float) -> Markup:
        """A dotted line at a height."""
        return self.line([(self.across_scale.low, value), (self.across_scale.high, value)], "mark")

    def note(self, value: float, text: str) -> Markup:
        """A few words below the line at a height, at its right end."""
        x, y = self.at(self.across_scale.high, value)
        return _text(x, y + 12, text, "end")

    def band(self, low: float, high: float) -> Markup:
        """A shaded part of the horizontal axis."""
        (x, top), (end, floor) = (
            self.at(low, self.up_scale.high),
            self.at(high, self.up_scale.low),
        )
        box = '<rect class="weak" x="{}" y="{}" width="{}" height="{}"/>'
        return Markup(box).format(_n(x), _n(top), _n(end - x), _n(floor - top))


def _points(curve: StoredCurve) -> list[tuple[float, float]]:
    return list(zip(curve.fpr, curve.tpr, strict=True))


def _shares(values: Sequence[float], low: float, high: float) -> list[float]:
    """The share of the values in each of :data:`BINS` bins of one width."""
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int(BINS * (value - low) / (high - low)))] += 1
    return [count / len(values) for count in counts]


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range around values, never empty."""
    spare = 0.04 * (high - low) or max(0.5, 0.1 * abs(high))
    return low - spare, high + spare


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _path(points: Sequence[tuple[float, float]], role: str) -> Markup:
    drawn = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    kind = role if "area" in role else f"{role} open"
    return Markup('<polyline class="{}" points="{}"/>').format(kind, drawn)


def _dot(x: float, y: float, role: str) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(
        role, _n(x), _n(y), 7 if role == "hollow" else 5
    )


def _text(x: float, y: float, text: str, role: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(_n(x), _n(y), role, text)


def _n(value: float) -> str:
    """Pixels, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _rate(value: float) -> str:
    """A rate on a logarithmic axis."""
    return f"{100 * value:g} %"


def _said(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


def colours_of(theme: Theme) -> dict[str, str]:
    """The names that pictures and page use, in the colours of one background."""
    return {
        "surface": theme.surface,
        "ink": theme.ink,
        "faint": theme.faint,
        "line": theme.line,
        "removed": theme.series[-1],
        "kept": theme.series[0],
    }


_DIAGONAL = [(LEAST_RATE, LEAST_RATE), (1.0, 1.0)]
