"""What the paper's small form must show, asked of every request; and who ends near the oracle."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from expunge.benchmarks.regression.work import CHOSEN_BY, distance

Row = Mapping[str, Sequence[float | None]]
Rows = Mapping[str, Any]

KEPT = 1.05
"""Errors on retained test rows up to so many times the oracle's count as kept."""

UNTIL = 1.1
"""Errors on forgotten test rows up to so many times the oracle's count as not past it."""


def mean(row: Row, name: str) -> float | None:
    """Over the seeds that there are; None without any."""
    found = [value for value in row[name] if value is not None]
    return fmean(found) if found else None


def mean_of(rows: Rows, subject: str, name: str) -> float:
    """That of a subject, which has one.

    Raises:
        KeyError: it has none: it was not asked, or failed on every seed.
    """
    found = mean(rows[subject], name)
    if found is None:
        raise KeyError(subject)
    return found


def _beyond_fine_tuning(rows: Rows) -> bool:
    original, fine, blind, oracle = (
        mean_of(rows, subject, "forget test")
        for subject in ("original", "fine-tune", "blindspot", "oracle")
    )
    return original < fine < blind <= UNTIL * oracle


def _kept(rows: Rows) -> bool:
    limit = KEPT * mean_of(rows, "oracle", "retain test")
    return all(
        mean_of(rows, subject, "retain test") <= limit for subject in ("gaussian", "blindspot")
    )


def _nearer(rows: Rows) -> bool:
    blind, fine, original = (
        mean_of(rows, subject, "W1") for subject in ("blindspot", "fine-tune", "original")
    )
    return blind < original / 2 and blind < fine


def _relearned_later(rows: Rows) -> bool:
    return mean_of(rows, "blindspot", "AIN") > 3 * mean_of(rows, "fine-tune", "AIN")


def _past_the_oracle(rows: Rows) -> bool:
    return mean_of(rows, "gaussian", "forget test") > mean_of(rows, "oracle", "forget test")


def _attention(rows: Rows) -> bool:
    """Whether the attention term brings W1 nearer by more than a tenth."""
    return mean_of(rows, "blindspot", "W1") < 0.9 * mean_of(rows, "blindspot, no attention", "W1")


CLAIMS: Mapping[str, Callable[[Rows], bool]] = {
    "error on forgotten test rows: original < fine-tune < Blindspot <= 1.1 oracle": (
        _beyond_fine_tuning
    ),
    "error on retained test rows of Gaussian and Blindspot within 5 % of the oracle's": _kept,
    "W1 of Blindspot below half the original's and below fine-tune's": _nearer,
    "AIN of Blindspot above three times fine-tune's": _relearned_later,
    "Gaussian's error on forgotten test rows is above the oracle's": _past_the_oracle,
    "the attention term brings W1 down by more than a tenth": _attention,
}
"""What is asked of every request; the last three lines differ with the data."""


def verdict(worlds: Mapping[str, Any]) -> dict[str, Any]:
    """Where each claim holds, and the distance of each row to the oracle in the three errors."""
    asked = {
        f"{name}, {request}": its["rows"]
        for name, world in worlds.items()
        for request, its in world["requests"].items()
    }
    claims: dict[str, dict[str, bool | None]] = {}
    for claim, holds in CLAIMS.items():
        claims[claim] = {title: _said(holds, rows) for title, rows in asked.items()}
    return {
        "claims": claims,
        "distance": {title: _distances(rows) for title, rows in asked.items()},
    }


def _said(holds: Callable[[Rows], bool], rows: Rows) -> bool | None:
    """None where a row that it needs is missing."""
    try:
        return holds(rows)
    except KeyError:
        return None


def _distances(rows: Rows) -> dict[str, float | None]:
    """Mean distance of the three errors to the oracles', as a share of these."""
    wanted = {name: mean_of(rows, "oracle", name) for name in CHOSEN_BY}
    found: dict[str, float | None] = {}
    for subject, row in rows.items():
        errors = {name: mean(row, name) for name in CHOSEN_BY}
        sound = {name: value for name, value in errors.items() if value is not None}
        found[subject] = distance(sound, wanted) if len(sound) == len(CHOSEN_BY) else None
    return found
