"""The demo's requests through the ledger: submitted, worked off, one revoked, everything verified.

The requests of the matched configuration made with retain data are asked for one after another, as
a deployment would get them; what the ledger publishes must be, bit by bit, what the demo folded in
memory.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from expunge.aggregation.fold import fold
from expunge.aggregation.sum import Sum
from expunge.benchmarks.continual_emoji import Configuration, Vectors, vectors
from expunge.benchmarks.registered import DIFFERENCE
from expunge.benchmarks.setting import Setting
from expunge.changes.weights import digest_of, parameters_of
from expunge.ledger.asking import revoke
from expunge.ledger.looking import history
from expunge.ledger.material import Source
from expunge.ledger.opening import Ledger
from expunge.ledger.policy import Policy, Strength
from expunge.ledger.registering import register
from expunge.ledger.scope import Scope
from expunge.ledger.serving import built, version_row
from expunge.ledger.steps import read_history
from expunge.ledger.submitting import Submission, submit
from expunge.ledger.verifying import Verified, verify
from expunge.ledger.worker import Worker
from expunge.requests import Request, Rows
from expunge.storage import write_bytes

MODEL = "emoji"
POLICY = Policy(duplicates="ignore", repairs=(Strength(factors=(1.25, 1.5, 2.0)),))
"""Drawings of one concept by several vendors are no copies. Where the gate finds that training
rows are still answered, more of the change is applied: strengths were set on held-out ones."""


@dataclass(frozen=True)
class Ledgered:
    """What the ledger made of the demo's requests.

    Args:
        folder: of the ledger.
        certificate: of the last version.
        past: every version, and every request after each.
        repaired: how many requests the gate let pass at a larger strength only.
        equal: the weights after all requests are those folded in memory, at the served strengths.
        revoked_equal: those after the revocation are those of a model that never had the request.
        difference: the largest between these two, over all parameters.
        verified: chain, rows, objects, certificates, and the current version rebuilt.
    """

    folder: Path
    certificate: Path
    past: dict[str, Any]
    repaired: int
    equal: bool
    revoked_equal: bool
    difference: float
    verified: Verified


def through_the_ledger(
    setting: Setting, made: Vectors, found: Configuration, revoked: int, folder: Path
) -> Ledgered:
    """Submit every request, work, revoke one, work, verify.

    Args:
        setting: the base, its rows and the requests.
        made: the change of each request, as it was made in memory.
        found: whose strengths the requests are served with.
        revoked: position of the request that is taken back.
        folder: where the ledger is made anew; an earlier one of the demo is removed.
    """
    if folder.exists():
        shutil.rmtree(folder)
    ledger = Ledger.init(f"sqlite:///{folder / 'ledger.db'}")
    source = Source.of_function("expunge.benchmarks.registered:emoji", {"seed": setting.run.seed})
    register(ledger, MODEL, source, POLICY)
    strengths = [strength * found.factor for strength in found.strengths]
    taken = [
        submit(ledger, MODEL, Submission(_scope(request), strength=strength))
        for request, strength in zip(setting.requests, strengths, strict=True)
    ]
    Worker(ledger).until_idle()
    served = {
        answer.request: answer.strength
        for answer in read_history(ledger, version_row(ledger, MODEL)[1]["history"]).answers()
    }
    repaired = sum(
        served.get(receipt.request) != strength
        for receipt, strength in zip(taken, strengths, strict=True)
    )
    strengths = [served.get(receipt.request, 0.0) for receipt in taken]
    last = fold(Sum(), list(zip(made.deltas, strengths, strict=True))).applied_to(setting.base)
    equal = version_row(ledger, MODEL)[1]["weights_digest"] == digest_of(last)
    revoke(ledger, taken[revoked].request, "operator", "withdrawn by the demo")
    Worker(ledger).until_idle()
    _, version = version_row(ledger, MODEL)
    alone = _without(setting, strengths, revoked)
    left, right = (
        {name: p.detach() for name, p in parameters_of(model).items()}
        for model in (built(ledger, MODEL).model, alone)
    )
    certificate = folder / f"{MODEL}@{version['number']}.json"
    write_bytes(certificate, ledger.read(version["certificate"]))
    return Ledgered(
        folder,
        certificate,
        history(ledger, MODEL),
        repaired,
        equal,
        version["weights_digest"] == digest_of(alone),
        max(float((left[name] - right[name]).abs().max()) for name in left),
        verify(ledger),
    )


def _scope(request: Request) -> Scope:
    assert isinstance(request.target, Rows)
    return Scope(request.name, request.target.column, request.target.values)


def _without(setting: Setting, strengths: Sequence[float], revoked: int) -> nn.Module:
    """The model that never had the request: the others, made and folded without it."""
    others = [r for i, r in enumerate(setting.requests) if i != revoked]
    kept = [s for i, s in enumerate(strengths) if i != revoked]
    made = vectors(replace(setting, requests=tuple(others)), DIFFERENCE, Sum())
    pairs = list(zip(made.deltas, kept, strict=True))
    return fold(Sum(), pairs).applied_to(setting.base)
