"""Models that unlearned as the deployed one did: what U-LiRA and KLoM ask."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from expunge.attacks.shadows import Shadows
from expunge.attacks.u_lira import Unlearned
from expunge.audit.inquiry import Inquiry
from expunge.audit.removal import Answers, Removal, answers_of, asked_often
from expunge.data.samples import Joined, Samples
from expunge.errors import ExpungeError
from expunge.learning.population import Member
from expunge.signals.klom import Binning, Closeness, klom_by_set
from expunge.signals.matrix import Signals

BEFORE_SEED, FLOOR_SEED, OWN_SEED = 30_000, 40_000, 50_000
"""First seeds of the models before unlearning, of the further oracles of KLoM's floor, and of the
method's own draws."""

RETAINED = 500
"""Retained rows at most that KLoM is measured on: its 95th percentile leaves 25 of them above."""


def unlearned_shadows(inquiry: Inquiry) -> Unlearned:
    """The shadow models after each forgot some of the rows in question that it was trained on.

    In question are the forgotten rows and the held-out rows like them; of the models that were
    trained on a row, half forgot it.

    Raises:
        ExpungeError: the method is not known, or it failed.
    """
    references, removal = inquiry.references, inquiry.removal
    pool, first = references.pool, len(removal.forget) + len(removal.retain)
    asked = torch.cat([torch.arange(len(removal.forget)), first + removal.alike])
    draws = removal.run.generator("audit: U-LiRA")
    member = references.membership[:, asked]
    forgotten = _half_of(member, draws)
    margins, names = [], []
    for place, model in enumerate(references.shadow_models):
        rows = references.membership[place].nonzero().reshape(-1)
        positions = torch.isin(rows, asked[forgotten[place]]).nonzero().reshape(-1)
        changed = model
        if len(positions):
            changed = _unlearned(inquiry, model, pool.select(rows), positions, place)
        target = references.target(_asked(inquiry, changed, f"unlearned shadow {place}"))
        margins.append(target.margins)
        names.append(target.model)
    return Unlearned(Shadows(torch.stack(margins), member, target.samples, tuple(names)), forgotten)


def _half_of(member: Tensor, draws: torch.Generator) -> Tensor:
    """Half of the models that are members of each row, bool (models, rows)."""
    order = torch.rand(member.shape, generator=draws).masked_fill(~member, torch.inf)
    return member & (order.argsort(0).argsort(0) < member.sum(0) // 2)


def closeness(inquiry: Inquiry) -> dict[str, Closeness]:
    """KLoM of as many unlearned models as there are oracles, on forgotten, retained and held-out
    rows; of the retained ones on some.

    Raises:
        ExpungeError: the method is not known, or it failed.
    """
    references, removal = inquiry.references, inquiry.removal
    count = len(references.models)
    everything = Joined.of(removal.forget, removal.retain)
    forget = torch.arange(len(removal.forget))
    whole = tuple(range(len(everything)))
    before = references.trained(
        everything, [Member(BEFORE_SEED + place, whole) for place in range(count)]
    )
    kept = tuple(range(len(removal.retain)))
    others = references.trained(
        removal.retain, [Member(FLOOR_SEED + place, kept) for place in range(count)]
    )
    changed = [
        _unlearned(inquiry, model, everything, forget, place) for place, model in enumerate(before)
    ]
    retained = _some_retained(removal)
    sets = {"forget": removal.forget, "retain": retained, "held-out": removal.unseen_rows}
    asked = Joined.of(*sets.values())

    def answered(models: Sequence[nn.Module], name: str) -> Signals:
        asks = inquiry.policy.deleted.asks
        return Signals.stacked(
            asked_often(removal, model, asked, asks, f"{name} {place}")
            for place, model in enumerate(models)
        )

    least = min(count, Binning().least)
    return klom_by_set(
        answered(changed, "unlearned"),
        answered(references.models, "oracle"),
        answered(others, "further oracle"),
        {kind: rows.ids for kind, rows in sets.items()},
        answered(before, "before"),
        Binning(least=max(2, least)),
    )


def _some_retained(removal: Removal) -> Samples:
    """At most :data:`RETAINED` retained rows, drawn at random, in their order."""
    draws = removal.run.generator("audit: KLoM")
    order = torch.randperm(len(removal.retain), generator=draws)
    return removal.retain.select(order[:RETAINED].sort().values)


def _asked(inquiry: Inquiry, model: nn.Module, name: str) -> Answers:
    return answers_of(inquiry.removal, model, inquiry.policy.deleted.asks, name)


def _unlearned(
    inquiry: Inquiry, model: nn.Module, rows: Samples, forget: Tensor, place: int
) -> nn.Module:
    """The model after the method; each place has draws of its own."""
    unlearner = inquiry.removal.unlearner
    if unlearner is None:
        raise ExpungeError(
            "Models that unlearned were asked for and the method is not known; give the audit an "
            "unlearner, or take a level below adversarial."
        )
    run = inquiry.removal.run
    return unlearner(model, rows, forget, replace(run, seed=run.seed + OWN_SEED + place))
