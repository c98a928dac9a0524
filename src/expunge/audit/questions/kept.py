"""Kept? Everything that nobody asked to remove is answered as well as before."""

from expunge.audit.inquiry import Inquiry
from expunge.audit.kept import Kept
from expunge.audit.removal import Answers, score_of
from expunge.audit.verdict import Evidence, Result, Verdict
from expunge.signals.accuracy import binomial_interval
from expunge.signals.matrix import Signals

ASKS = "Is everything else answered as well as before?"


def kept(inquiry: Inquiry) -> Verdict:
    """Score on held-out rows of no request, asked once as a user does."""
    if len(inquiry.removal.retained) < 2:
        missing = (
            "The request means all held-out rows, so nothing is left to measure what was kept; "
            "give held-out rows of other kinds.",
        )
        return Verdict("kept", ASKS, (), missing)
    evidence = [_beside_original(inquiry)]
    if inquiry.references.models:
        evidence.append(_beside_oracles(inquiry))
    notes = () if inquiry.references.models else ("There is no oracle; the model before stands.",)
    return Verdict("kept", ASKS, tuple(evidence), notes=notes)


def _retained(inquiry: Inquiry, answers: Answers) -> Signals:
    rows, places = answers.once_held_out, inquiry.removal.retained.tolist()
    return rows.of_samples([rows.samples[place] for place in places])


def _beside_original(inquiry: Inquiry) -> Evidence:
    metric, least = inquiry.removal.metric, inquiry.policy.kept.least
    before, after = (
        score_of(_retained(inquiry, answers), metric)
        for answers in (inquiry.references.original, inquiry.answers)
    )
    left = Kept(metric.name, metric.direction, before, after)
    rows = _retained(inquiry, inquiry.answers)
    interval = None
    if inquiry.removal.counts:
        interval = binomial_interval(int(rows.query("correct").sum()), len(rows.samples))
    fall = left.fall()
    return Evidence(
        f"{metric.name} on retained held-out rows",
        Result.PASS if left.share >= least else Result.FAIL,
        f"{fall[0].upper()}{fall[1:]}: {left.share:.1%} is kept, and at least {least:.0%} is "
        "expected.",
        after,
        before,
        "the model before",
        least,
        interval,
        before,
        {"share kept": left.share, "rows": len(rows.samples)},
    )


def _beside_oracles(inquiry: Inquiry) -> Evidence:
    value = inquiry.score(_retained(inquiry, inquiry.answers))
    oracles = [inquiry.score(_retained(inquiry, one)) for one in inquiry.references.answers]
    beside = inquiry.beside(oracles)
    allowed = beside.allowed(inquiry.policy.kept.tolerance)
    failed = beside.mean - value > allowed
    name = f"{inquiry.removal.metric.name} on retained held-out rows beside oracles"
    return Evidence(
        name,
        Result.FAIL if failed else Result.PASS,
        f"Retained held-out rows score {value:.3f} ({beside.words()}: {beside.mean:.3f}); up to "
        f"{allowed:.3f} less is allowed.",
        value,
        beside.mean,
        beside.words(),
        allowed,
        None,
        inquiry.score(_retained(inquiry, inquiry.references.original)),
        {"oracles": oracles},
    )
