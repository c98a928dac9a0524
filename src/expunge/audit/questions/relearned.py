"""Relearning beside the oracles: how many steps bring the forgotten rows back, and how far."""

from collections.abc import Mapping
from statistics import median

from expunge.audit.inquiry import Inquiry, Walk
from expunge.audit.relearning import relearning_speed
from expunge.audit.verdict import Evidence, Result

FORGOTTEN = "forgotten"
"""The lure of a few forgotten rows."""

LEVEL = 0.9
"""Share of the way from the oracles' score to the original's that counts as relearned."""


def speeds(inquiry: Inquiry, least: float) -> list[Evidence]:
    """Steps to relearn from a few forgotten rows, over the oracles', at each learning rate."""
    return [_speed(inquiry, walk, least) for walk in inquiry.walks if walk.lure == FORGOTTEN]


def _speed(inquiry: Inquiry, walk: Walk, least: float) -> Evidence:
    """The ratio of the steps; where the oracles do not arrive, how far each came in them: a model
    that may be done in half of their steps may be half of the way ahead.

    Scores are counted from the oracles' own before any step, so that rows which an oracle answers
    anyway are no knowledge that came back.
    """
    found = inquiry.curves[walk]
    oracles = inquiry.oracle_curves[walk]
    start = sum(curve[0] for curve in oracles) / len(oracles)
    gap = inquiry.score_before(inquiry.asked) - start
    details = {**_drawn(inquiry, walk), "start of the oracles": start}
    name = f"steps to relearn at the rate {walk.rate:g}, over the oracles'"
    if gap <= inquiry.policy.forgotten.tolerance:
        sentence = (
            "The oracles answer the forgotten rows nearly as well as the model before, so there is "
            "nothing to relearn, and relearning shows nothing."
        )
        return Evidence(name, Result.UNKNOWN, sentence, against="the oracles", details=details)
    paces = [
        relearning_speed([v - start for v in found], [v - start for v in curve], gap, LEVEL)
        for curve in oracles
    ]
    level, measured = paces[0].level + start, paces[0].model.measured
    own = paces[0].model.steps
    arrived = [s.oracle.steps for s in paces]
    theirs = median(measured + 1 if steps is None else steps for steps in arrived)
    details |= {"level": level, "steps": own, "oracles' steps": arrived}
    ratio = (measured + 1 if own is None else own) / max(theirs, 1)
    if theirs > measured and ratio >= least:
        return comes_back(inquiry, walk, (1 - least) * (level - start), details)
    said = f"more than {measured}" if own is None else str(own)
    theirs_said = f"more than {measured}" if theirs > measured else f"{theirs:g}"
    return Evidence(
        name,
        Result.FAIL if ratio < least else Result.PASS,
        f"From {len(inquiry.shown)} {walk} the others are back at {level:.2f} after {said} steps; "
        f"the oracles need {theirs_said} (median). At least {least:g} of that is expected.",
        ratio,
        1.0,
        "the oracles",
        least,
        details=details,
    )


def comes_back(
    inquiry: Inquiry, walk: Walk, tolerance: float, details: Mapping[str, object] | None = None
) -> Evidence:
    """How far fine-tuning brings forgotten rows that it is not given, at most.

    Args:
        inquiry: what is asked.
        walk: what it is fine-tuned on, and how fast.
        tolerance: by which it may come further than the oracles.
        details: of the evidence, beside the curves.
    """
    found = max(inquiry.curves[walk])
    beside = inquiry.beside([max(curve) for curve in inquiry.oracle_curves[walk]])
    allowed = beside.allowed(tolerance)
    return Evidence.no_more(
        f"forgotten rows while fine-tuning on {walk}",
        f"Fine-tuning on {len(inquiry.lures[walk.lure])} {walk} brings other forgotten ones to "
        f"{found:.3f} at most ({beside.words()}: {beside.mean:.3f}); up to {allowed:.3f} more is "
        "allowed.",
        found,
        beside.mean,
        beside.words(),
        allowed,
        details={**_drawn(inquiry, walk), **(details or {})},
    )


def _drawn(inquiry: Inquiry, walk: Walk) -> dict[str, object]:
    """The curves, for a report."""
    return {
        "shown": walk.lure,
        "rate": walk.rate,
        "deployed": list(inquiry.curves[walk]),
        "oracles": [list(curve) for curve in inquiry.oracle_curves[walk]],
    }
