"""Deleted or suppressed? What the deployed file holds, with everything switched off, averaged, read
from inside and relearned."""

from expunge.audit.inquiry import Inquiry
from expunge.audit.inside import reads_of
from expunge.audit.questions.relearned import speed
from expunge.audit.verdict import Evidence, Result, Verdict

ASKS = "Is the knowledge gone from the deployed weights, or only kept from showing?"


def deleted(inquiry: Inquiry) -> Verdict:
    """Edit-off, repeated asking, a linear probe of the features, and relearning."""
    evidence = [_switched_off(inquiry), _asked_often(inquiry)]
    missing: list[str] = []
    notes: list[str] = []
    if not inquiry.references.models:
        missing.append(
            "Whether plain weights still hold it shows only beside an oracle; give a recipe and "
            "the level standard, or an oracle."
        )
    else:
        found = _read(inquiry)
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
        sentence = "The model answers the same every time: nothing is hidden in noise."
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
    allowed = beside.allowed(inquiry.policy.deleted.read)
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
