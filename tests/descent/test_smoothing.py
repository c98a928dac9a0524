"""Smoothing: its limit is the plain descent, and a penalty has the gradient of its formula."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.data.samples import Batch, Samples, TensorSamples
from expunge.descent.averages import Average, MeanOfSamples, MovingAverage
from expunge.descent.forget_terms import Ascent
from expunge.descent.holding import Held
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, AdamW
from expunge.descent.player import Evolving, Player, Setting, StepGradients, Transform
from expunge.descent.retain_terms import Loss
from expunge.descent.smoothing import (
    Chained,
    CurvatureRegularisation,
    GradientPenalty,
    RandomisedSmoothing,
    SharpnessAware,
    Smoothing,
)
from expunge.descent.transforms import ClipNorm, norm
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.problem import Fields, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run

ALL: tuple[Smoothing, ...] = (
    SharpnessAware(0.1),
    RandomisedSmoothing(0.01),
    GradientPenalty(0.1, 0.01),
    CurvatureRegularisation(0.1, 0.1, 0.01),
)


# ---- digits, a small network with dropout ----


@cache
def digits() -> TensorSamples:
    images, labels = load_digits(return_X_y=True)
    columns = {
        "image": torch.tensor(images[:200] / 16).float(),
        "label": torch.tensor(labels[:200]),
    }
    names = [str(i) for i in range(200)]
    return TensorSamples(names, names, columns)


def problem() -> Problem:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10))
    threes = digits().columns["label"] == 3
    return Problem(
        model=model,
        family=Classifier(classes=10),
        request=Request("the threes", Rows("label", ("3",))),
        data={
            Role.FORGET: digits().select(threes.nonzero().reshape(-1)),
            Role.RETAIN: digits().select((~threes).nonzero().reshape(-1)),
        },
        history=History.of("base"),
    )


def ended(
    transform: Transform | None, player: Player | None = None, run: Run | None = None
) -> Tensor:
    """The weights after ten steps."""
    player = player or Player(forget=Ascent(0.5), retain=Loss(), optimiser=AdamW(1e-3))
    descent = Descent(player, length=Steps(10), batch_size=16, transform=transform)
    after = descent.minimise(problem(), run or Run()).model
    return torch.cat([p.detach().reshape(-1) for p in after.parameters()])


@pytest.mark.parametrize(
    "smoothing",
    [
        SharpnessAware(0.0),
        SharpnessAware(1e-30),  # too near to reach another number
        RandomisedSmoothing(1e-30),
        RandomisedSmoothing(0.0),
        GradientPenalty(0.0),
        CurvatureRegularisation(0.0),
        SharpnessAware(terms=("another",)),
    ],
    ids=repr,
)
def test_in_its_limit_a_smoothed_descent_ends_in_the_bits_of_the_plain_one(
    smoothing: Smoothing,
) -> None:
    assert torch.equal(ended(smoothing), ended(None))


@pytest.mark.parametrize("smoothing", ALL, ids=repr)
def test_a_smoothed_descent_is_another_one_and_the_same_at_each_run(smoothing: Smoothing) -> None:
    once = ended(smoothing)
    assert torch.equal(once, ended(smoothing))
    assert not torch.equal(once, ended(None))


@pytest.mark.parametrize("smoothing", ALL, ids=repr)
def test_what_comes_after_a_smoothing_sees_its_gradient(smoothing: Smoothing) -> None:
    assert torch.equal(ended(Chained(smoothing, ClipNorm(1e9))), ended(smoothing))
    assert torch.equal(ended(Chained(SharpnessAware(0.0), ClipNorm(0.1))), ended(ClipNorm(0.1)))


# ---- what the gradients are ----


def bowl() -> tuple[StepGradients, Callable[[Tensor], Tensor], Tensor]:
    """A function of 7 numbers that is not quadratic, in double precision, as a forget term beside a
    retain term; the function itself; and the slope of the retain term."""
    draw = torch.Generator().manual_seed(4)
    first = torch.randn(9, 7, generator=draw, dtype=torch.float64)
    second, slope = (torch.randn(9, generator=draw).double() for _ in range(2))
    start = torch.randn(7, generator=draw, dtype=torch.float64)
    parts = nn.Parameter(start[:4].reshape(2, 2).clone()), nn.Parameter(start[4:].clone())

    def forget(at: Tensor) -> Tensor:
        found: Tensor = ((first @ at).tanh() * second).sum() + 0.1 * at.pow(4).sum()
        return found

    def joined() -> Tensor:
        return torch.cat([p.reshape(-1) for p in parts])

    values = {"forget": lambda: forget(joined()), "retain": lambda: joined() @ slope[:7]}
    return StepGradients(parts, values, (None, None)), forget, slope[:7]


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    found: Tensor = torch.autograd.grad(function(leaf := at.clone().requires_grad_()), leaf)[0]
    return found


def by_differences(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    step = 1e-5 * torch.eye(len(at), dtype=at.dtype)
    return torch.stack([(function(at + d) - function(at - d)) / 2e-5 for d in step])


def flat(pieces: list[Tensor]) -> Tensor:
    return torch.cat([piece.reshape(-1) for piece in pieces])


def penalised_by_the_norm(forget: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    return forget(at) + 0.7 * norm([gradient(forget, at)])


def penalised_by_curvature(forget: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    here = gradient(forget, at)
    there = gradient(forget, at + 0.3 * here / here.norm())
    return forget(at) + 0.7 * norm([there - here])


@pytest.mark.parametrize(
    ("smoothing", "penalised"),
    [
        (GradientPenalty(0.7, 1e-4), penalised_by_the_norm),
        (CurvatureRegularisation(0.7, 0.3, 1e-4), penalised_by_curvature),
    ],
    ids=["penalty", "curvature"],
)
def test_a_penalty_has_the_gradient_of_the_penalised_loss(
    smoothing: Smoothing, penalised: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
) -> None:
    at, forget, slope = bowl()
    here = flat([p.detach() for p in at.parameters])
    want = by_differences(lambda place: penalised(forget, place), here)
    found = flat(smoothing.gradients(at))
    assert torch.allclose(found, want + slope, rtol=1e-5, atol=1e-6)
    assert (want - gradient(forget, here)).norm() > 0.1 * want.norm()  # the penalty counts
    assert torch.equal(flat([p.detach() for p in at.parameters]), here)


def test_the_sharpness_aware_gradient_is_taken_uphill_and_that_of_the_others_here() -> None:
    at, forget, slope = bowl()
    here = flat([p.detach() for p in at.parameters])
    uphill = gradient(forget, here)
    want = gradient(forget, here + 0.2 * uphill / uphill.norm()) + slope
    assert torch.allclose(flat(SharpnessAware(0.2).gradients(at)), want, rtol=1e-9)


def test_many_random_draws_smooth_as_the_noise_does() -> None:
    at, forget, slope = bowl()
    noise = torch.randn(1500, 7, generator=torch.Generator().manual_seed(1)).double()
    here = flat([p.detach() for p in at.parameters])
    want = torch.stack([gradient(forget, here + 0.3 * z) for z in noise]).mean(0) + slope
    found = flat(RandomisedSmoothing(0.3, 1500).gradients(at))
    assert torch.allclose(found, want, atol=0.15)
    assert not torch.allclose(want, gradient(forget, here) + slope, atol=0.15)


# ---- what is held, what is not asked, what is resumed ----


@pytest.mark.parametrize("smoothing", ALL, ids=repr)
def test_held_entries_stay_in_every_look(smoothing: Smoothing) -> None:
    at, _, _ = bowl()
    mask = torch.tensor([[True, False], [False, True]])
    held, looks = Held(mask, at.parameters[0]), []
    before = at.parameters[0].detach().clone()

    def forget() -> Tensor:
        looks.append(at.parameters[0].detach().clone())
        return at.values["forget"]()

    masked = replace(at, values={"forget": forget}, held=(held, None))
    found = smoothing.gradients(masked)
    assert len(looks) >= 2
    assert all(torch.equal(look[~mask], before[~mask]) for look in looks)
    assert any(not torch.equal(look[mask], before[mask]) for look in looks)
    assert torch.equal(found[0][~mask], torch.zeros(2, dtype=torch.float64))


def test_the_weights_come_back_bit_for_bit_also_after_an_error() -> None:
    at, _, _ = bowl()
    before = [p.detach().clone() for p in at.parameters]

    def broken() -> Tensor:
        if any(not torch.equal(p, old) for p, old in zip(at.parameters, before, strict=True)):
            raise ExpungeError("no value here")
        return at.values["forget"]()

    with pytest.raises(ExpungeError, match="no value here"):
        SharpnessAware(0.3).gradients(replace(at, values={"forget": broken}))
    assert all(torch.equal(p, old) for p, old in zip(at.parameters, before, strict=True))


@dataclass(frozen=True)
class Stopping(Loss):
    """The loss; at one step the descent is broken off."""

    at: int = -1
    asked: ClassVar[list[int]] = []

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        if setting.step == self.at:
            Stopping.asked.append(setting.step)
            if len(Stopping.asked) == 1:
                raise KeyboardInterrupt
        return super().value(setting, batch, prepared)


@pytest.mark.parametrize("smoothing", ALL, ids=repr)
def test_a_resumed_smoothed_descent_ends_in_the_same_bits(
    smoothing: Smoothing, tmp_path: Path
) -> None:
    Stopping.asked.clear()
    player = Player(forget=Ascent(0.5), retain=Stopping(at=7), optimiser=AdamW(1e-3))
    run = Run(checkpoints=tmp_path, checkpoint_every=3)
    with pytest.raises(KeyboardInterrupt):
        ended(smoothing, player, run)
    assert torch.equal(ended(smoothing, player, run), ended(smoothing))


def test_a_term_of_weight_zero_is_not_asked_around_or_elsewhere() -> None:
    silent = Player(forget=Stopping(0.0, at=0), retain=Loss(), optimiser=AdamW(1e-3))
    plain = Player(retain=Loss(), optimiser=AdamW(1e-3))
    assert torch.equal(ended(SharpnessAware(), silent), ended(None, plain))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (SharpnessAware, {"rho": -1.0}),
        (RandomisedSmoothing, {"draws": 0}),
        (GradientPenalty, {"radius": 0.0}),
        (CurvatureRegularisation, {"mu": 0.0}),
        (MeanOfSamples, {"start": 1.5}),
    ],
)
def test_what_has_no_meaning_is_refused(kind: type, given: Mapping[str, float]) -> None:
    with pytest.raises(ExpungeError, match="expected"):
        kind(**given)


def test_the_norm_is_over_all_parameters() -> None:
    assert float(norm([torch.tensor([3.0]), torch.tensor([[4.0]])])) == 5.0


# ---- averages ----


@pytest.mark.parametrize(("start", "taken"), [(0.5, (5, 8)), (1.0, (10,)), (0.0, (1, 4, 7, 10))])
def test_the_mean_of_samples_is_that_of_the_sampled_weights(
    start: float, taken: tuple[int, ...]
) -> None:
    seen: dict[int, Tensor] = {}

    def look(step: int, model: nn.Module) -> None:
        seen[step] = flat([p.detach().clone() for p in model.parameters()])

    def descent(average: Average | None) -> Descent:
        player = Player(retain=Loss(), optimiser=SGD(0.1))
        return Descent(player, length=Steps(10), batch_size=16, average=average)

    descent(None).minimise(problem(), Run(), each=look)
    after = descent(MeanOfSamples(start, 3)).minimise(problem(), Run()).model
    want = torch.stack([seen[step] for step in taken]).mean(0)
    assert torch.allclose(flat([p.detach() for p in after.parameters()]), want, atol=1e-6)


def test_the_defaults_sample_as_the_paper_does() -> None:
    shares = [MeanOfSamples().share(step, 125) for step in range(126)]
    assert [step for step in range(126) if shares[step]] == [100, 105, 110, 115, 120, 125]
    assert MovingAverage(0.9).share(3, 10) == pytest.approx(0.1)


# ---- terms with a state ----


class Counted:
    """Counts the steps that it took part in."""

    def __init__(self) -> None:
        self.count = torch.zeros(())

    def stepped(self) -> None:
        self.count = self.count + 1

    def state(self) -> Mapping[str, Tensor]:
        return {"count": self.count}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.count = state["count"]


@dataclass(frozen=True)
class Growing:
    """The loss times one and the steps so far at which it acted."""

    weight: float = 1.0
    every: int = 2
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> Counted:
        return Counted()

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        assert isinstance(prepared, Counted) and isinstance(prepared, Evolving)
        assert (
            int(prepared.count) == setting.step // 2
        )  # once a step, however often it is looked at
        return Loss().value(setting, batch, None) * (1 + prepared.count)


def test_a_term_with_a_state_moves_on_once_a_step_and_is_resumed(tmp_path: Path) -> None:
    def player(stop: int) -> Player:
        return Player(forget=Growing(), retain=Stopping(at=stop), optimiser=AdamW(1e-3))

    whole = ended(RandomisedSmoothing(), player(-1))
    Stopping.asked.clear()
    run = Run(checkpoints=tmp_path, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        ended(RandomisedSmoothing(), player(9), run)
    assert torch.equal(ended(RandomisedSmoothing(), player(9), run), whole)
