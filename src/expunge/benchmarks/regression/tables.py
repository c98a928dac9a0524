"""What the regression benchmark found, as tables: one a request, one row a method."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

CAPTION = (
    "Mean ± sd over seeds. Errors (mean absolute) on retained and forgotten test rows and on the "
    "forgotten training rows, and W1 to the oracles' answers on these (of an oracle: to the other "
    "oracles), in the target's unit; the oracle's error is the goal, not the largest. SVC: share "
    "of forgotten rows that support vectors on the error call non-members (0.5 where they know "
    "nothing). AIN: steps to relearn over the oracle's, at most those of 10 passes; < where the "
    "oracle did not arrive within them on some seed, so that its time is longer still, > where the "
    "model did not. gap: mean distance of the three errors to the oracle's, as a share of these. "
    "Rates were chosen on validation rows of the first seed; published: as the paper's code has "
    "it. s: wall seconds, of the oracle those of its training."
)

COLUMNS = ("model", "retain", "forget", "trained", "W1", "SVC", "AIN", "gap", "rate", "s")

Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Title, columns and rows of each request; and where the claims hold."""
    found: list[Table] = []
    for name, world in result["worlds"].items():
        for request, its in world["requests"].items():
            gaps = result["verdict"]["distance"][f"{name}, {request}"]
            title = (
                f"{name}, {request} ({its['forget rows']} of {world['rows']['train']} rows, in "
                f"{world['unit']})"
            )
            rows = [
                _row(subject, row, world["scale"], gaps[subject])
                for subject, row in its["rows"].items()
            ]
            found.append((title, COLUMNS, rows))
    return found


def sentences(result: Mapping[str, Any]) -> list[str]:
    """The worlds, and of each claim where it holds and where it does not."""
    found = [f"{name}: {world['about']}." for name, world in result["worlds"].items()]
    for claim, where in result["verdict"]["claims"].items():
        asked = {title: held for title, held in where.items() if held is not None}
        failing = [title for title, held in asked.items() if not held]
        line = f"{claim}: in {len(asked) - len(failing)} of {len(asked)} requests"
        found.append(f"{line}{'; not: ' + '; '.join(failing) if failing else ''}.")
    failed = [
        f"{name}, {request}, {subject} failed: {row['failed']}"
        for name, world in result["worlds"].items()
        for request, its in world["requests"].items()
        for subject, row in its["rows"].items()
        if row.get("failed")
    ]
    return found + failed


def _row(subject: str, row: Mapping[str, Any], scale: float, gap: float | None) -> Sequence[object]:
    rate = row.get("rate")
    return (
        subject,
        *(spread(row[name], scale) for name in ("retain test", "forget test", "forget train")),
        spread(row["W1"], scale),
        spread(row["SVC-MIA"]),
        _index(row),
        "-" if gap is None else f"{gap:.2f}",
        "-" if rate is None else f"{rate:g}",
        spread(row["seconds"]),
    )


def spread(values: Sequence[float | None], scale: float = 1.0) -> str:
    """Mean and standard deviation (n - 1), with as many digits as they need."""
    found = [scale * value for value in values if value is not None]
    if not found:
        return "-"
    middle = fmean(found)
    size = max(abs(value) for value in found)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    sd = f"±{stdev(found):,.{digits}f}" if len(found) > 1 else ""
    return f"{middle:,.{digits}f}{sd}" if math.isfinite(middle) else "-"


def _index(row: Mapping[str, Any]) -> str:
    """The anamnesis index; marked where it is a bound on some seed."""
    marks = "".join(mark for mark in "<>" if mark in row["AIN relation"])  # unknown: neither did
    text = spread(row["AIN"])
    return text if text == "-" else marks + text
