"""Terms on embeddings: their bounds, the formula they are, and what they move."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import e, exp, log
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from expunge.benchmarks.shipped import Work
from expunge.changes.history import History
from expunge.data.samples import ROW, Batch, Samples
from expunge.descent.embedding_terms import Far, Near, Unexplained, squashed, turned
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD
from expunge.descent.player import Player, Setting
from expunge.families.heads import embeddings_of, head_of
from expunge.learning.representations import Explainer
from expunge.models.mlp import digits_classifier
from expunge.problem import Fields, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

TAU, VAE = 5.0, "autoencoder"


@given(st.floats(0, 1e12))
def test_a_squashed_error_is_between_one_and_e(error: float) -> None:
    value = float(squashed(torch.tensor(error, dtype=torch.float64)))
    assert 1 <= value <= e
    assert value == pytest.approx(exp(error / (error + 1)))


@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_a_turn_is_between_zero_and_two_and_knows_no_length(seed: int, length: float) -> None:
    torch.manual_seed(seed)
    now, before = torch.randn(2, 7, 5).unbind(0)
    found = turned(now, before)
    assert float(found.min()) >= -1e-6
    assert float(found.max()) <= 2 + 1e-6
    assert torch.allclose(turned(length * now, before), found, atol=1e-5)
    assert torch.allclose(turned(now, now), torch.zeros(7), atol=1e-6)
    assert torch.allclose(turned(-now, now), torch.full((7,), 2.0), atol=1e-6)


@pytest.fixture(scope="module")
def problem(digits_work: Work, digits_model: nn.Module) -> Problem:
    """Threes to be forgotten; an autoencoder of some of the rows, fitted for a moment."""
    family, train = digits_work.recipe.family, digits_work.data[Role.TRAIN]
    threes = Rows("label", ("3",)).rows(digits_work.table)
    others = Rows("label", ("1", "2")).rows(digits_work.table)
    data = {Role.FORGET: train.select(threes), Role.RETAIN: train.select(others)}
    seen = embeddings_of(family, digits_model, data[Role.RETAIN], Run())
    vae = Explainer(4, 2).fit(seen, Run(), "few")
    request = Request("the threes", Rows("label", ("3",)))
    return Problem(digits_model, family, request, data, History(), companions={VAE: vae})


@pytest.fixture
def setting(problem: Problem) -> Setting:
    """The model after it moved a little, beside what it was."""
    live = digits_classifier(seed=5)
    with torch.no_grad():
        for moved, before in zip(live.parameters(), problem.model.parameters(), strict=True):
            moved.mul_(2.0).add_(before)
    modules = {"model": live, **problem.companions}
    return Setting(problem, modules, lambda: problem.model, Run())


def batch_of(problem: Problem, role: Role, count: int) -> Batch:
    return problem.data[role].batch(torch.arange(3, 3 + count))


def values(setting: Setting, near_rows: int, far_rows: int) -> tuple[Tensor, Tensor]:
    near, far, data = Near(), Far(TAU), setting.problem.data
    retain, forget = (
        batch_of(setting.problem, role, count)
        for role, count in ((Role.RETAIN, near_rows), (Role.FORGET, far_rows))
    )
    return (
        near.value(setting, retain, near.start(setting, data[Role.RETAIN])),
        far.value(setting, forget, far.start(setting, data[Role.FORGET])),
    )


@pytest.mark.parametrize(("near_rows", "far_rows"), [(16, 16), (16, 5), (3, 40)])
def test_near_and_far_together_are_the_published_ratio(
    near_rows: int, far_rows: int, setting: Setting
) -> None:
    problem, family = setting.problem, setting.family

    def moved(role: Role, count: int) -> Tensor:
        rows = problem.data[role].select(torch.arange(3, 3 + count))
        now, before = (
            embeddings_of(family, m, rows, Run()) for m in (setting.model, problem.model)
        )
        lengths = torch.linalg.vector_norm(now, dim=1) * torch.linalg.vector_norm(before, dim=1)
        found: Tensor = 1 - (now * before).sum(1) / lengths
        return found

    kept, gone = moved(Role.RETAIN, near_rows), moved(Role.FORGET, far_rows)
    assert float(gone.mean()) > 0.01
    published = (kept.exp() / (gone / TAU).exp().sum()).log().sum()
    with torch.no_grad():
        near, far = values(setting, near_rows, far_rows)
    assert float(near_rows * (near + far)) == pytest.approx(float(published), rel=1e-4)


def test_at_the_start_the_alignment_stands_still(problem: Problem) -> None:
    """Every d is 0 and smallest there: the terms have their value and no slope, so that without an
    unlearning of the extractor before it the alignment has nothing to go by but rounding."""
    model = digits_classifier()
    model.load_state_dict(problem.model.state_dict())
    setting = Setting(problem, {"model": model, **problem.companions}, lambda: problem.model, Run())
    near, far = values(setting, 20, 30)
    assert float(near.detach()) == pytest.approx(0, abs=1e-6)
    assert float(far.detach()) == pytest.approx(-log(30), abs=1e-5)
    slopes = torch.autograd.grad(near + far, list(model.parameters()), allow_unused=True)
    assert all(slope is None or float(slope.abs().max()) < 1e-5 for slope in slopes)


def test_the_alignment_is_bounded(setting: Setting) -> None:
    with torch.no_grad():
        near, far = values(setting, 16, 16)
    assert 0 <= float(near) <= 2
    assert -log(16) - 2 / TAU <= float(far) <= -log(16)


def test_no_term_has_a_gradient_on_the_head_and_each_has_one_below(setting: Setting) -> None:
    model, problem = setting.model, setting.problem
    _, head = head_of(model)
    below = [p for p in model.parameters() if all(p is not own for own in head.parameters())]
    near, far = values(setting, 16, 16)
    explained = Unexplained(VAE).value(setting, batch_of(problem, Role.FORGET, 16), None)
    assert 1 <= float(explained.detach()) < e
    for value in (near, far, explained):
        own = list(head.parameters())
        found = torch.autograd.grad(value, own + below, retain_graph=True, allow_unused=True)
        assert all(g is None for g in found[:2])
        assert all(g is not None and float(g.norm()) > 0 for g in found[2:])


def test_what_was_never_seen_is_explained_worse(problem: Problem) -> None:
    setting = Setting(
        problem, {"model": problem.model, **problem.companions}, lambda: problem.model, Run()
    )
    with torch.no_grad():
        found = [
            float(Unexplained(VAE).value(setting, batch_of(problem, role, 60), None))
            for role in (Role.RETAIN, Role.FORGET)
        ]
    assert found[0] < found[1]


# ---- two players on the same rows ----


@dataclass(frozen=True)
class Seen:
    """Writes down the rows of its batches; the weights stay."""

    rows: list[list[int]] = field(default_factory=list)
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = frozenset({"image"})
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> None: ...

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        self.rows.append(batch[ROW].tolist())
        total: Tensor = torch.stack([p.sum() for p in setting.model.parameters()]).sum()
        return 0.0 * total


@pytest.fixture
def rows_of_two(problem: Problem) -> Callable[..., list[list[list[int]]]]:
    def seen(one: str | None, other: str | None) -> list[list[list[int]]]:
        terms = [Seen() for _ in range(4)]
        players = [
            Player(forget=terms[2 * i], retain=terms[2 * i + 1], optimiser=SGD(0.1), batches=name)
            for i, name in enumerate((one, other))
        ]
        small = replace(problem, companions={})
        Descent(*players, length=Steps(12), batch_size=16).minimise(small, Run())
        return [term.rows for term in terms]

    return seen


def test_players_of_one_name_see_the_same_batches(
    rows_of_two: Callable[..., list[list[list[int]]]],
) -> None:
    forget, retain, forget_again, retain_again = rows_of_two("pairs", "pairs")
    assert forget == forget_again
    assert retain == retain_again
    assert forget != retain


def test_players_without_a_name_or_of_different_names_see_their_own(
    rows_of_two: Callable[..., list[list[list[int]]]],
) -> None:
    for names in ((None, None), ("one", "other"), ("pairs", None)):
        forget, retain, forget_again, retain_again = rows_of_two(*names)
        assert forget != forget_again
        assert retain != retain_again
