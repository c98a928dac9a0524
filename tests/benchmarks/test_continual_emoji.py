"""Facts about matching and strengths, on the miniature dual encoder of the digits."""

from dataclasses import replace

import pytest
import torch

from expunge.aggregation import Cata, Mean, Sum
from expunge.audit.course import matrix_of
from expunge.benchmarks.continual_emoji import (
    TOLERANCE,
    Vectors,
    configuration,
    matched,
    measured,
    own_strengths,
    sequential,
    vectors,
)
from expunge.benchmarks.setting import Setting
from expunge.benchmarks.shipped import digits_dual_encoder
from expunge.changes.delta import Delta
from expunge.changes.strength import Search, largest, smallest
from expunge.deployment import Deployment
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.negation import Negation
from expunge.methods.retrain import Retrain
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

SEARCH = Search(upper=6.0, points=12, halvings=5)
WIDTH = 6.0 / 12 / 2**5


@pytest.fixture(scope="module")
def setting() -> Setting:
    work = digits_dual_encoder()
    base = work.recipe.make(work.data, Run()).model
    asked = [Request(f"digit {c}", Rows("label", (str(c),))) for c in (8, 3)]
    deployment = Deployment(
        base, work.recipe.family, work.data[Role.TRAIN], work.table, Sum(), recipe=work.recipe
    )
    deployment.forget(Request("both", Rows("label", ("8", "3"))), Retrain(), Run())
    return Setting.of(base, deployment.model, work, asked, Run())


@pytest.fixture(scope="module")
def made(setting: Setting) -> Vectors:
    return vectors(setting, Negation(4, 1e-3, 0.0, 32), Sum())


def test_the_common_factor_is_the_largest_that_keeps_the_floor(
    setting: Setting, made: Vectors
) -> None:
    floor = setting.scored(setting.base, setting.validation).retained - 0.05
    found = matched(setting, configuration(setting, "sum", Sum(), made, (1, 1), ""), floor, SEARCH)
    for factor, keeps in ((found.factor, True), (found.factor + 1.01 * WIDTH, False)):
        model = replace(found, factor=factor).model(setting.base, 1)
        assert (setting.scored(model, setting.validation).retained >= floor) is keeps


def test_a_requests_own_strength_is_the_smallest_at_the_oracles_level(
    setting: Setting, made: Vectors
) -> None:
    target = setting.scored(setting.oracle, setting.validation).confidence + TOLERANCE
    strengths, chosen = own_strengths(setting, made, SEARCH)
    assert "not reached" not in chosen
    for j, strength in enumerate(strengths):
        for tried, reached in ((strength, True), (strength - 1.01 * WIDTH, False)):
            model = made.deltas[j].applied_to(setting.base, tried)
            sure = setting.scored(model, setting.validation).confidence[j]
            assert bool(sure <= target[j]) is reached


def test_mean_and_sum_are_the_same_model_at_the_same_retained_accuracy(
    setting: Setting, made: Vectors
) -> None:
    floor = setting.scored(setting.base, setting.validation).retained - 0.05
    rules = ((Sum(), Search(3.0, 12, 8)), (Mean(), Search(6.0, 12, 8)))
    ends = [
        matched(setting, configuration(setting, "", rule, made, (1, 1), ""), floor, search)
        for rule, search in rules
    ]
    assert ends[1].factor == pytest.approx(2 * ends[0].factor)
    left, right = (
        setting.scored(end.model(setting.base, 1), setting.test).signals.values for end in ends
    )
    torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3)


def test_one_request_leaves_nothing_to_combine(setting: Setting, made: Vectors) -> None:
    one = Vectors(made.deltas[:1], made.seconds[:1])
    [cata], [plain] = (
        configuration(setting, "", rule, one, (1.5,), "").changes for rule in (Cata(), Sum())
    )
    for name in plain.entries:
        assert torch.equal(cata.dense(name), plain.dense(name))
        assert torch.equal(plain.dense(name), 1.5 * made.deltas[0].dense(name))


def test_a_sequential_method_is_seen_as_changes_against_the_base(setting: Setting) -> None:
    method = GradientDifference(2, 5e-4, sequential=True)
    found = sequential(setting, method, Sum(), "sequential")
    steps = measured(setting, found)
    before, oracle = (setting.scored(m, setting.test) for m in (setting.base, setting.oracle))
    matrix = matrix_of(before, steps, oracle)
    assert matrix.diagonal.max() < 0.3 < matrix.before.min()
    assert all(isinstance(change, Delta) for change in found.changes)


def test_bisection_brackets_the_turn() -> None:
    search = Search(8.0, 8, 10)
    assert smallest(lambda s: s >= 2.3, search) == pytest.approx(2.3, abs=1e-3)
    assert largest(lambda s: s <= 2.3, search) == pytest.approx(2.3, abs=1e-3)
    assert smallest(lambda s: False, search) is None
    assert smallest(lambda s: True, search) == 0.0
    assert largest(lambda s: True, search) == 8.0


def test_a_level_that_no_strength_reaches_is_said(setting: Setting, made: Vectors) -> None:
    weak = Search(upper=0.01, points=1, halvings=0)
    strengths, chosen = own_strengths(setting, made, weak)
    assert strengths == (0.01, 0.01)
    assert "not reached up to 0.01: digit 8, digit 3" in chosen
