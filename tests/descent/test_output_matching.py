"""Matching: targets by the ids of rows, and what stays near its start."""

import pytest
import torch
from torch import nn

from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data.samples import TensorSamples
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.matching import MatchOutputs, Proximity, Targets
from expunge.descent.optimisers import SGD
from expunge.descent.player import On, Player
from expunge.descent.schedules import Decay
from expunge.descent.sources import NoRows
from expunge.errors import ExpungeError
from expunge.families.regressor import Regressor
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
IDS = [f"row {i}" for i in range(12)]


def problem() -> Problem:
    torch.manual_seed(0)
    rows = TensorSamples(IDS, IDS, {"image": X})
    model = nn.Linear(3, 2)
    return Problem(model, Regressor(), NO_REQUEST, {Role.FORGET: rows}, History())


def matched(targets: Targets, proximity: float = 0.0, steps: int = 200) -> nn.Module:
    others = {"near": On(NoRows(), Proximity(proximity))} if proximity else {}
    player = Player(forget=MatchOutputs(targets), others=others, optimiser=SGD(0.1))
    return Descent(player, length=Steps(steps), batch_size=12).minimise(problem(), Run()).model


def test_a_model_that_is_there_already_does_not_move() -> None:
    here = problem()
    own = here.model(X).detach()
    assert digest_of(matched(Targets(IDS, own), steps=3)) == digest_of(here.model)


def test_rows_are_matched_by_id_whatever_their_order() -> None:
    wanted = X @ torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    one = matched(Targets(IDS, wanted), steps=1000)
    other = matched(Targets(IDS[::-1], wanted.flip(0)), steps=1000)
    assert digest_of(one) == digest_of(other)
    assert torch.allclose(one(X), wanted, atol=1e-2)


def test_proximity_holds_the_weights_back() -> None:
    wanted, before = 10 * torch.ones(12, 2), dict(problem().model.named_parameters())

    def moved(proximity: float) -> float:
        after = dict(matched(Targets(IDS, wanted), proximity).named_parameters())
        return sum(float((after[n] - before[n]).detach().square().sum()) for n in before)

    free, held, fixed = moved(0.0), moved(0.5), moved(4.0)
    assert free > 2 * held > 4 * fixed > 0


def test_other_targets_are_another_descent() -> None:
    one, same, other = (Targets(["a"], torch.tensor([v])) for v in (1.0, 1.0, 2.0))
    assert repr(one) == repr(same) != repr(other)
    assert repr(one) != repr(Targets(["b"], torch.tensor([1.0])))


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(ExpungeError, match="2 targets were given for 12 rows"):
        Targets(IDS, torch.zeros(2, 2))
    with pytest.raises(ExpungeError, match="no target for the row 'row 1'"):
        matched(Targets(IDS[:1], torch.zeros(1, 2)))
    with pytest.raises(ExpungeError, match="shape"):
        matched(Targets(IDS, torch.zeros(12, 5)))


def test_the_rate_falls_after_each_part() -> None:
    shares = [Decay(0.5, 3).share(step, 6) for step in range(6)]
    assert shares == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
