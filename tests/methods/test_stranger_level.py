"""Forgetting to a stranger's level: each answer ends where a stranger's was, from either side."""

import dataclasses

import pytest
import torch

import language_facts as facts
from expunge.data.samples import Samples
from expunge.descent.counterfactual import CounterfactualLevel
from expunge.descent.player import Setting
from expunge.errors import ExpungeError
from expunge.methods.protocol import unlearn
from expunge.methods.stranger_level import StrangerLevel
from expunge.methods.strangers import (
    about_others,
    halved,
    put_together,
    question_of,
    strangers,
    unlike,
)
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import ask
from expunge.signals.causal_tracing import facts_of

QUICK = StrangerLevel(epochs=60, learning_rate=3e-3, forget_weight=0.3)


def losses(given: Problem, model: torch.nn.Module, role: Role) -> torch.Tensor:
    return ask(given.family, model, given.data[role], Run()).query("total loss")[0].double()


def levelled(given: Problem) -> Problem:
    """With the retained rows about two other people in the place of strangers."""
    about = [row for row, s in enumerate(given.data[Role.RETAIN].subjects) if s in ("cato", "dora")]
    others = given.data[Role.RETAIN].select(torch.tensor(about))
    return dataclasses.replace(given, data={**given.data, Role.CONTRAST: others})


def test_the_term_is_the_distance_from_the_other_rows_losses() -> None:
    given = levelled(facts.problem())
    term, setting = CounterfactualLevel(), facts.setting_of(given)
    forget = given.data[Role.FORGET]
    levels = term.start(setting, forget)
    assert torch.allclose(levels.double(), losses(given, given.model, Role.CONTRAST), atol=1e-5)
    away = losses(given, given.model, Role.FORGET) - levels.double()
    by_hand = torch.where(away.abs() < 1, away**2 / 2, away.abs() - 0.5).mean()
    assert _value(term, setting, forget, levels) == pytest.approx(float(by_hand), abs=1e-5)
    own = levels + away.float()
    assert _value(term, setting, forget, own) == pytest.approx(0, abs=1e-6)
    for side in (-3, 3):  # pushed past its level, an answer is brought back
        assert _value(term, setting, forget, own + side) == pytest.approx(2.5, abs=1e-4)


def _value(
    term: CounterfactualLevel, setting: Setting, samples: Samples, levels: torch.Tensor
) -> float:
    rows = torch.arange(len(samples))
    batch = {**samples.batch(rows), "row": rows}
    return float(term.value(setting, batch, levels).detach())


def test_answers_end_at_strangers_levels_and_the_rest_stays() -> None:
    given = facts.problem()
    run = Run()
    after = unlearn(QUICK, given, run).applied_to(given.model)
    forgotten, retained = facts.shares(given, after)
    assert facts.shares(given, given.model) == (1.0, 1.0)
    assert forgotten <= 0.5  # there are four to six towns, callings and dishes to guess
    assert retained >= 0.95
    assert run.meter.touched["strangers"] == len(given.data[Role.FORGET])
    asked = facts_of(given.data[Role.FORGET]), facts_of(given.data[Role.RETAIN])
    forget, known = ([*dict.fromkeys(question_of(fact)[1] for fact in all_)] for all_ in asked)
    instead = strangers(forget, known, Run())
    labels = given.data[Role.FORGET].batch(torch.arange(len(asked[0])))["labels"]
    others = about_others(given.data[Role.FORGET].ids, asked[0], labels, instead)
    with_others = dataclasses.replace(given, data={**given.data, Role.CONTRAST: others})
    levels = losses(with_others, given.model, Role.CONTRAST)
    before, end = (losses(given, model, Role.FORGET) - levels for model in (given.model, after))
    assert float(end.abs().mean()) < 0.25 * float(before.abs().mean())


def test_the_same_seed_leads_to_the_same_weights() -> None:
    given, short = facts.problem(), dataclasses.replace(QUICK, epochs=3)
    one, other = (unlearn(short, given, Run(3)).applied_to(given.model) for _ in range(2))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_too_few_subjects_are_refused() -> None:
    given = facts.problem()
    retain = given.data[Role.RETAIN]
    one = retain.select(torch.tensor([i for i, s in enumerate(retain.subjects) if s == "lia"]))
    lonely = dataclasses.replace(given, data={**given.data, Role.RETAIN: one})
    with pytest.raises(ExpungeError, match="No stranger could be put together of the 1 subjects"):
        unlearn(QUICK, lonely, Run())


def test_strangers_are_made_of_known_subjects_and_are_nobody_known() -> None:
    draws = torch.Generator().manual_seed(0)
    known = [(1, 2), (3, 4), (5, 6)]
    made = put_together(known, draws)
    assert {one[0] for one in made} <= {1, 3, 5}
    assert {one[1] for one in made} <= {2, 4, 6}
    assert (1, 2) in made
    fitting = unlike(made, (5, 9), known)
    assert set(fitting) == {(1, 4), (1, 6), (3, 2), (3, 6)}
    assert put_together([(1, 2)], draws) == []
    assert set(halved([(1,), (2,)], draws)) == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert (1, 2, 8) in halved([(1, 2, 3), (7, 8)], draws)
