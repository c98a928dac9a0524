"""What the benchmark found: a table for each world, the strengths, and what they say of the claims.

Figures are means and standard deviations over seeds. Real rows are in every table, since no share
of undesired pictures means anything without the judge's own errors.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from expunge.audit.paired import student_interval
from expunge.benchmarks.msgm.protocol import TOLERANCE
from expunge.benchmarks.msgm.work import ASKED, COMPARED, DRAWN
from expunge.benchmarks.seed_rows import Cell, differences, mean, spread

Table = tuple[str, Sequence[str], list[Sequence[object]]]

COLUMNS: Mapping[str, tuple[str, int]] = {
    "ratio": ("undesired", 3),
    "garbage": ("garbage", 2),
    "distance": ("FD", 1),
    "kernel": ("KID", 0),
    "seconds": ("s", 0),
    "bits g": ("NLL g", 2),
    "bits u": ("NLL u", 2),
    "inpainted u": ("inpainted u", 2),
    "decoded u": ("decoded u", 2),
    "inpainted g": ("inpainted g, dB", 1),
    "decoded g": ("decoded g, dB", 1),
}
"""Figures by what the table calls them, and their decimals."""

DRAWN_FIGURES, KNOWN_FIGURES = tuple(COLUMNS)[:5], tuple(COLUMNS)[5:]

CAPTION = (
    f"g are desired rows, u undesired ones. undesired: share of {DRAWN} drawn pictures that the "
    "judge calls undesired; garbage: share of which it is less sure than of the unsurest 5 % of "
    f"real pictures; FD, KID: Frechet and kernel distance of {COMPARED} drawn pictures that are "
    "not undesired to as many real ones, by the judge's features; NLL: median bits a dimension of "
    f"test rows (100 stands for more); inpainted u, decoded u: share judged undesired of at most "
    f"{ASKED} undesired test rows whose lower half was drawn again, or which were encoded and "
    "decoded; inpainted g, decoded g: peak signal-to-noise ratio of desired ones, of the lower "
    "half and of all. Real rows: what the judge says of test rows, and the distance of two real "
    "halves. The oracle never saw an undesired row; destroyed are untrained weights; seconds are "
    "of the processor. Strengths are those of the first seed's validation rows, for all seeds."
)

NEAR = 0.1
"""Bits a dimension within which a likelihood counts as what it was."""

LITTLE = 0.5
"""Share of the original's undesired pictures above which an oracle has not unlearned to draw
them."""


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Three tables a world: what models draw, what they know, and the strengths that were tried."""
    found: list[Table] = []
    for name, its in result["worlds"].items():
        for what, figures in (("", DRAWN_FIGURES), (", what they know", KNOWN_FIGURES)):
            titles = ["", *(COLUMNS[figure][0] for figure in figures)]
            found.append((f"{name}{what}: {its['about']}", titles, _rows(its, figures)))
        tried = ["", "weight", "every", "undesired", "NLL g", "NLL u", "taken"]
        found.append((f"{name}: strengths, first seed, validation rows", tried, _tried(its)))
    return found


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """What the figures say of the paper's claims, in sentences."""
    return [sentence for name, its in result["worlds"].items() for sentence in _said(name, its)]


def _said(name: str, its: Mapping[str, Any]) -> list[str]:
    rows = its["rows"]
    gap = mean(rows["oracle"], "bits u") - mean(rows["original"], "bits u")
    other = mean(rows["oracle"], "bits g") - mean(rows["original"], "bits g")
    before, after = (mean(rows[row], "ratio") for row in ("original", "oracle"))
    stays, drawn = gap <= NEAR, after >= LITTLE * before
    if stays and drawn:
        so = "it does not unlearn, as the paper says"
    elif stays or drawn:
        so = "it unlearns in part: " + (
            "it draws fewer of them and finds them as likely as before"
            if stays
            else "it finds them less likely and draws them all the same"
        )
    else:
        so = "it unlearns, and the paper's claim is not reproduced here"
    sentences = [
        f"{name}: retraining without the undesired rows leaves {after:.3f} of the pictures "
        f"undesired (original {before:.3f}) and makes undesired rows {gap:+.2f} bits less likely "
        f"(desired ones {other:+.2f}): {so}."
    ]
    plain = mean(rows["fine-tune"], "ratio")
    kept = [form for form, how in its["strengths"].items() if how["kept"]]
    better = [
        f"{form} {mean(rows[form], 'ratio'):.3f}"
        for form in kept
        if _fewer(rows[form], rows["fine-tune"])
    ]
    sentences.append(
        f"{name}: fewer undesired pictures than by fine-tuning on desired rows alone "
        f"({plain:.3f}), at a strength that kept their likelihood, by more than seeds differ: "
        f"{', '.join(better) or 'none'}."
    )
    if lost := [form for form in its["strengths"] if form not in kept]:
        sentences.append(
            f"{name}: no strength that was tried keeps desired validation rows within "
            f"{TOLERANCE:g} bits: {', '.join(lost)}."
        )
    return sentences


def _fewer(one: Sequence[Cell], other: Sequence[Cell]) -> bool:
    """Whether the 95 % interval of the differences in undesired pictures, seed by seed, lies below
    0; never of a single seed."""
    interval = student_interval(differences(one, other, "ratio"))
    return interval is not None and interval[1] < 0


def _rows(its: Mapping[str, Any], figures: Sequence[str]) -> list[Sequence[object]]:
    judged = its["judge"]
    real = {
        "ratio": judged["false alarms"],
        "garbage": judged["garbage"],
        "distance": judged["distance"],
        "kernel": judged["kernel"],
        "inpainted u": judged["found"],
        "decoded u": judged["found"],
    }
    rows = {"real rows": [real], **its["rows"]}
    return [
        [row, *(spread(cells, figure, COLUMNS[figure][1]) for figure in figures)]
        for row, cells in rows.items()
    ]


def _tried(its: Mapping[str, Any]) -> list[Sequence[object]]:
    found: list[Sequence[object]] = []
    for one in its["validation"]:
        taken = its["strengths"].get(one["form"])
        if taken is None:
            said = None
        elif (taken["weight"], taken["every"]) != (one["weight"], one["every"]):
            said = "no"
        else:
            said = "yes" if taken["kept"] else "yes, too strong"
        bits = one.get("bits", {})
        figures = [one.get("ratio"), bits.get("g"), bits.get("u")]
        shown = ["diverged" if "diverged" in one else _fixed(figure, 2) for figure in figures]
        weight = None if taken is None else f"{one['weight']:g}"
        found.append([one["form"], weight, one.get("every"), *shown, said])
    return found


def _fixed(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"
