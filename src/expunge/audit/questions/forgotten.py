"""Forgotten? The forgotten rows are answered as by a model that never saw them, no worse either."""

from expunge.audit.inquiry import Inquiry
from expunge.audit.removal import Answers, margins_of
from expunge.audit.verdict import Evidence, Result, Verdict
from expunge.signals.accuracy import Interval, binomial_interval, bootstrap_interval
from expunge.signals.matrix import Signals

ASKS = "Are the forgotten rows answered as by a model that never saw them?"


def forgotten(inquiry: Inquiry) -> Verdict:
    """Score, confidence and log-odds on forgotten rows, beside the oracles or a substitute."""
    if not inquiry.references.models:
        return _without_oracle(inquiry)
    evidence = [_score(inquiry, "forget rows")]
    if len(inquiry.removal.unseen_kind):
        evidence.append(_score(inquiry, "held-out rows of the request"))
    if inquiry.removal.counts:
        evidence += [_confidence(inquiry), _over_forgotten(inquiry)]
    notes = []
    if len(inquiry.references.models) == 1:
        notes.append("One oracle has no spread: distances are held against the tolerance alone.")
    if inquiry.answers.asks > 1:
        notes.append(
            f"The model's answers vary, so it was asked {inquiry.answers.asks} times and averaged."
        )
    return Verdict("forgotten", ASKS, tuple(evidence), notes=tuple(notes))


def _rows(inquiry: Inquiry, answers: Answers, rows: str) -> Signals:
    if rows == "forget rows":
        return answers.forget
    named = inquiry.removal.unseen_kind.tolist()
    return answers.held_out.of_samples([answers.held_out.samples[place] for place in named])


def _score(inquiry: Inquiry, rows: str) -> Evidence:
    metric = inquiry.removal.metric
    found = _rows(inquiry, inquiry.answers, rows)
    return _within(
        inquiry,
        f"{metric.name} on {rows}",
        inquiry.score(found),
        [inquiry.score(_rows(inquiry, one, rows)) for one in inquiry.references.answers],
        inquiry.score(_rows(inquiry, inquiry.references.original, rows)),
        _interval(inquiry, found),
    )


def _confidence(inquiry: Inquiry) -> Evidence:
    def sure(answers: Answers) -> float:
        return float(margins_of(answers.forget).sigmoid().mean())

    return _within(
        inquiry,
        "mean probability of the right answer on forget rows",
        sure(inquiry.answers),
        [sure(one) for one in inquiry.references.answers],
        sure(inquiry.references.original),
        None,
    )


def _within(
    inquiry: Inquiry,
    name: str,
    value: float,
    oracles: list[float],
    original: float,
    interval: Interval | None,
) -> Evidence:
    """A distance to the oracles in both directions; unknown where the original would pass, too."""
    beside = inquiry.beside(oracles)
    allowed = beside.allowed(inquiry.policy.forgotten.tolerance)
    away = value - beside.mean
    if abs(away) > allowed:
        result = Result.FAIL
        side = "above" if away > 0 else "below"
        said = f"{abs(away):.3f} {side} the oracles, and {allowed:.3f} is allowed"
    elif abs(original - beside.mean) <= allowed:
        result = Result.UNKNOWN
        said = (
            f"within {allowed:.3f} of the oracles, but so is the model before ({original:.3f}): on "
            "these rows forgetting does not show in this figure"
        )
    else:
        result, said = Result.PASS, f"within {allowed:.3f} of the oracles"
    return Evidence(
        name,
        result,
        f"The {name} is {value:.3f} ({beside.words()}: {beside.mean:.3f}): {said}.",
        value,
        beside.mean,
        beside.words(),
        allowed,
        interval,
        original,
        {"oracles": oracles, "oracle interval": [beside.interval.low, beside.interval.high]},
    )


def _over_forgotten(inquiry: Inquiry) -> Evidence:
    """Whether the right answer is denied far more firmly than by the oracles."""
    margins = margins_of(inquiry.answers.forget)
    value = float(margins.mean())
    oracles = [float(margins_of(one.forget).mean()) for one in inquiry.references.answers]
    beside = inquiry.beside(oracles)
    allowed = beside.allowed(inquiry.policy.forgotten.over_forgotten)
    failed = beside.mean - value > allowed
    said = (
        f"{beside.mean - value:.1f} below the oracles, and {allowed:.1f} is allowed: the rows are "
        "marked by being denied"
        if failed
        else f"no more than {allowed:.1f} below the oracles"
    )
    return Evidence(
        "mean log-odds of the right answer on forget rows",
        Result.FAIL if failed else Result.PASS,
        f"The mean log-odds of the right answer is {value:.1f} nats ({beside.words()}: "
        f"{beside.mean:.1f}): {said}.",
        value,
        beside.mean,
        beside.words(),
        allowed,
        None,
        float(margins_of(inquiry.references.original.forget).mean()),
        {
            "oracles": oracles,
            "margins": {
                "samples": list(inquiry.answers.forget.samples),
                "deployed": margins,
                "oracles": [margins_of(one.forget) for one in inquiry.references.answers],
                "original": margins_of(inquiry.references.original.forget),
            },
        },
    )


def _without_oracle(inquiry: Inquiry) -> Verdict:
    """Beside chance where the whole kind went, else beside held-out rows like the forgotten."""
    removal = inquiry.removal
    metric = removal.metric
    note = "There is no oracle; "
    if removal.whole_kind:
        reference = 1.0 / _classes(inquiry)
        against, allowed = "chance", inquiry.policy.forgotten.tolerance
        note += "chance stands for it, and answering even less of the rows passes."
    elif not removal.unseen_alike:
        missing = (
            "There is no oracle, and held-out questions about other things are no substitute; give "
            "a recipe and the level standard, or an oracle.",
        )
        return Verdict("forgotten", ASKS, (), missing)
    elif len(removal.alike) < 2:
        missing = (
            "There is no oracle, and fewer than two held-out rows have a forgotten label to stand "
            "for it; give a recipe, or such rows.",
        )
        return Verdict("forgotten", ASKS, (), missing)
    else:
        rows = _alike(inquiry, inquiry.answers)
        reference, against = inquiry.score(rows), "held-out rows with forgotten labels"
        interval = _interval(inquiry, rows)
        width = 0.0 if interval is None else (interval.high - interval.low) / 2
        allowed = max(inquiry.policy.forgotten.tolerance, width)
        note += f"the same model's score on {len(removal.alike)} {against} stands for it."
    value = inquiry.score(inquiry.answers.forget)
    original = inquiry.score(inquiry.references.original.forget)
    before = reference
    if not removal.whole_kind:
        before = inquiry.score(_alike(inquiry, inquiry.references.original))
    away = value - reference
    beyond = away > allowed or (not removal.whole_kind and -away > allowed)
    result = Result.FAIL if beyond else Result.PASS
    said = f"{away:+.3f}, and {allowed:.3f} is allowed"
    if not beyond and abs(original - before) <= allowed:
        result = Result.UNKNOWN
        said = f"{away:+.3f}, but the model before is as near to its own reference"
    evidence = Evidence(
        f"{metric.name} on forget rows",
        result,
        f"The {metric.name} on forget rows is {value:.3f} ({against}: {reference:.3f}): {said}.",
        value,
        reference,
        against,
        allowed,
        _interval(inquiry, inquiry.answers.forget),
        original,
    )
    return Verdict("forgotten", ASKS, (evidence,), notes=(note,))


def _alike(inquiry: Inquiry, answers: Answers) -> Signals:
    places = inquiry.removal.alike.tolist()
    return answers.held_out.of_samples([answers.held_out.samples[place] for place in places])


def _classes(inquiry: Inquiry) -> int:
    labels = inquiry.removal.labels
    seen = max(int(rows.max()) for rows in labels.values() if len(rows)) + 1
    return max(2, seen, int(getattr(inquiry.removal.family, "classes", 0)))


def _interval(inquiry: Inquiry, rows: Signals) -> Interval | None:
    """95 % interval of a score: over rows of one subject they are taken as independent."""
    values = rows.query(inquiry.removal.metric.query)[0]
    if inquiry.removal.counts:
        return binomial_interval(int(values.sum()), len(values))
    found = bootstrap_interval(inquiry.sign * values / inquiry.unit, rows.samples)
    return Interval(found.low, found.high, found.level)
