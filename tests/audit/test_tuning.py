"""Tuning: equal budgets, defaults first, the same trials after a kill, nothing from test rows."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from expunge.aggregation import Sum
from expunge.audit.case import Case
from expunge.audit.gap import Scores, unit_of
from expunge.audit.kept_models import KeptModels
from expunge.audit.measure import Panel
from expunge.audit.tuning import Evaluation, Objective, Trials, Tuned
from expunge.benchmarks.shipped import Work
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.families.abilities import HasMargins, HasNeutral
from expunge.families.dual_encoder import DualEncoder
from expunge.families.regressor import Regressor
from expunge.learning.supervised.plain import Plain
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.negation import Negation
from expunge.methods.protocol import Method
from expunge.methods.retrain import Retrain
from expunge.methods.search import Space, space_of
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals.accuracy import RETAINED_ACCURACY

REQUESTS = (Request("eights", Rows("label", ("8",))), Request("threes", Rows("label", ("3",))))


def judged(method: Method) -> Evaluation:
    """A made-up objective with its best at a rate of 3e-4 and half of the entries kept."""
    assert isinstance(method, Negation)
    gap = abs(math.log(method.learning_rate / 3e-4)) + abs(method.kept - 0.5)
    return Evaluation(gap, {"made up": gap}, Scores((math.nan, 0.5), (0.1, 0.2), 0.9), 0.0)


def tuned(
    path: Path,
    budget: int,
    objective: Callable[[Method], Evaluation] = judged,
    seed: int = 0,
    setting: str = "here",
) -> Tuned:
    return Trials(path).tune("negation", setting, space_of(Negation), made, objective, budget, seed)


def made(parameters: Mapping[str, Any]) -> Method:
    return Negation(**parameters)


def test_the_papers_defaults_are_trial_0_so_that_tuning_is_never_worse(tmp_path: Path) -> None:
    found = tuned(tmp_path / "a.db", 8)
    assert found.defaults.parameters == {"learning_rate": 1e-5, "epochs": 4, "kept": 0.3}
    assert found.best is not None
    assert found.best.gap is not None
    assert found.defaults.gap is not None
    assert found.best.gap < found.defaults.gap


@pytest.mark.parametrize("killed_at", [1, 6])
def test_a_killed_run_goes_on_to_the_trials_of_an_uninterrupted_one(
    killed_at: int, tmp_path: Path
) -> None:
    whole = tuned(tmp_path / "whole.db", 9)
    asked = 0

    def killed(method: Method) -> Evaluation:
        nonlocal asked
        asked += 1
        if asked > killed_at:
            raise KeyboardInterrupt
        return judged(method)

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "parts.db", 9, killed)
    again = tuned(tmp_path / "parts.db", 9)
    assert again == whole
    assert tuned(tmp_path / "parts.db", 9) == whole  # nothing is left to do


def test_a_larger_budget_begins_with_the_trials_of_the_smaller(tmp_path: Path) -> None:
    small = tuned(tmp_path / "a.db", 4)
    assert tuned(tmp_path / "a.db", 7).trials[:4] == small.trials
    assert len(tuned(tmp_path / "a.db", 2).trials) == 7


def test_another_seed_or_setting_has_trials_of_its_own(tmp_path: Path) -> None:
    first = tuned(tmp_path / "a.db", 4)
    other = tuned(tmp_path / "a.db", 4, setting="elsewhere")
    assert other.trials == first.trials
    assert Trials(tmp_path / "a.db").found("negation", "nowhere", space_of(Negation)) is None
    seeded = tuned(tmp_path / "b.db", 4, seed=1)
    assert seeded.trials[0] == first.trials[0]
    assert seeded.trials[1] != first.trials[1]


def test_a_trial_that_diverges_or_breaks_is_stored_with_its_reason(tmp_path: Path) -> None:
    def fragile(method: Method) -> Evaluation:
        found = judged(method)
        if found.gap > 3:
            return replace(found, gap=math.nan)
        if found.gap > 2:
            raise RuntimeError("no memory\nfor this")
        return found

    found = tuned(tmp_path / "a.db", 9, fragile)
    reasons = {trial.reason for trial in found.trials if trial.gap is None}
    assert reasons == {"The average gap is nan; the model has diverged.", "RuntimeError: no memory"}
    assert len(found.trials) == 9
    assert found.best is not None
    assert found.best.gap is not None
    assert found.best.gap <= 2


def test_where_every_trial_fails_there_is_no_best(tmp_path: Path) -> None:
    def broken(method: Method) -> Evaluation:
        raise ValueError("broken")

    found = tuned(tmp_path / "a.db", 3, broken)
    assert found.best is None
    assert [trial.reason for trial in found.trials] == ["ValueError: broken"] * 3


def test_every_figure_of_a_trial_is_stored(tmp_path: Path) -> None:
    tuned(tmp_path / "a.db", 1)
    found = Trials(tmp_path / "a.db").found("negation", "here", space_of(Negation))
    assert found is not None
    figures = found.trials[0].figures
    assert figures["held-out"] == [None, 0.5]
    assert figures["forget rows"] == [0.1, 0.2]
    assert figures["retained"] == 0.9
    assert set(figures) == {"parts", "held-out", "forget rows", "retained", "seconds"}


def test_a_second_process_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "a.db")
    with (
        trials.alone(),
        pytest.raises(ExpungeError, match="Another process"),
        Trials(tmp_path / "a.db").alone(),
    ):
        pass
    with trials.alone():
        pass
    (tmp_path / "b.db").write_text("no database, but long enough to be read as one" * 20)
    with pytest.raises(ExpungeError, match="cannot be used as a database"):
        Trials(tmp_path / "b.db")


@pytest.fixture(scope="module")
def case(digits_work: Work, digits_model: nn.Module) -> Case:
    recipe = replace(digits_work.recipe, learner=Plain(6))
    deployment = Deployment(
        digits_model,
        recipe.family,
        digits_work.data[Role.TRAIN],
        digits_work.table,
        Sum(),
        recipe=recipe,
    )
    return Case.of(deployment, REQUESTS)


@pytest.fixture(scope="module")
def objective(case: Case, digits_work: Work) -> Objective:
    validation = Panel.of(digits_work.validation, digits_work.validation_table, REQUESTS)
    own, run = case.forget_rows(), Run()
    original, oracle = (
        Scores.asked(case.family, model, validation, own, run)
        for model in (case.base, case.retrained(run))
    )
    unit = unit_of(RETAINED_ACCURACY, original)
    return Objective(case, validation, own, oracle, unit, Run)


def test_retraining_has_no_gap_and_one_trial(objective: Objective, tmp_path: Path) -> None:
    found = Trials(tmp_path / "a.db").tune(
        "retrain", "here", space_of(Retrain), lambda p: Retrain(), objective, 5, 0
    )
    assert [trial.gap for trial in found.trials] == [0.0]


def test_the_gap_falls_where_a_method_forgets_and_its_global_draws_repeat(
    objective: Objective, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Careless(GradientAscent):
        def unlearn(self, problem: Any, artifact: Any, run: Run) -> Any:
            replaced = replace(self, learning_rate=self.learning_rate * (1 + float(torch.rand(1))))
            return GradientAscent.unlearn(replaced, problem, artifact, run)

    nothing = objective(GradientAscent())
    first = objective(Careless(learning_rate=4e-4, epochs=4))
    torch.rand(7)
    again = objective(Careless(learning_rate=4e-4, epochs=4))
    assert first.gap < nothing.gap - 0.2
    assert first.scores == again.scores


def test_a_diverged_method_is_a_failed_trial(objective: Objective, tmp_path: Path) -> None:
    space = Space({}, {}, True)
    found = Trials(tmp_path / "a.db").tune(
        "ascent", "x", space, lambda p: GradientAscent(learning_rate=1e30), objective, 1, 0
    )
    assert found.trials[0].gap is None
    assert "nan" in str(found.trials[0].reason)


def test_an_oracle_is_kept_and_a_damaged_one_made_again(case: Case, tmp_path: Path) -> None:
    kept, made_models = KeptModels(tmp_path), 0

    def make() -> nn.Module:
        nonlocal made_models
        made_models += 1
        return case.base

    results = [kept.get("one", case.base, make)[1] for _ in range(2)]
    (tmp_path / "one.safetensors").write_bytes(b"damaged")
    results += [kept.get("one", case.base, make)[1] for _ in range(2)]
    assert results == [False, True, False, True]
    assert made_models == 2


def test_what_a_trial_depends_on_is_described(case: Case) -> None:
    described = case.describe()
    assert described == case.describe()
    others = [
        replace(case, strength=0.5),
        replace(case, requests=REQUESTS[:1]),
        replace(case, train=case.train.select(torch.arange(1000)), table=_first(case.table, 1000)),
        replace(case, recipe=None),
        case.with_seed(1, Run()),
    ]
    for other in others:
        assert other.describe() != described


def test_prompts_are_described_number_by_number(case: Case) -> None:
    prompts = torch.zeros(200, 77, dtype=torch.int64)  # far more than a text of them would show
    other = prompts.clone()
    other[100, 40] = 1
    one, same, changed = (
        replace(case, family=DualEncoder({"input_ids": tokens})).describe()["family"]
        for tokens in (prompts, prompts.clone(), other)
    )
    assert one == same != changed


class Dropping(nn.Module):
    """A layer whose weights do not show everything that it does."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.layer, self.share = nn.Linear(2, 2), share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.layer(x), self.share, self.training)


def test_what_weights_do_not_show_of_a_recipe_is_described(case: Case) -> None:
    assert case.recipe is not None

    def with_builder(share: float, frozen: bool, training: bool) -> Case:
        def build(seed: int) -> nn.Module:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                made = Dropping(share).train(training)
            made.layer.bias.requires_grad_(not frozen)
            return made

        assert case.recipe is not None
        return replace(case, recipe=replace(case.recipe, builder=build))

    settings = [(0.1, False, True), (0.2, False, True), (0.1, True, True), (0.1, False, False)]
    described = [repr(with_builder(*setting).describe()) for setting in settings]
    assert len(set(described)) == len(settings)
    assert repr(with_builder(*settings[0]).describe()) == described[0]


def test_a_frozen_base_is_another_case(case: Case) -> None:
    frozen = copy.deepcopy(case.base)
    next(iter(frozen.parameters())).requires_grad_(False)
    assert replace(case, base=frozen).describe() != case.describe()


def test_what_a_method_lacks_is_said_of_the_case_as_it_is(case: Case) -> None:
    assert case.unfit(Retrain()) is None
    assert replace(case, recipe=None).unfit(Retrain()) == "needs the recipe; there is none"
    family = Regressor()
    assert replace(case, family=family).unfit(GradientAscent()) is None

    @dataclass(frozen=True)
    class Careless(GradientAscent):
        @property
        def needs(self) -> tuple[type, ...]:
            return (HasNeutral, HasMargins)

    assert replace(case, family=family).unfit(Careless()) == (
        "the family 'regressor' lacks HasNeutral and the family 'regressor' lacks HasMargins"
    )

    @dataclass(frozen=True)
    class Broken(GradientAscent):
        @property
        def needs(self) -> tuple[type, ...]:
            raise RuntimeError("mend me")

    assert case.unfit(Broken()) == "it cannot be asked what it needs (RuntimeError: mend me)"


def _first(table: Any, count: int) -> Any:
    return table.select(range(count))


def test_requests_that_were_answered_before_are_refused(case: Case) -> None:
    deployment = case.deployment()
    with pytest.raises(ExpungeError, match="0 requests"):
        Case.of(deployment, [])
    with pytest.raises(ExpungeError, match="recipe of this one is not known"):
        replace(case, recipe=None).with_seed(1, Run())
