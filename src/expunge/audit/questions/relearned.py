"""Relearning beside the oracles: how many steps bring the forgotten rows back, and how far."""

from statistics import median

from expunge.audit.inquiry import Inquiry
from expunge.audit.relearning import relearning_speed
from expunge.audit.verdict import Evidence, Result

LEVEL = 0.9
"""Share of the way from the oracles' score to the original's that counts as relearned."""


def speed(inquiry: Inquiry, least: float) -> Evidence:
    """Steps to relearn from a few forgotten rows, over the oracles'.

    Scores are counted from the oracles' own before any step, so that rows which an oracle answers
    anyway are no knowledge that came back.
    """
    found = inquiry.curves["forgotten"]
    oracles = inquiry.oracle_curves["forgotten"]
    start = sum(curve[0] for curve in oracles) / len(oracles)
    gap = inquiry.score_before(inquiry.asked) - start
    details = {
        "shown": "forgotten",
        "deployed": list(found),
        "oracles": [list(curve) for curve in oracles],
        "start of the oracles": start,
    }
    name = "steps to relearn, over the oracles'"
    if gap <= inquiry.policy.forgotten.tolerance:
        sentence = (
            "The oracles answer the forgotten rows nearly as well as the model before, so there is "
            "nothing to relearn, and relearning shows nothing."
        )
        return Evidence(name, Result.UNKNOWN, sentence, against="the oracles", details=details)
    speeds = [
        relearning_speed([v - start for v in found], [v - start for v in curve], gap, LEVEL)
        for curve in oracles
    ]
    level, measured = speeds[0].level + start, speeds[0].model.measured
    own = speeds[0].model.steps
    arrived = [s.oracle.steps for s in speeds]
    theirs = median(measured + 1 if steps is None else steps for steps in arrived)
    details |= {"level": level, "steps": own, "oracles' steps": arrived}
    if own is None and theirs > measured:
        return _at_the_end(inquiry, name, level, least, details)
    ratio = (measured + 1 if own is None else own) / max(theirs, 1)
    said = f"more than {measured}" if own is None else str(own)
    theirs_said = f"more than {measured}" if theirs > measured else f"{theirs:g}"
    return Evidence(
        name,
        Result.FAIL if ratio < least else Result.PASS,
        f"From {len(inquiry.shown)} forgotten rows the others are back at {level:.2f} after {said} "
        f"steps; the oracles need {theirs_said} (median). At least {least:g} of that is expected.",
        ratio,
        1.0,
        "the oracles",
        least,
        details=details,
    )


def _at_the_end(
    inquiry: Inquiry, name: str, level: float, least: float, details: dict[str, object]
) -> Evidence:
    """Where neither arrives: how far they came in the same steps."""
    found = max(inquiry.curves["forgotten"])
    beside = inquiry.beside([max(curve) for curve in inquiry.oracle_curves["forgotten"]])
    allowed = beside.allowed(inquiry.policy.stays_forgotten.back)
    return Evidence(
        name,
        Result.FAIL if found - beside.mean > allowed else Result.PASS,
        f"From {len(inquiry.shown)} forgotten rows neither the model nor the oracles bring the "
        f"others to {level:.2f} in {inquiry.relearning.steps} steps; it comes to {found:.3f} "
        f"({beside.words()}: {beside.mean:.3f}), and up to {allowed:.3f} more is allowed.",
        None,
        1.0,
        "the oracles",
        least,
        details={**details, "best": found, "oracles' best": list(beside.values)},
    )


def comes_back(inquiry: Inquiry, lure: str) -> Evidence:
    """The largest rise of the forgotten rows' score under fine-tuning on other rows."""
    found = max(inquiry.curves[lure])
    oracles = [max(curve) for curve in inquiry.oracle_curves[lure]]
    beside = inquiry.beside(oracles)
    allowed = beside.allowed(inquiry.policy.stays_forgotten.back)
    failed = found - beside.mean > allowed
    return Evidence(
        f"forgotten rows while fine-tuning on {lure} rows",
        Result.FAIL if failed else Result.PASS,
        f"Fine-tuning on {lure} rows brings the forgotten ones to {found:.3f} at most "
        f"({beside.words()}: {beside.mean:.3f}); up to {allowed:.3f} more is allowed.",
        found,
        beside.mean,
        beside.words(),
        allowed,
        details={
            "shown": lure,
            "deployed": list(inquiry.curves[lure]),
            "oracles": [list(curve) for curve in inquiry.oracle_curves[lure]],
        },
    )
