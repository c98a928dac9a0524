"""Proximal steps: the formula, where weights rest, and what a resumed descent is pulled back to."""

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.changes.weights import digest_of, parameters_of
from expunge.data import digits as shipped
from expunge.data.samples import TensorSamples
from expunge.descent.forget_terms import NeutralTargets
from expunge.descent.length import InTurns
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, Constant
from expunge.descent.player import Player
from expunge.descent.proximal import SoftThreshold
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import Saliency
from expunge.errors import ExpungeError
from expunge.families.classifier import Classifier
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run


@cache
def problem() -> Problem:
    """Forget the threes from a network without training."""
    table = shipped.load("validation")
    rows = TensorSamples(table["id"], table["subject"], shipped.tensors(table))
    threes = rows.columns["label"] == 3
    data = {
        Role.FORGET: rows.select(threes.nonzero().reshape(-1)),
        Role.RETAIN: rows.select((~threes).nonzero().reshape(-1)),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    request = Request("the threes", Rows("label", ("3",)))
    return Problem(model, Classifier(classes=10), request, data, History.of("base"))


def player(penalty: float, momentum: float = 0.9) -> Player:
    return Player(
        forget=NeutralTargets(),
        retain=Loss(),
        optimiser=SGD(0.05, momentum, 1e-2),
        proximal=SoftThreshold(penalty),
    )


def descent(one: Player, epochs: int = 3) -> Descent:
    return Descent(one, length=InTurns(epochs), batch_size=32)


def at_rest(model: nn.Module) -> Tensor:
    """Which weights have the bits of the start, all in one row."""
    start, now = parameters_of(problem().model), parameters_of(model)
    same = [start[n].view(torch.int32) == now[n].view(torch.int32) for n in start]
    return torch.cat([one.reshape(-1) for one in same])


def test_a_displacement_is_shortened_by_the_threshold_to_zero_at_least() -> None:
    start = torch.tensor([1.0, 1.0, 1.0, -2.0, 0.1])
    weight = torch.tensor([1.5, 0.25, 1.125, -2.25, 0.3])
    SoftThreshold(2.0, Constant()).pull(weight, start, 0.125, 0, 1)
    assert weight[:4].tolist() == [1.25, 0.5, 1.0, -2.0]
    assert weight[4].item() == start[4].item()  # its bits, which 0.3 - (0.3 - 0.1) does not give


def test_the_threshold_falls_along_a_line_that_is_zero_after_the_last_step() -> None:
    pull = SoftThreshold(1.0).pull
    left = []
    for step in range(5):
        weight = torch.ones(1)
        pull(weight, torch.zeros(1), 0.5, step, 4)
        left.append(1 - weight.item())
    assert left == [0.5, 0.375, 0.25, 0.125, 0.0]


def test_a_penalty_of_zero_changes_no_bit_of_a_descent() -> None:
    free = replace(player(0.0), proximal=None)
    ended = [descent(one).minimise(problem(), Run()).model for one in (player(0.0), free)]
    assert digest_of(ended[0]) == digest_of(ended[1])
    pulled = descent(player(1e-4)).minimise(problem(), Run()).model
    assert digest_of(pulled) != digest_of(ended[0])


def test_above_every_gradient_nothing_moves_until_the_threshold_has_fallen() -> None:
    shares = []

    def look(step: int, model: nn.Module) -> None:
        shares.append(at_rest(model).double().mean().item())

    descent(player(5.0, momentum=0.0)).minimise(problem(), Run(), each=look)
    assert shares[: len(shares) // 2] == [1.0] * (len(shares) // 2)
    assert shares[-1] < 1


def test_what_a_mask_holds_stays_beside_it() -> None:
    masked = replace(player(0.05), parameters=Saliency(0.3))
    mask = Saliency(0.3).select(problem().model, problem(), Run())
    moves = torch.cat([m.reshape(-1) for m in mask.values() if m is not None])
    rests = at_rest(descent(masked).minimise(problem(), Run()).model)
    assert rests[~moves].all()
    assert 0 < rests[moves].double().mean() < 1


@dataclass(frozen=True)
class Interrupted(SoftThreshold):
    """Breaks off at a step, the first time that it comes to it."""

    seen: list[int] = field(default_factory=list, repr=False)

    def pull(self, weight: Tensor, start: Tensor, rate: float, step: int, total: int) -> None:
        if step == 17 and step not in self.seen:
            self.seen.append(step)
            raise KeyboardInterrupt
        self.seen.append(step)
        super().pull(weight, start, rate, step, total)


def test_a_resumed_descent_is_pulled_to_where_the_first_attempt_began(tmp_path: Path) -> None:
    whole = descent(player(0.1)).minimise(problem(), Run()).model
    interrupted = Interrupted(0.1)
    broken = descent(replace(player(0.1), proximal=interrupted))
    run = Run(checkpoints=tmp_path, checkpoint_every=5)
    with pytest.raises(KeyboardInterrupt):
        broken.minimise(problem(), run)
    interrupted.seen[:] = [17]
    assert digest_of(broken.minimise(problem(), run).model) == digest_of(whole)
    assert interrupted.seen[1] == 15  # it went on; it did not start anew


@pytest.mark.parametrize("penalty", [-1.0, float("nan")])
def test_a_penalty_that_pushes_away_is_refused(penalty: float) -> None:
    with pytest.raises(ExpungeError, match="at least 0 is expected"):
        SoftThreshold(penalty)
