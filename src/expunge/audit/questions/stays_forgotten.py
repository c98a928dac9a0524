"""Stays forgotten? Neither fine-tuning, nor rounded weights, nor later requests bring it back."""

import torch

from expunge.attacks.quantisation import BITS, quantised
from expunge.audit.inquiry import Inquiry
from expunge.audit.persistence import PersistenceMatrix
from expunge.audit.questions.relearned import FORGOTTEN, comes_back, speeds
from expunge.audit.verdict import Evidence, Verdict
from expunge.signals.ask import ask

ASKS = "Does it stay forgotten under fine-tuning, rounded weights and later requests?"


def stays_forgotten(inquiry: Inquiry) -> Verdict:
    """Relearning and rounding beside the oracles', and the history's own persistence."""
    evidence = [_rounded(inquiry, bits) for bits in BITS]
    missing: list[str] = []
    notes: list[str] = []
    if not inquiry.references.models:
        missing.append(
            "How fast the forgotten rows are relearned says nothing without an oracle's speed; "
            "give a recipe and the level standard, or an oracle."
        )
    elif inquiry.trains:
        evidence += speeds(inquiry, inquiry.policy.stays_forgotten.speed)
        others = [walk for walk in inquiry.walks if walk.lure != FORGOTTEN]
        back = inquiry.policy.stays_forgotten.back
        evidence += [comes_back(inquiry, walk, back) for walk in others]
        if len(inquiry.rates) < len(inquiry.policy.stays_forgotten.rates):
            notes.append("It was relearned at one learning rate; the level adversarial takes more.")
    else:
        missing.append("Relearning was not tried: ask at the level standard.")
    if inquiry.switches:
        notes.append(
            f"Relearned and rounded was what is left without {', '.join(inquiry.switches)}."
        )
    if len(inquiry.steps) > 1:
        evidence.append(_persistence(inquiry))
    else:
        notes.append("There is no history of several requests to measure persistence over.")
    return Verdict("stays forgotten", ASKS, tuple(evidence), tuple(missing), tuple(notes))


def _rounded(inquiry: Inquiry, bits: int) -> Evidence:
    """How much the forgotten rows' score rises in rounded weights, beside the oracles' rise."""
    removal = inquiry.removal

    def rise(model: torch.nn.Module, plain: float) -> float:
        signals = ask(removal.family, quantised(model, bits), removal.forget, removal.run)
        return inquiry.score(signals) - plain

    bare = inquiry.score(inquiry.bare_answers.forget)
    value = rise(inquiry.bare, bare)
    models = zip(inquiry.references.models, inquiry.references.answers, strict=True)
    oracles = [rise(model, inquiry.score(one.forget)) for model, one in models]
    allowed, reference, against = inquiry.policy.stays_forgotten.back, 0.0, "no change"
    if oracles:
        beside = inquiry.beside(oracles)
        allowed, reference, against = beside.allowed(allowed), beside.mean, beside.words()
    return Evidence.no_more(
        f"rise of forgotten rows in {bits}-bit weights",
        f"Rounding the weights to {bits} bits changes the score on forgotten rows by {value:+.3f} "
        f"({against}: {reference:+.3f}); up to {allowed:.3f} more is allowed.",
        value,
        reference,
        against,
        allowed,
        details={"oracles": oracles, "score": bare + value},
    )


def _persistence(inquiry: Inquiry) -> Evidence:
    """How much of an earlier request came back under the later ones."""
    removal, steps = inquiry.removal, inquiry.steps

    def scores(model: torch.nn.Module) -> list[float]:
        signals = ask(removal.family, model, removal.forget, removal.run)
        parts = [[removal.forget.ids[row] for row in step.rows.tolist()] for step in steps]
        return [inquiry.score(signals.of_samples(part)) for part in parts]

    before, *after = [scores(model) for model in (removal.before, *(s.model for s in steps))]
    matrix = PersistenceMatrix(
        tuple(step.request for step in steps),
        torch.tensor(before).numpy(),
        torch.tensor(after).numpy(),
    )
    back = matrix.re_emergence()
    worst = float(back.max())
    allowed = inquiry.policy.stays_forgotten.back
    request = steps[int(back.argmax())].request
    return Evidence.no_more(
        "re-emergence under later requests",
        f"Of {len(steps)} requests {request!r} came back most under later ones: by {worst:+.3f}; "
        f"up to {allowed:.3f} is allowed.",
        worst,
        0.0,
        "the score at the request's own step",
        allowed,
        details={"requests": [s.request for s in steps], "before": before, "after": after},
    )
