"""SCRUB and Bad-T: the divergence, who teaches which rows, and what is forgotten on digits."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.weights import parameters_of
from expunge.data.samples import ROW, Batch
from expunge.deployment import Deployment
from expunge.descent.distillation import Divergence, TwoTeachers, divergence
from expunge.descent.player import Setting
from expunge.descent.sources import PART, Pooled
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.families.regressor import Regressor
from expunge.methods.bad_teacher import TEACHER, BadTeacher
from expunge.methods.protocol import Method, unlearn
from expunge.methods.scrub import Scrub
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.signals import accuracy
from expunge.signals.ask import ask

THREES = Request("the threes", Rows("label", ("3",)))
Trained = Callable[[int], Deployment]


def moved(method: Method, problem: Problem, seed: int = 0) -> nn.Module:
    [change] = unlearn(method, problem, Run(seed)).changes
    assert isinstance(change, Delta)
    return change.applied_to(problem.model)


def shares(problem: Problem, model: nn.Module) -> tuple[float, float]:
    forget, retain = (
        float(accuracy(ask(problem.family, model, problem.data[role], Run()))[0])
        for role in (Role.FORGET, Role.RETAIN)
    )
    return forget, retain


def random_logits(seed: int, classes: int = 7) -> Tensor:
    return 3 * torch.randn(5, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_that_of_the_paper(temperature: float) -> None:
    student, teacher = random_logits(0), random_logits(1)
    p, q = F.softmax(teacher / temperature, 1), F.softmax(student / temperature, 1)
    expected = temperature**2 * (p * (p / q).log()).sum() / len(p)
    assert float(divergence(student, teacher, temperature)) == pytest.approx(float(expected))
    assert float(divergence(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-6)


def test_at_high_temperature_it_is_the_squared_distance_of_centred_logits() -> None:
    student, teacher = random_logits(0).double(), random_logits(1).double()
    distance = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = distance.square().sum(1).mean() / (2 * 7)
    assert float(divergence(student, teacher, 100.0)) == pytest.approx(float(expected), rel=0.05)


def setting_of(problem: Problem, **modules: nn.Module) -> Setting:
    return Setting(problem, {"model": problem.model, **modules}, lambda: problem.model, Run())


def test_the_first_role_of_the_pool_is_taught_by_the_bad_teacher(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BadTeacher())
    assert problem.recipe is not None
    bad = problem.recipe.untrained(Run(4)).eval()
    pooled = Pooled.of(problem.data[Role.FORGET], problem.data[Role.RETAIN])
    setting = setting_of(problem, **{TEACHER: bad})
    term = TwoTeachers(TEACHER)
    rows = torch.randperm(len(pooled), generator=torch.Generator().manual_seed(0))[:300]
    batch = pooled.batch(rows)
    logits = term.start(setting, pooled)[rows]
    forgotten = batch[PART] == 0
    assert 0 < int(forgotten.sum()) < 300
    with torch.no_grad():
        images = batch["image"]
        assert torch.allclose(logits[forgotten], bad(images[forgotten]), atol=1e-5)
        assert torch.allclose(logits[~forgotten], problem.model(images[~forgotten]), atol=1e-5)


def test_at_the_start_the_divergence_has_no_slope_and_the_label_has(trained: Trained) -> None:
    problem = trained(0).problem(THREES, Scrub())
    forget, setting = problem.data[Role.FORGET], setting_of(problem)
    batch: Batch = forget.batch(torch.arange(32))
    assert batch[ROW].tolist() == list(range(32))
    norms = []
    for term in (Divergence(temperature=4.0), Divergence(temperature=4.0, label_weight=1.0)):
        value = term.value(setting, batch, term.start(setting, forget))
        slope = torch.autograd.grad(value, list(problem.model.parameters()))
        norms.append(float(torch.stack([g.norm() for g in slope]).norm()))
    assert norms[0] < 1e-3 * norms[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scrub_forgets_a_class_and_keeps_the_others(seed: int, trained: Trained) -> None:
    scrub = Scrub(10, 5, learning_rate=0.01, momentum=0.9)
    problem = trained(seed).problem(THREES, scrub)
    assert shares(problem, problem.model)[0] > 0.95
    forget, retain = shares(problem, moved(scrub, problem, seed))
    assert forget < 0.1
    assert retain > 0.98


def test_without_passes_that_raise_it_scrub_stays_at_the_teacher(trained: Trained) -> None:
    gentle = Scrub(3, 1, forget_divergence=0.0, alpha=10.0)
    problem = trained(0).problem(THREES, gentle)
    assert shares(problem, moved(gentle, problem)) == shares(problem, problem.model)


def test_the_first_pass_over_the_forget_set_moves_nothing_without_the_loss(
    trained: Trained,
) -> None:
    first = Scrub(1, 1, retain_first=False, learning_rate=0.1)
    problem = trained(0).problem(THREES, first)

    def distance(method: Scrub) -> float:
        descent = method.descent()
        [player] = descent.players
        descent.players = (replace(player, retain=replace(player.retain, weight=0.0)),)  # type: ignore[type-var]
        after = parameters_of(descent.minimise(problem, Run()).model)
        before = parameters_of(problem.model)
        return max(float((after[n] - before[n]).detach().abs().max()) for n in before)

    assert distance(first) < 1e-5
    assert distance(replace(first, forget_loss=1.0)) > 1e-3


def test_a_bad_teacher_makes_the_forget_set_forgotten(trained: Trained) -> None:
    method = BadTeacher(batch_size=64)
    for seed in (0, 1):
        problem = trained(seed).problem(THREES, method)
        forget, retain = shares(problem, moved(method, problem, seed))
        assert forget < 0.4
        assert retain > 0.98


def test_another_seed_of_the_run_draws_another_teacher(trained: Trained) -> None:
    problem = trained(0).problem(THREES, BadTeacher())
    assert problem.recipe is not None
    first, again, other = (
        parameters_of(problem.recipe.untrained(Run(seed)))["layers.1.weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_they_read(trained: Trained) -> None:
    both = Access.to(Role.FORGET, Role.RETAIN)
    assert Scrub().unlearns_with == both
    assert BadTeacher().unlearns_with == both | Access(recipe=True)
    with pytest.raises(ExpungeError, match="recipe"):
        unlearn(BadTeacher(), replace(trained(0).problem(THREES, Scrub()), recipe=None), Run())


def test_a_family_without_logits_has_no_divergence(trained: Trained) -> None:
    problem = trained(0).problem(THREES, Scrub())
    assert isinstance(problem.family, Classifier)
    for method in (Scrub(), BadTeacher()):
        with pytest.raises(ExpungeError, match="lacks HasLogits"):
            unlearn(method, replace(problem, family=Regressor()), Run())


@pytest.mark.parametrize("wrong", [{"forget_epochs": 0}, {"temperature": 0.0}])
def test_scrub_without_a_pass_or_a_temperature_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ExpungeError, match="at least one pass and a temperature above 0"):
        Scrub(**wrong)  # type: ignore[arg-type]
