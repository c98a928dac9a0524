"""Deleted or suppressed? What the deployed file holds, with everything switched off, averaged, read
from inside and relearned."""

import math
from collections.abc import Callable

from torch import nn

from expunge.audit.inquiry import Inquiry
from expunge.audit.inside import COST, brought_back, reads_of
from expunge.audit.questions.relearned import speeds
from expunge.audit.removal import Removal
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
        found = [_brought_back(inquiry), _read(inquiry)] if inquiry.removal.whole_kind else []
        evidence += [item for item in found if isinstance(item, Evidence)]
        notes += [item for item in found if isinstance(item, str)]
        if not found:
            why = "The request is no whole class"
            if not inquiry.removal.has_classes:
                why = "The model does not answer with classes"
            notes.append(
                f"{why}, so there is no kind that a linear probe could read or a constant bring "
                "back."
            )
        if inquiry.trains:
            evidence += speeds(inquiry, inquiry.policy.deleted.speed)
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
    return Evidence.no_more(
        "rise when edits are switched off",
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
    return Evidence.no_more(
        name,
        f"Asked {asks} times and averaged, the forgotten rows score {often:.3f} instead of "
        f"{once:.3f}; up to {allowed:.3f} more is allowed.",
        often - once,
        0.0,
        "the model asked once",
        allowed,
        details={"asks": asks, "once": once, "averaged": often},
    )


def _brought_back(inquiry: Inquiry) -> Evidence | str:
    """What a constant added to the logits of the forgotten class brings back.

    A bias that is lowered hides a class from every answer, and is undone by one number.
    """
    return _of_the_kind(
        inquiry,
        brought_back,
        "forgotten kind brought back by a constant",
        f"One constant, added to the logits of the forgotten class at the cost of {COST:.0%} of "
        "the other rows, brings back this share of it",
        "Too few held-out rows are of one side to try what a constant would bring back.",
    )


def _read(inquiry: Inquiry) -> Evidence | str:
    """How well a linear probe reads the forgotten kind from the features, beside the oracles'."""
    return _of_the_kind(
        inquiry,
        reads_of,
        "linear reading of the forgotten kind",
        "A linear probe of the features is right about the forgotten kind, where a guess is in "
        "50 %, in this share of rows",
        "No linear probe was fitted: the model has no linear head whose input could be read, or "
        "too few held-out rows are of the forgotten kind.",
    )


def _of_the_kind(
    inquiry: Inquiry,
    share: Callable[[Removal, nn.Module], float | None],
    name: str,
    said: str,
    unmeasured: str,
) -> Evidence | str:
    """A share of the forgotten kind beside the oracles', or why it is not counted.

    Args:
        inquiry: what is asked.
        share: of one model, or None where it cannot be measured.
        name: of the figure.
        said: what the share is, in words.
        unmeasured: the sentence where it cannot be measured.
    """
    removal = inquiry.removal
    models = (inquiry.bare, removal.before, *inquiry.references.models)
    found = [one for model in models if (one := share(removal, model)) is not None]
    if len(found) < len(models):
        return unmeasured
    value, before, *oracles = found
    beside = inquiry.beside(oracles)
    allowed = beside.allowed(inquiry.policy.deleted.read, _chance(inquiry, len(oracles)))
    if before - beside.mean <= allowed:
        return (
            f"The {name} tells the model before ({before:.3f}) from the oracles ({beside.mean:.3f})"
            f" by no more than the {allowed:.3f} that are allowed, so it was not counted."
        )
    return Evidence.no_more(
        name,
        f"{said}: {value:.1%} ({beside.words()}: {beside.mean:.1%}); {allowed:.1%} more is "
        "allowed.",
        value,
        beside.mean,
        beside.words(),
        allowed,
        before,
        {"oracles": oracles},
    )


def _chance(inquiry: Inquiry, oracles: int) -> float:
    """How far a share of these held-out rows may be off by chance, at most, in 99 of 100 cases."""
    rows = min(len(inquiry.removal.unseen_kind), len(inquiry.removal.retained))
    return QUANTILE * math.sqrt(0.25 / max(1, rows) * (1 + 1 / oracles))
