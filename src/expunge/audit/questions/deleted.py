"""Deleted or suppressed? What the deployed file holds, with everything switched off, averaged, read
from inside and relearned."""

import math

from expunge.audit.inquiry import Inquiry
from expunge.audit.inside import COST, brought_back, reads_of
from expunge.audit.questions.relearned import speed
from expunge.audit.verdict import Evidence, Result, Verdict

QUANTILE = 2.58
"""Of a normal distribution, both sides, 99 %."""

ASKS = "Is the knowledge gone from the deployed weights, or only kept from showing?"


def deleted(inquiry: Inquiry) -> Verdict:
    """Edit-off, repeated asking, an added constant, a linear probe, and relearning."""
    evidence = [_switched_off(inquiry), _asked_often(inquiry)]
    missing: list[str] = []
    notes: list[str] = []
    if not inquiry.references.models:
        missing.append(
            "Whether plain weights still hold it shows only beside an oracle; give a recipe and "
            "the level standard, or an oracle."
        )
    else:
        for found in (_brought_back(inquiry), _read(inquiry)):
            if isinstance(found, str):
                notes.append(found)
            else:
                evidence.append(found)
        if inquiry.trains:
            evidence.append(speed(inquiry, inquiry.policy.deleted.speed))
        else:
            missing.append("Relearning was not tried: ask at the level standard.")
    return Verdict("deleted or suppressed", ASKS, tuple(evidence), tuple(missing), tuple(notes))


def _switched_off(inquiry: Inquiry) -> Evidence:
    """How much comes back when guards, adapters and hooks are taken away."""
    shown = inquiry.score(inquiry.answers.forget)
    bare = inquiry.score(inquiry.bare_answers.forget)
    allowed = inquiry.policy.deleted.back
    if not inquiry.switches:
        sentence = "Nothing in the deployed model can be switched off: it is plain weights."
        return Evidence("rise when edits are switched off", Result.PASS, sentence, 0.0, 0.0)
    names = ", ".join(inquiry.switches)
    return Evidence(
        "rise when edits are switched off",
        Result.FAIL if bare - shown > allowed else Result.PASS,
        f"Without {names} the forgotten rows score {bare:.3f} instead of {shown:.3f}; up to "
        f"{allowed:.3f} more is allowed.",
        bare - shown,
        0.0,
        "the deployed model as it is",
        allowed,
        details={"switched off": list(inquiry.switches), "score": bare},
    )


def _asked_often(inquiry: Inquiry) -> Evidence:
    """How much comes back when answers that vary are averaged."""
    once = inquiry.score(inquiry.answers.once_forget)
    often = inquiry.score(inquiry.answers.forget)
    allowed, asks = inquiry.policy.deleted.back, inquiry.answers.asks
    name = "rise when answers are averaged"
    if asks == 1:
        sentence = "The model answers the same every time."
        return Evidence(name, Result.PASS, sentence, 0.0, 0.0)
    return Evidence(
        name,
        Result.FAIL if often - once > allowed else Result.PASS,
        f"Asked {asks} times and averaged, the forgotten rows score {often:.3f} instead of "
        f"{once:.3f}; up to {allowed:.3f} more is allowed.",
        often - once,
        0.0,
        "the model asked once",
        allowed,
        details={"asks": asks, "once": once, "averaged": often},
    )


def _read(inquiry: Inquiry) -> Evidence | str:
    """How well a linear probe reads the forgotten kind from the features, beside the oracles'."""
    removal = inquiry.removal
    if not removal.whole_kind:
        return "The request is no whole class, so there is no kind for a linear probe to read."
    value = reads_of(removal, inquiry.bare)
    oracles = [reads_of(removal, model) for model in inquiry.references.models]
    if value is None or None in oracles:
        return (
            "No linear probe was fitted: the model has no linear head whose input could be read, "
            "or too few held-out rows are of the forgotten kind."
        )
    known = [one for one in oracles if one is not None]
    before = reads_of(removal, removal.before)
    beside = inquiry.beside(known)
    allowed = beside.allowed(inquiry.policy.deleted.read, _chance(inquiry, len(known)))
    if before is not None and before - beside.mean <= allowed:
        return _tells_nothing("A linear probe of the features", before, beside.mean, allowed)
    return Evidence(
        "linear reading of the forgotten kind",
        Result.FAIL if value - beside.mean > allowed else Result.PASS,
        f"A linear probe of the features is right in {value:.1%} about the forgotten kind "
        f"({beside.words()}: {beside.mean:.1%}; a guess: 50 %); {allowed:.1%} more is allowed.",
        value,
        beside.mean,
        beside.words(),
        allowed,
        None,
        before,
        {"oracles": known},
    )


def _brought_back(inquiry: Inquiry) -> Evidence | str:
    """What a constant added to the logits of the forgotten class brings back.

    A bias that is lowered hides a class from every answer, and is undone by one number.
    """
    removal = inquiry.removal
    if not removal.whole_kind:
        return "The request is no whole class, so no logit is its own."
    value = brought_back(removal, inquiry.bare)
    before = brought_back(removal, removal.before)
    known = [brought_back(removal, model) for model in inquiry.references.models]
    oracles = [one for one in known if one is not None]
    if value is None or before is None or len(oracles) < len(known):
        return "Too few held-out rows are of one side to try what a constant would bring back."
    beside = inquiry.beside(oracles)
    allowed = beside.allowed(inquiry.policy.deleted.read, _chance(inquiry, len(oracles)))
    if before - beside.mean <= allowed:
        return _tells_nothing("An added constant", before, beside.mean, allowed)
    return Evidence(
        "forgotten kind brought back by a constant",
        Result.FAIL if value - beside.mean > allowed else Result.PASS,
        f"One constant, added to the logits of the forgotten class at the cost of {COST:.0%} of "
        f"the other rows, brings back {value:.1%} of it ({beside.words()}: {beside.mean:.1%}); "
        f"{allowed:.1%} more is allowed.",
        value,
        beside.mean,
        beside.words(),
        allowed,
        None,
        before,
        {"oracles": oracles},
    )


def _chance(inquiry: Inquiry, oracles: int) -> float:
    """How far a share of these held-out rows may be off by chance, at most, in 99 of 100 cases."""
    rows = min(len(inquiry.removal.unseen_kind), len(inquiry.removal.retained))
    return QUANTILE * math.sqrt(0.25 / max(1, rows) * (1 + 1 / oracles))


def _tells_nothing(what: str, before: float, oracles: float, allowed: float) -> str:
    return (
        f"{what} tells the model before ({before:.3f}) from the oracles ({oracles:.3f}) by no more "
        f"than the {allowed:.3f} that are allowed, so it was not counted."
    )
