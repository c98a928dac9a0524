"""Private? Membership attacks tell forgotten rows from rows that nobody trained on no better than
they do on the oracles, in either direction.

An AUC below the oracles' is a trace as well: rows that were pushed away are found by that.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from expunge.attacks.gaussian import fit_each, fit_shared
from expunge.attacks.lira import lira_fixed_variance
from expunge.attacks.loss import loss_attack
from expunge.attacks.rmia import rmia_offline
from expunge.attacks.shadows import Shadows, Target
from expunge.attacks.u_lira import u_lira_forgotten
from expunge.audit.inquiry import Inquiry, Level
from expunge.audit.unlearned import closeness, unlearned_shadows
from expunge.audit.verdict import Evidence, Result, Verdict
from expunge.errors import ExpungeError
from expunge.signals.klom import Closeness
from expunge.signals.roc import Roc, auc_half_width, members_needed

ASKS = "Can an attack tell that the forgotten rows were once trained on?"

CURVE = 201
"""Points of a ROC that a report draws, at most."""

Attack = Callable[[Target], Tensor]

SKIPPED = (
    "RMIA, LiRA and U-LiRA read the margins of right answers; this model has no answers that are "
    "right or wrong."
)


def private(inquiry: Inquiry) -> Verdict:
    """The attacks of the level, each beside the same attack on the oracles."""
    removal, references = inquiry.removal, inquiry.references
    if short := _too_few(inquiry):
        return Verdict("private", ASKS, (), (short,))
    oracles = references.answers_as_targets()
    if not oracles and not removal.unseen_alike:
        missing = (
            "Held-out questions about other things are known or unknown whatever was forgotten, so "
            "an attack says something only beside an oracle; give a recipe and the level standard, "
            "or an oracle.",
        )
        return Verdict("private", ASKS, (), missing)
    evidence = [
        _attacked(inquiry, "loss attack", loss_attack, oracles),
        _attacked(inquiry, "two-sided loss attack", _two_sided(inquiry), oracles),
    ]
    notes: list[str] = []
    if removal.repeated:
        notes.append(
            f"{len(removal.repeated)} held-out rows equal a training row in every field and stand "
            "for rows that nobody trained on; take them out of the test rows."
        )
    if not references.models:
        notes.append("There is no oracle; an AUC of 0.5, which knows nothing, stands for it.")
    if not inquiry.trains:
        notes.append("A higher level adds RMIA and LiRA, which are far stronger.")
    elif not removal.counts:
        notes.append(SKIPPED)
    else:
        stronger, said = _with_shadows(inquiry)
        evidence += stronger
        notes += said
    return Verdict("private", ASKS, tuple(evidence), notes=tuple(notes))


def _too_few(inquiry: Inquiry) -> str | None:
    """What is missing before any attack can measure a distance of `apart`."""
    members, others = len(inquiry.removal.forget), len(inquiry.removal.alike)
    limits = inquiry.policy.private
    if others < 2:
        return (
            f"There are {others} held-out rows with a forgotten label to tell the forgotten rows "
            "from; give at least 2, better as many as are forgotten."
        )
    if auc_half_width(members, others, power=limits.power) <= limits.apart:
        return None
    ratio = others / members
    needed = members_needed(limits.apart, ratio, power=limits.power)
    return (
        f"An AUC that is {limits.apart:g} away can be told with {needed} forgotten and "
        f"{math.ceil(needed * ratio)} held-out rows like them, and there are {members} and "
        f"{others}: {max(0, needed - members)} and "
        f"{max(0, math.ceil(needed * ratio) - others)} are missing. Audit several requests "
        "together, give more held-out rows, or raise `private.apart` in the policy."
    )


def _two_sided(inquiry: Inquiry) -> Attack:
    """How far a margin is from the middle of the held-out rows', above or below."""
    first = len(inquiry.removal.forget)

    def score(target: Target) -> Tensor:
        margins = target.margins[:, 0]
        return (margins - margins[first:].median()).abs()

    return score


def _attacked(
    inquiry: Inquiry,
    name: str,
    attack: Attack,
    oracles: Sequence[Target],
    own: Sequence[Attack] | None = None,
) -> Evidence:
    """An attack's AUC beside its AUC on the oracles.

    Args:
        inquiry: what is asked.
        name: of the attack.
        attack: the scores of a target, larger = likelier member.
        oracles: the oracles as targets.
        own: the attack on each oracle, where it may not use that oracle itself.
    """
    found = _roc(inquiry, attack(inquiry.references.target(inquiry.answers)))
    attacks = own or [attack] * len(oracles)
    values = [
        _roc(inquiry, each(target)).auc for each, target in zip(attacks, oracles, strict=True)
    ]
    before = _roc(inquiry, attack(inquiry.references.target(inquiry.references.original)))
    apart, against, reference = inquiry.policy.private.apart, "chance (no oracle)", 0.5
    if values:
        beside = inquiry.beside(values)
        chance = auc_half_width(len(found.members), len(found.others), beside.confidence)
        widest = chance * math.sqrt(1 + 1 / len(values))
        apart, against, reference = beside.allowed(apart, widest), beside.words(), beside.mean
    away = found.auc - reference
    interval = found.auc_interval()
    said = f"{abs(away):.3f} {'above' if away > 0 else 'below'}, and {apart:.3f} is allowed"
    return Evidence(
        f"AUC of the {name}",
        Result.FAIL if abs(away) > apart else Result.PASS,
        f"The {name} tells forgotten from unseen rows with an AUC of {found.auc:.3f} "
        f"[{interval.low:.3f}, {interval.high:.3f}] ({against}: {reference:.3f}): {said}.",
        found.auc,
        reference,
        against,
        apart,
        interval,
        before.auc,
        {"oracles": values, **_drawn(found), "original": _drawn(before)},
    )


def _roc(inquiry: Inquiry, scores: Tensor) -> Roc:
    member = torch.zeros(len(scores), dtype=torch.bool)
    member[: len(inquiry.removal.forget)] = True
    return Roc.of(scores, member)


def _drawn(roc: Roc) -> dict[str, object]:
    """The curve and its values at small rates of false positives, for a report."""
    curve = roc.curve()
    at = torch.linspace(0, len(curve.fpr) - 1, min(CURVE, len(curve.fpr))).round().long()
    tpr = {}
    for rate in (0.01, 0.001):
        interval = roc.tpr_interval(rate)
        ends = None if interval is None else [interval.low, interval.high]
        tpr[str(rate)] = {"value": roc.tpr_at(rate), "interval": ends}
    return {
        "roc": {"fpr": curve.fpr[at], "tpr": curve.tpr[at]},
        "tpr at fpr": tpr,
        "members": len(roc.members),
        "non-members": len(roc.others),
    }


def _with_shadows(inquiry: Inquiry) -> tuple[list[Evidence], list[str]]:
    """RMIA on the oracles, LiRA on shadow models; at the adversarial level the populations."""
    references, notes = inquiry.references, []
    evidence: list[Evidence] = []
    if len(references.models) > 1:
        evidence.append(_rmia(inquiry))
    else:
        notes.append("RMIA needs two oracles, so it was left out.")
    if references.removal.recipe is None:
        notes.append("LiRA needs a recipe to train shadow models by, so it was left out.")
        return evidence, notes
    shadows = references.asked_of_shadows()

    def lira(target: Target) -> Tensor:
        return lira_fixed_variance(target, shadows)

    evidence.append(
        _attacked(inquiry, "LiRA (fixed variance)", lira, references.answers_as_targets())
    )
    if inquiry.level is Level.ADVERSARIAL:
        evidence.append(_outside(inquiry))
        if inquiry.removal.unlearner is None:
            notes.append(
                "KLoM and U-LiRA ask many models that unlearned in the same way; the method that "
                "made this one is not known here, so they were left out."
            )
        else:
            try:
                evidence += [_u_lira(inquiry), *_klom(inquiry)]
            except ExpungeError as error:  # a method may need what shadow models have not
                notes.append(f"U-LiRA and KLoM could not be asked: {error}")
    return evidence, notes


def _rmia(inquiry: Inquiry) -> Evidence:
    """RMIA with the oracles as its OUT models; each oracle is attacked by the others."""
    references = inquiry.references
    count = len(references.models)
    population = torch.ones(len(inquiry.removal.forget) + len(inquiry.removal.alike)).bool()
    population[: len(inquiry.removal.forget)] = False

    def by(places: Sequence[int]) -> Attack:
        shadows = references.oracles_as_shadows(places)
        return lambda target: rmia_offline(target, shadows, population)

    own = [by([other for other in range(count) if other != place]) for place in range(count)]
    return _attacked(
        inquiry, "RMIA (offline)", by(range(count - 1)), references.answers_as_targets(), own
    )


def _outside(inquiry: Inquiry) -> Evidence:
    """Share of forgotten rows whose margin no oracle would give, row by row."""
    references, count = inquiry.references, len(inquiry.references.models)
    rows = references.original.forget.samples

    def share(target: Target, shadows: Shadows) -> float:
        fit = fit_each(shadows.margins, ~shadows.member)
        n = len(shadows.models)
        wide = 1.96 * math.sqrt(1 + 1 / n) * (1 + 1 / n)  # about Student's quantile for n >= 19
        return float((fit.standardised(target.margins).abs() > wide).double().mean())

    def outside(target: Target, places: Sequence[int]) -> float:
        return share(
            target.of_samples(rows), references.oracles_as_shadows(places).of_samples(rows)
        )

    targets = references.answers_as_targets()
    own = [
        outside(targets[place], [other for other in range(count) if other != place])
        for place in range(count)
    ]
    beside = inquiry.beside(own)
    value = outside(references.target(inquiry.answers), range(count))
    before = outside(references.target(references.original), range(count))
    allowed = beside.allowed(inquiry.policy.private.outside)
    return Evidence.no_more(
        "forgotten rows outside the oracles' range",
        f"{value:.1%} of the forgotten rows have a margin outside the 95 % range of {count} "
        f"oracles (of one more oracle's rows: {beside.mean:.1%}); {allowed:.1%} more are allowed.",
        value,
        beside.mean,
        beside.words(),
        allowed,
        before,
        {"oracles": own},
    )


def _u_lira(inquiry: Inquiry) -> Evidence:
    """U-LiRA: forgotten by the method against never seen."""
    unlearned = unlearned_shadows(inquiry)

    def attack(target: Target) -> Tensor:
        return u_lira_forgotten(target, unlearned, fit_shared)

    return _attacked(inquiry, "U-LiRA", attack, inquiry.references.answers_as_targets())


def _klom(inquiry: Inquiry) -> list[Evidence]:
    """KLoM of models that unlearned against oracles, beside its floor."""
    found = closeness(inquiry)
    return [_close(inquiry, kind, one) for kind, one in found.items()]


def _close(inquiry: Inquiry, kind: str, found: Closeness) -> Evidence:
    reading = found.p95
    allowed = inquiry.policy.private.klom
    return Evidence.no_more(
        f"KLoM, 95th percentile, {kind} rows",
        f"The 95th percentile of KLoM on {len(found.values)} {kind} rows is {reading.value:.2f} "
        f"nats (oracles against further oracles: {reading.oracle:.2f}); {allowed:g} more are "
        "allowed.",
        reading.value,
        reading.oracle,
        "further oracles (the floor)",
        allowed,
        reading.original,
        {
            "mean": found.mean.value,
            "mean of the floor": found.mean.oracle,
            "values": found.values,
            "floor": found.floor,
            "original": found.original,
        },
    )
