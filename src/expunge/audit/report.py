"""The report: one self-contained page and its pictures, rendered from stored figures.

Nothing is computed here and nothing is requested from outside: pictures are inside the page, which
follows the reader's light or dark setting and fits a telephone.
"""

import base64
import json
from pathlib import Path

from markupsafe import Markup

from expunge.audit.figures import IntervalFigure, RelearningSection, ReportFigures, checked_figures
from expunge.audit.pages import pages
from expunge.audit.plots import (
    DARK,
    LIGHT,
    Theme,
    curve_colours,
    headline_png,
    persistence_png,
    relearning_panel_png,
    relearning_png,
    shade,
    short_number,
    weight_of,
)

MISSING = "–"


def render_html(figures: ReportFigures) -> str:
    """The page as text. Every string of the figures is escaped.

    Raises:
        ExpungeError: the figures do not fit their schema.
    """
    figures = checked_figures(figures)
    page = pages()
    page.filters.update(
        number=_number, signed=_signed, cell=_cell, interval=_interval, amount=_amount
    )
    relearning = figures.get("relearning")
    return page.get_template("report.html.j2").render(
        figures=figures,
        panels=_panels(relearning) if relearning else [],
        light=_legend(relearning, LIGHT),
        dark=_legend(relearning, DARK),
    )


def write_report(figures: ReportFigures, folder: Path) -> list[Path]:
    """Write ``report.html``, ``figures.json`` and the PNGs whose figures are there.

    ``persistence.png`` and ``relearning.png`` show all of their sections, ``headline.png`` the
    highlighted matrices beside forgotten and retained performance. Everything is rendered before
    the first file is written.

    Args:
        figures: the stored figures, see :class:`ReportFigures`.
        folder: made if it is not there.

    Returns:
        The files written.

    Raises:
        ExpungeError: the figures do not fit their schema; nothing was written.
    """
    figures = checked_figures(figures)
    files = {
        "report.html": render_html(figures).encode(),
        "figures.json": (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    persistence, headline = figures.get("persistence"), figures.get("headline")
    if persistence and persistence["matrices"]:
        files["persistence.png"] = persistence_png(persistence)
    if "relearning" in figures and figures["relearning"]["panels"]:
        files["relearning.png"] = relearning_png(figures["relearning"])
    if (persistence and persistence["matrices"]) or (headline and headline["rows"]):
        files["headline.png"] = headline_png(persistence, headline)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def _panels(section: RelearningSection) -> list[dict[str, str]]:
    """The panels of the page, each drawn for both backgrounds."""
    return [
        {
            "light": base64.b64encode(relearning_panel_png(panel, section, LIGHT)).decode(),
            "dark": base64.b64encode(relearning_panel_png(panel, section, DARK)).decode(),
        }
        for panel in section["panels"]
    ]


def _legend(section: RelearningSection | None, theme: Theme) -> list[tuple[str, str]]:
    return list(curve_colours(section, theme).items()) if section else []


def _number(value: float | None) -> str:
    """Two decimals; a dash where nothing was measured."""
    return MISSING if value is None else f"{value:.2f}".replace("-", "−")


def _signed(value: float | None) -> str:
    """Two decimals with their sign; plain where they round to zero."""
    if value is None:
        return MISSING
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _amount(value: float | None) -> str:
    """Seconds or MiB: a decimal below ten, whole numbers above."""
    if value is None:
        return MISSING
    return f"{value:.1f}" if abs(value) < 10 else f"{value:,.0f}".replace(",", "\u2009")


def _interval(interval: IntervalFigure) -> str:
    return f"{_number(interval['low'])} to {_number(interval['high'])}"


def _cell(value: float, region: str, scale: tuple[float, float]) -> Markup:
    """One cell of a heat map: its number on the shade of its value, for both backgrounds.

    ``region`` is ``removed`` or ``kept``, with ``diagonal`` where the own step stands.
    """
    weight = weight_of(value, scale)
    ground, text = shade(LIGHT, weight, removed=region.startswith("removed"))
    dark_ground, dark_text = shade(DARK, weight, removed=region.startswith("removed"))
    return Markup('<td class="cell {}" style="--l:{};--lt:{};--d:{};--dt:{}">{}</td>').format(
        region, ground, text, dark_ground, dark_text, short_number(value)
    )
