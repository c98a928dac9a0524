"""The main job: five groups of concepts leave a vision-language model, one request after another.

What `expunge demo` computes, from the shipped dual encoder. Strengths and hyper-parameters were
chosen on the validation vendor (Mozilla); every reported figure is of the test vendor (Twitter).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.aggregation import Cata, Sum
from expunge.attacks.relearning import relearning_curve
from expunge.audit import oracle as oracles
from expunge.audit.course import matrix_of
from expunge.audit.measure import Measured
from expunge.audit.persistence import PersistenceMatrix
from expunge.benchmarks import shipped
from expunge.benchmarks.continual_emoji import (
    Configuration,
    Vectors,
    configuration,
    matched,
    measured,
    own_strengths,
    sequential,
    vectors,
)
from expunge.benchmarks.demo_ledger import MODEL, Ledgered, through_the_ledger
from expunge.benchmarks.registered import DIFFERENCE
from expunge.benchmarks.setting import Setting
from expunge.changes.history import History
from expunge.changes.strength import Search
from expunge.data import emoji_grid
from expunge.data.samples import Samples
from expunge.deployment import Deployment
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.descent.retain_terms import Loss
from expunge.ledger.opening import Ledger
from expunge.ledger.serving import built
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST, Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

GROUPS = ("sea animals", "sweets", "hands", "vehicles", "buildings")
"""The requests, in their order; eight concepts each, drawn by every vendor."""

NEGATION = Negation(4, 3e-5, 0.1, 32, 0.3)
"""The paper's epochs, decay and trim; rate and batch fit requests of 40 pictures."""

ONE_AFTER_ANOTHER = GradientDifference(8, 3e-4, 0.01, 32, 128, forget_weight=0.1, sequential=True)
"""Sequential gradient difference with retain data."""

POINTS = 0.03
"""Retained accuracy that the matched configurations give up, on the validation vendor."""

SEQUENTIAL, BEST = "graddiff, sequential", "graddiff vectors, sum"
OWN, MATCHING = Search(upper=16.0, points=32, halvings=5), Search(upper=8.0, points=16, halvings=5)
"""Where a request's own strength and common factors are looked for."""

RELEARNED = ("cata", "sum", SEQUENTIAL, BEST)
RELEARNING_STEPS, RELEARNING_RATE, RELEARNING_STYLE = 10, 1e-4, "noto"
REVOKED = 1
"""Position of the request that is withdrawn."""


@dataclass(frozen=True)
class Result:
    """One configuration, its test panel after each step, and the matrix that they make."""

    found: Configuration
    steps: tuple[Measured, ...]
    matrix: PersistenceMatrix


@dataclass(frozen=True)
class Revoked:
    """What withdrawing a request gave back.

    ``forgotten`` and ``accuracy`` are those of the request's test rows before and after it was
    withdrawn.
    """

    request: str
    forgotten: float
    accuracy: float


@dataclass(frozen=True)
class Demo:
    """Everything that was measured.

    ``fixed`` are the configurations as they come, ``matched`` the same with a common factor that
    brings each to ``floor`` retained accuracy on the validation vendor. ``relearning`` holds the
    accuracy on all five requests after 0, 1, 2 ... steps, by starting point.
    """

    setting: Setting
    before: Measured
    oracle: Measured
    fixed: tuple[Result, ...]
    matched: tuple[Result, ...]
    floor: float
    relearning: dict[str, list[float]]
    ledger: Ledgered
    revoked: Revoked

    def result(self, name: str) -> Result:
        """A matched configuration by name."""
        return next(r for r in self.matched if r.found.name == name)


def requests() -> tuple[Request, ...]:
    """The five requests."""
    return tuple(Request(name, Rows("subject", emoji_grid.members(name))) for name in GROUPS)


def retrained(run: Run) -> nn.Module:
    """The oracle, computed: the recipe of the base, seed and all, without the five groups."""
    work = shipped.emoji_dual_encoder()
    deployment = Deployment(
        shipped.emoji_base(),
        work.recipe.family,
        work.data[Role.TRAIN],
        work.table,
        Sum(),
        recipe=work.recipe,
    )
    return oracles.retrained(deployment, requests(), run)


def run_demo(run: Run, folder: Path, oracle: nn.Module | None = None) -> Demo:
    """The whole demo.

    Args:
        run: seed and device.
        folder: of the ledger.
        oracle: the shipped one by default.
    """
    base = shipped.emoji_base()
    if oracle is None:
        oracle = shipped.emoji_oracle_delta().applied_to(base)
    work = shipped.emoji_dual_encoder(copies=1)
    setting = Setting.of(base, oracle, work, requests(), run)
    with run.progress("five requests", 7) as bar:
        negated = vectors(setting, NEGATION, Sum())
        bar.advance()
        with_retain = vectors(setting, DIFFERENCE, Sum())
        bar.advance()
        found = _configurations(setting, negated, with_retain)
        bar.advance()
        before, reference = (setting.scored(m, setting.test) for m in (base, oracle))
        floor = setting.scored(base, setting.validation).retained - POINTS

        def result(each: Configuration) -> Result:
            steps = measured(setting, each)
            return Result(each, tuple(steps), matrix_of(before, steps, reference))

        fixed = tuple(result(each) for each in found)
        bar.advance()
        level = tuple(result(matched(setting, each, floor, MATCHING)) for each in found)
        bar.advance()
        relearning = _relearning(setting, {r.found.name: r.found for r in level})
        bar.advance()
        best = next(r.found for r in level if r.found.name == BEST)
        ledger = through_the_ledger(setting, with_retain, best, REVOKED, folder)
        bar.advance()
    revoked = _revoked(setting, level, ledger)
    return Demo(setting, before, reference, fixed, level, floor, relearning, ledger, revoked)


def _configurations(
    setting: Setting, negated: Vectors, with_retain: Vectors
) -> list[Configuration]:
    cata, plain_sum = Cata(), Sum()
    own, each = own_strengths(setting, negated, OWN)
    own_retain, each_retain = own_strengths(setting, with_retain, OWN)
    one, first = (own[0],) * len(own), "request 1's own, for all"
    return [
        configuration(setting, "cata", cata, negated, one, first),
        configuration(setting, "sum", plain_sum, negated, one, first),
        configuration(setting, "cata+strength", cata, negated, own, each),
        configuration(setting, "sum+strength", plain_sum, negated, own, each),
        sequential(setting, ONE_AFTER_ANOTHER, plain_sum, SEQUENTIAL),
        configuration(setting, BEST, plain_sum, with_retain, own_retain, each_retain, kind="best"),
    ]


def _relearning(setting: Setting, found: dict[str, Configuration]) -> dict[str, list[float]]:
    """Curves from the oracle and from several configurations, one drawing a forgotten concept."""
    train, table = setting.work.data[Role.TRAIN], setting.work.table
    style = list(table["style"])
    asked = torch.cat([request.target.rows(table) for request in setting.requests])
    one_style = [i for i in asked.tolist() if style[i] == RELEARNING_STYLE]
    shown = train.select(torch.tensor(one_style))
    held_out = setting.test.samples.select(torch.cat(setting.test.groups))
    last = len(setting.requests) - 1
    starts = {"oracle": setting.oracle}
    starts |= {name: found[name].model(setting.base, last) for name in RELEARNED}
    return {name: _curve(setting, start, shown, held_out) for name, start in starts.items()}


def _curve(setting: Setting, start: nn.Module, shown: Samples, held_out: Samples) -> list[float]:
    """Accuracy after 0, 1, 2 ... steps."""
    family = setting.work.recipe.family
    problem = Problem(start, family, NO_REQUEST, {Role.FORGET: shown}, History())
    descent = Descent(
        Player(forget=Loss(), optimiser=AdamW(RELEARNING_RATE)),
        length=Steps(RELEARNING_STEPS),
        batch_size=len(shown),
    )
    return relearning_curve(
        descent,
        problem,
        lambda model: float(accuracy(ask(family, model, held_out, setting.run))[0]),
        setting.run,
    )


def _revoked(setting: Setting, level: Sequence[Result], ledger: Ledgered) -> Revoked:
    """What taking a request back gave back, on the test vendor."""
    best = next(r for r in level if r.found.name == BEST)
    after = built(Ledger.open(f"sqlite:///{ledger.folder / 'ledger.db'}"), MODEL).model
    return Revoked(
        setting.requests[REVOKED].name,
        float(best.steps[-1].requests[REVOKED]),
        float(setting.scored(after, setting.test).requests[REVOKED]),
    )


def correct_answers(scores: Measured, groups: Sequence[Tensor]) -> tuple[Tensor, list[str]]:
    """Whether each row of the groups is answered rightly (n,), and the concept of each."""
    rows = torch.cat([*groups])
    subjects = [scores.signals.subjects[i] for i in rows.tolist()]
    return scores.signals.query("correct")[0][rows], subjects
