"""Pseudo-rehearsal reads the forget rows alone, and keeps what it was never shown."""

from dataclasses import replace

import pytest
import torch

import language_facts as facts
from expunge.descent.counterfactual import CounterfactualTarget
from expunge.errors import ExpungeError
from expunge.methods.npo import NPO
from expunge.methods.protocol import unlearn
from expunge.methods.pseudo_rehearsal import PseudoRehearsal
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import ask
from expunge.signals.causal_tracing import facts_of
from expunge.signals.self_extraction import Question, Search, extracted

QUICK = PseudoRehearsal(120, 5e-3, neighbours=46, rounds=2, questions=3, sure=0.0)


def questions() -> list[Question]:
    found = []
    for fact in facts_of(facts.facts()):
        start, stop = fact.subject
        tokens = tuple(fact.prompt.tolist())
        found.append(Question(tokens[:start], tokens[stop:]))
    return list(dict.fromkeys(found))


def test_the_model_gives_away_whom_it_knows() -> None:
    given = facts.problem()
    forgotten = [tuple(facts.tokens(name)) for name in facts.FORGOTTEN]
    search = Search(neighbours=46, rounds=2, sure=0.0, questions=3)
    found = extracted(given.model, questions(), forgotten, Run(), search)
    others = {tuple(facts.tokens(name)) for name in facts.NAMES} - set(forgotten)
    known = set(found.known)
    assert not known & {*forgotten, *found.unknown}
    assert len(known & others) >= 5  # of 10
    assert len(known) <= 12  # of 46 words, so that most of what is found is no chance
    assert found.asked <= 3 * 48


def test_it_forgets_and_keeps_with_nothing_but_the_forget_rows() -> None:
    given = facts.problem()
    forget_only = replace(given, data={Role.FORGET: given.data[Role.FORGET]})
    run = Run()
    after = unlearn(QUICK, forget_only, run).applied_to(given.model)
    forgotten, retained = facts.shares(given, after)
    assert forgotten < 0.2  # one of the six: a stranger has the same home
    assert retained >= 0.8
    assert set(run.meter.touched) == {"forget", "prior", "made up"}
    # the same rows, pushed away without rehearsal, take the others with them
    alone = unlearn(NPO(40, 3e-3), forget_only, Run()).applied_to(given.model)
    assert facts.shares(given, alone)[1] < retained - 0.3


def test_forgotten_answers_are_not_pushed_below_a_stranger() -> None:
    given = facts.problem()
    forget_only = replace(given, data={Role.FORGET: given.data[Role.FORGET]})
    made = QUICK._made_up(forget_only, Run())
    after = unlearn(QUICK, forget_only, Run()).applied_to(given.model)

    def loss(model: torch.nn.Module, role: Role) -> float:
        return float(ask(given.family, model, made.data[role], Run()).query("loss").mean())

    stranger = loss(given.model, Role.CONTRAST)
    before, now = loss(given.model, Role.FORGET), loss(after, Role.FORGET)
    assert before < 0.2 < stranger
    assert abs(now - stranger) < 0.25 * (stranger - before)


def test_rows_that_do_not_say_where_their_subject_is_are_refused() -> None:
    given = facts.problem()
    rows = facts.facts()
    bare = replace(rows, columns={n: c for n, c in rows.columns.items() if n != "subject"})
    with pytest.raises(ExpungeError, match="subject"):
        unlearn(QUICK, replace(given, data={Role.FORGET: bare}), Run())


def test_rows_about_strangers_have_to_be_as_many() -> None:
    given = facts.problem()
    few = given.data[Role.FORGET].select(torch.arange(2))
    setting = facts.setting_of(replace(given, data={Role.CONTRAST: few}))
    with pytest.raises(ExpungeError, match="2 rows"):
        CounterfactualTarget().start(setting, given.data[Role.FORGET])
