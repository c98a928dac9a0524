"""What the benchmark found: one table, the strengths, and what they say of the papers' claims.

Figures are means and standard deviations over seeds.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from expunge.audit.paired import student_interval
from expunge.benchmarks.drawing.rivals import RIVALS
from expunge.benchmarks.seed_rows import Cell, differences, mean, spread

Table = tuple[str, Sequence[str], list[Sequence[object]]]

COLUMNS: Mapping[str, str] = {
    "missed": "UA",
    "probability": "prob.",
    "entropy": "entropy",
    "next": "next",
    "garbage": "garbage",
    "untold": "untold",
    "retained": "retained",
    "distance": "FD",
    "kernel": "KID",
    "relearned": "relearned",
    "evaluations": "calls",
    "milliseconds": "ms",
}
"""Figures by what the table calls them."""

CAPTION = (
    "UA: share of 120 pictures drawn of the forgotten class in which the judge does not see it; "
    "prob., entropy: the judge's mean probability of it and entropy (nats) on them; next: share in "
    "which it sees the next class; garbage: share of which it is less sure than of the unsurest "
    "5 % of real pictures; untold: share of the forgotten class among 120 pictures drawn without a "
    "condition; retained: accuracy on 36 pictures of each other class; FD, KID: Frechet "
    "and kernel distance of those to as many real training rows of each class, by the judge's "
    "features (evenly drawn sets are less alike within than random ones, so that KID starts below "
    "0: see the first row); "
    "relearned: steps on 16 rows of the class and 16 others after which fewer than half of 48 "
    "pictures miss it, drawn in ten steps (of 0, 5, 10, 20; -: not within 20 on any seed); "
    "calls: network evaluations a picture; ms: a picture's time; s: processor seconds of the "
    "removal, of the training for the first two rows. Real rows are those held out. Retrained: the "
    "condition of the class was never trained."
)

NEAR = 0.02
"""Accuracy within which two rows are said to be equal."""


def tables(result: Mapping[str, Any]) -> list[Table]:
    """What models draw, and the strengths that were taken."""
    title = f"class {result['forgotten']} forgotten, {result['seeds']} seeds"
    heads = ["", *COLUMNS.values(), "s"]
    strengths: list[Sequence[object]] = [
        [
            name,
            f"{one['at'] + 1} of {one['of']}",
            _fields(name, one["at"]),
            "yes" if one["kept the rest"] else "no",
        ]
        for name, one in result["strengths"].items()
    ]
    return [
        (title, heads, _rows(result)),
        (
            f"strengths, chosen on class {result['tried on']}, seed 0",
            ["", "taken", "method", "kept the rest"],
            strengths,
        ),
    ]


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """What the figures say of the papers' claims, in sentences."""
    rows, said = result["rows"], []

    def both(row: str) -> str:
        ua, kept, distance = (mean(rows[row], f) for f in ("missed", "retained", "distance"))
        return f"{row} UA {ua:.2f}, retained {kept:.2f}, FD {distance:.1f}"

    def better(one: str, other: str, claim: str) -> None:
        if one not in rows or other not in rows:
            return
        wins = _beats(rows[one], rows[other])
        verdict = {True: "holds", False: "does not hold", None: "no difference is shown"}[wins]
        said.append(f"{claim}: {verdict} ({both(one)}; {both(other)}).")

    better("SalUn", "random mask", "SalUn's mask is better than a random one of its size")
    better("SalUn", "relabelling", "SalUn is better than relabelling without a mask")
    better("SalUn", "gradient ascent", "Gradient ascent is worse than SalUn")
    better("SalUn", "gradient difference", "Gradient difference is worse than SalUn")
    distilled = "Distillation without forgetting is better than one step of the base"
    better("SFD, no forget term", "original in one step", distilled)
    if "SFD" in rows:
        plain = rows.get("SFD, no forget term")
        before = "" if plain is None else f"{mean(plain, 'missed'):.2f} without its forget term"
        said.append(
            f"SFD draws in one call: UA {mean(rows['SFD'], 'missed'):.2f}"
            f"{f', {before}' if before else ''}; retained {mean(rows['SFD'], 'retained'):.2f} "
            f"beside {mean(rows['original'], 'retained'):.2f} in several."
        )
    empty = [
        row
        for row in result["strengths"]
        if mean(rows[row], "missed") > 0.5 and mean(rows[row], "garbage") > 0.5
    ]
    if empty:
        said.append(
            f"Forgetting by garbage: {', '.join(empty)}: most pictures of the class are none that "
            "the judge would be sure of."
        )
    return said


def _beats(one: Sequence[Cell], other: Sequence[Cell]) -> bool | None:
    """Whether a row forgets or keeps more and does neither worse; None where the 95 % intervals of
    the differences, seed by seed, hold zero (Student's distribution: seeds are few)."""
    ahead = behind = False
    for figure, sign in (("missed", 1), ("retained", 1), ("distance", -1)):
        by = [sign * difference for difference in differences(one, other, figure)]
        if (interval := student_interval(by)) is None:
            continue
        low, high = interval
        ahead = ahead or (fmean(by) > NEAR and low > 0)
        behind = behind or (fmean(by) < -NEAR and high < 0)
    if ahead == behind:
        return None
    return ahead


def _rows(result: Mapping[str, Any]) -> list[Sequence[object]]:
    judged = result["judge"]
    found: list[Sequence[object]] = [
        ["real pictures", *(_plain(judged.get(figure)) for figure in COLUMNS), None]
    ]
    for row, cells in result["rows"].items():
        seconds = result["seconds"].get(row)
        told = None if seconds is None else f"{fmean(seconds):.0f}"
        found.append([row, *(spread(cells, figure, _decimals(figure)) for figure in COLUMNS), told])
    return found


def _fields(name: str, at: int) -> str:
    """The field in which strengths differ, or the name alone."""
    its = RIVALS[name].strengths
    first = vars(its[0])
    varied = [f for f in first if any(vars(one)[f] != first[f] for one in its)]
    told = ", ".join(f"{field} {vars(its[at])[field]:g}" for field in varied)
    return f"{its[at].name}{f': {told}' if told else ''}"


def _decimals(figure: str) -> int:
    return 0 if figure in ("relearned", "evaluations") else 1 if figure == "kernel" else 2


def _plain(value: object) -> str | None:
    return None if value is None else f"{float(str(value)):.2f}"
