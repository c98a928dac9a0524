"""The benchmark of smoothing: levels, costs, curves of relearning, and what counts as resisting."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from expunge.benchmarks.facts.people import FIRST_TUNING
from expunge.benchmarks.facts.world import Place, Size
from expunge.benchmarks.smoothing import tables
from expunge.benchmarks.smoothing.forms import FORMS, PLAIN, SMOOTHED, Form
from expunge.benchmarks.smoothing.level import Stopped, following, searched, stopped
from expunge.benchmarks.smoothing.protocol import Protocol
from expunge.benchmarks.smoothing.work import (
    Answering,
    Attack,
    Describing,
    Stage,
    likelihood,
    relearned,
    sharpness,
)
from expunge.changes.weights import digest_of
from expunge.descent.averages import MeanOfSamples
from expunge.descent.length import Steps
from expunge.descent.sequence_terms import NegativePreference
from expunge.errors import ExpungeError
from expunge.methods.presets import preset_of
from expunge.methods.protocol import OverDescent
from expunge.methods.sam_unlearn import NPOCR, NPOGP, NPORS, NPOSAM, NPOWA, SmoothNPO
from expunge.methods.smoothed import Smoothed
from expunge.problem import Problem
from expunge.run import Run

SMALL = Size(12, 3, 2, layers=2, width=64, inner=128, epochs=60, learning_rate=3e-3)
NAMED: dict[str, type[SmoothNPO]] = {k.name: k for k in (NPOSAM, NPORS, NPOGP, NPOCR, NPOWA)}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    place = Place(tmp_path_factory.mktemp("smoothing"), FIRST_TUNING, SMALL)
    return Stage(place, 0, (Attack(1, 1e-3, 6),))


@pytest.fixture(scope="module")
def base(stage: Stage) -> nn.Module:
    return stage.trained(oracle=False).model()


@pytest.fixture(scope="module")
def problem(stage: Stage, base: nn.Module) -> Problem:
    return stage.problem(base)


def ends(*misses: float) -> Callable[[float], Stopped]:
    """Descents of 60 steps, which pass the level the later, the nearer to it they end."""
    left = list(misses)

    def descended(weight: float) -> Stopped:
        miss = left.pop(0)
        passed = nn.Identity() if miss <= 0 else None
        return Stopped(passed, 60 / (1 - miss) if passed else 0.0, 60, miss)

    return descended


def test_the_search_ends_at_the_first_descent_that_passes_late() -> None:
    found = searched(ends(-3.0, 1.5, -0.3, -0.2), 10.0, 9)
    assert [miss for _, miss in found.tried] == [-3.0, 1.5, -0.3]
    assert found.stop.late
    weights = [weight for weight, _ in found.tried]
    assert weights[0] < weights[2] < weights[1]  # too deep: more retain weight, then between
    assert found.retain_weight == weights[2]


def test_the_latest_is_taken_where_none_is_late_and_none_is_refused() -> None:
    found = searched(ends(-3.0, 2.0, -1.0), 10.0, 3)
    assert found.stop.ended == -1.0
    assert not found.stop.late
    with pytest.raises(ExpungeError, match=r"None of 2 descents .* ended \+1.00, \+0.50 nats"):
        searched(ends(1.0, 0.5), 10.0, 2)


def test_the_next_weight_is_between_misses_of_both_signs() -> None:
    assert following([(10.0, -3.0)]) > 10.0 > following([(10.0, 3.0)])
    between = following([(10.0, -3.0), (1000.0, 1.0)])
    assert 100.0 < between < 1000.0  # nearer to the smaller miss
    assert following([(10.0, -50.0)]) == following([(10.0, -500.0)])  # no leap


@pytest.mark.parametrize("form", SMOOTHED, ids=lambda form: form.name)
def test_a_form_at_its_preset_is_the_named_method_at_its_own(form: Form, problem: Problem) -> None:
    method = preset_of(NAMED[form.name](), problem)
    assert isinstance(method, SmoothNPO)
    ours = form.at_preset(problem)
    assert ours == Smoothed(method.around(), method.smoothing(), method.average())


@pytest.mark.parametrize("form", [PLAIN, *SMOOTHED], ids=lambda form: form.name)
def test_gradients_of_the_forget_term_are_counted(
    form: Form, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    plain = NegativePreference.value

    def value(term: NegativePreference, *given: Any) -> torch.Tensor:
        seen.append(True)
        return plain(term, *given)

    monkeypatch.setattr(NegativePreference, "value", value)
    descent = form.weighed(problem, 10.0).descent()
    descent.length = Steps(2)
    assert descent.minimise(problem, Run()).steps == 2
    assert len(seen) == 2 * form.gradients
    assert form.differentiated(2, 30, 7) == 2 * (30 * form.gradients + 7)


def test_controls_are_plain_and_have_as_many_gradients_as_what_they_control() -> None:
    def rows(form: Form) -> int:  # half of 75 forget rows and 64 retain rows a step
        return form.differentiated(round(60 * form.longer), 38, 64)

    longer = [form for form in FORMS if form.longer != 1]
    assert longer
    assert all((form.by, form.average) == (None, None) for form in longer)
    costs = {rows(form) for form in SMOOTHED}
    for form in longer:
        assert min(abs(rows(form) / cost - 1) for cost in costs) < 0.05


def test_only_the_smoothing_differs_between_forms(problem: Problem) -> None:
    def inner(method: OverDescent) -> object:
        return method.around if isinstance(method, Smoothed) else method

    alike = [form for form in FORMS if (form.longer, form.loudness) == (1, 1)]
    assert len({repr(inner(form.at_preset(problem))) for form in alike}) == 1
    assert len({repr(inner(form.weighed(problem, 33.0))) for form in alike}) == 1


def test_sharpness_rises_with_the_radius_and_leaves_the_model(
    problem: Problem, base: nn.Module
) -> None:
    before, needed = digest_of(base), [p.requires_grad for p in base.parameters()]
    descent = PLAIN.weighed(problem, 10.0).descent()
    descent.length = Steps(10)
    moved = descent.minimise(problem, Run()).model
    near, far = (sharpness(problem, moved, Run(), radius) for radius in (1e-3, 1e-2))
    assert 0 < near < far
    # to first order the rise is the radius times the gradient's length
    tiny = sharpness(problem, moved, Run(), 1e-4)
    assert near / tiny == pytest.approx(10, rel=0.2)
    assert digest_of(base) == before
    assert [p.requires_grad for p in base.parameters()] == needed


def test_relearning_shows_some_people_and_asks_about_all(stage: Stage, base: nn.Module) -> None:
    world, attack = stage.place.world, stage.attacks[0]
    before = digest_of(base)
    known = relearned(world, base, attack, Run())
    assert {name: len(curve) for name, curve in known.items()} == dict.fromkeys(known, 7)
    assert known["shown"][0] == known["held"][0] == 1
    assert known["held probability"][0] > 0.9
    oracle = stage.trained(oracle=True).model()
    long = relearned(world, oracle, Attack(1, 3e-3, 30), Run())
    assert long["shown"][0] < 0.5 < long["shown"][-1]  # what is shown is learned
    assert max(long["held"]) < 0.5  # what is held back is not
    assert digest_of(base) == before


def test_a_descent_is_stopped_where_it_comes_down_to_the_level(
    stage: Stage, base: nn.Module, problem: Problem
) -> None:
    asked = likelihood(stage.place.world)
    descent = PLAIN.weighed(problem, 10.0).descent()
    descent.length = Steps(12)
    seen: list[float] = []
    descent.minimise(problem, Run(), each=lambda _, model: seen.append(asked(model)))
    level = seen[-1] + 0.5 * (seen[0] - seen[-1])
    found = stopped(descent, problem, Run(), asked, level)
    assert found.model is not None
    assert asked(found.model) == pytest.approx(level, abs=0.02)
    before = int(found.steps)  # whole steps that were gone
    assert seen[before - 1] > level >= seen[before]
    assert found.ended == pytest.approx(seen[-1] - level)
    assert all(p.requires_grad for p in found.model.parameters())
    assert stopped(descent, problem, Run(), asked, min(seen) - 1).model is None


def test_an_average_is_that_of_the_descent_that_ends_there(problem: Problem) -> None:
    def answers(model: nn.Module) -> float:  # any number that a model has
        return -float(sum(p.detach().double().abs().sum() for p in model.parameters()))

    average = MeanOfSamples(0.5, 2)
    descent = PLAIN.weighed(problem, 10.0).descent()
    descent.length = Steps(6)
    path = stopped(descent, problem, Run(), answers, 0.0, average)
    averaging = Smoothed(PLAIN.weighed(problem, 10.0), None, average).descent()
    averaging.length = Steps(6)
    ended = averaging.minimise(problem, Run()).model
    assert path.ended == pytest.approx(answers(ended), rel=1e-6)
    assert path.ended != pytest.approx(answers(problem.model), rel=1e-6)


def cell(draw: int, shown: list[float], probability: float = 0.1, **given: Any) -> dict[str, Any]:
    held = [0.0] * len(shown)
    attack = {"shown": shown, "held": held, "held probability": [probability] * len(shown)}
    own = {"draw": draw, "forget": 0.0, "retain": 1.0, "log probability": -4.0}
    return {**own, "sharpness": [0.1, 1.0], "attacks": [attack], "steps": 60, "rows": 1, **given}


def test_areas_leave_out_what_was_there_before() -> None:
    assert tables.area([1.0, 0.0, 0.5]) == 0.25
    assert tables.half_after([0.0, 0.4, 0.5, 0.4]) == 2
    assert tables.half_after([0.0, 0.4]) == 2


def test_forms_are_held_against_the_plain_one_of_the_same_draw() -> None:
    plain = [cell(draw, [0, 0.5], 0.2) for draw in range(3)]
    other = [cell(0, [0, 0.4]), cell(1, [0, 0.6]), cell(7, [0, 0.0])]
    assert tables.smaller(other, plain, tables.shown_area) == (1, 2)
    assert tables.smaller(plain, plain, tables.shown_area) == (0, 3)


@pytest.mark.parametrize(("agree", "word"), [(4, "yes"), (3, "NO")])
def test_a_claim_holds_in_four_of_five_draws(agree: int, word: str) -> None:
    answers = [{"form": "npo-rt", "way": "level", **cell(d, [0, 0.5], 0.2)} for d in range(5)]
    answers += [
        {"form": "npo-sam", "way": "level", **cell(d, [0, 0.5], 0.1 if d < agree else 0.3)}
        for d in range(5)
    ]
    answers.append({"form": "npo-gp", "way": "level", "draw": 0, "refused": "too far"})
    references = [{"oracle": oracle, **cell(0, [0, 0.5])} for oracle in (False, True)]
    result = {"answers": answers, "references": references}
    lines = tables.verdicts(result)
    assert any(f"npo-sam, level, resists relearning: {word}" in line for line in lines)
    assert "npo-gp, level, draw 0: refused: too far" in lines
    [(title, columns, rows)] = tables.tables(result)
    assert title == tables.WAYS["level"]
    assert {len(row) for row in rows} == {len(columns)}


@pytest.mark.parametrize(("draws", "refused"), [(4, False), (1, False), (5, True)])
def test_fewer_than_five_draws_are_no_verdict(draws: int, refused: bool) -> None:
    answers = [{"form": "npo-rt", "way": "level", **cell(d, [0, 0.5], 0.2)} for d in range(draws)]
    sam = [{"form": "npo-sam", "way": "level", **cell(d, [0, 0.4])} for d in range(draws)]
    if refused:
        sam[-1] = {"form": "npo-sam", "way": "level", "draw": draws - 1, "refused": "too far"}
    compared = draws - refused
    line = tables.verdicts({"answers": answers + sam})[-1]
    assert f"resists relearning: too few draws to say ({compared} of 5)" in line
    assert f"smaller in {compared} of {compared}" in line
    assert "yes" not in line and "NO" not in line


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="'npo' was given"):
        Protocol(tmp_path, ("npo",))
    with pytest.raises(ExpungeError, match="draws were given"):
        Protocol(tmp_path, draws=FIRST_TUNING)
    with pytest.raises(ExpungeError, match="somebody to ask about"):
        Protocol(tmp_path, attacks=(Attack(10, 1e-3),))


def test_everything_that_a_result_depends_on_is_in_its_key(stage: Stage) -> None:
    named = {field.name for field in fields(Stage)} - {"place"}
    assert named <= set(stage.facts())
    jobs: list[Answering | Describing] = [
        Answering(stage, PLAIN, False),
        Answering(stage, PLAIN, True),
        Answering(stage, SMOOTHED[0], False),
        Describing(stage, False),
        Describing(stage, True),
    ]
    assert len({repr(job.depends_on()) for job in jobs}) == len(jobs)


@pytest.mark.slow
def test_the_protocol_resumes_and_meets_the_level(tmp_path: Path) -> None:
    def conduct() -> tuple[dict[str, Any], list[bool]]:
        told: list[bool] = []
        protocol = Protocol(tmp_path, ("npo-sam", "npo-wa"), 1, (Attack(1, 1e-3, 6),), 1, SMALL)
        return protocol.conduct(lambda _, stored: told.append(stored)), told

    result, _ = conduct()
    again, told = conduct()
    assert again == result
    assert all(told)
    [level] = [c["log probability"] for c in result["references"] if c["oracle"]]
    at_level = [c for c in result["answers"] if c["way"] == "level" and "attacks" in c]
    assert at_level
    for found in at_level:
        assert found["log probability"] == pytest.approx(level, abs=0.05)
    assert {line.partition(",")[0] for line in tables.verdicts(result)} <= {"npo-sam", "npo-wa"}
