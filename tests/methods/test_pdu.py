"""PDU: the price follows its rule and is resumed, and the bound is kept."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.weights import digest_of
from expunge.data.samples import Batch, batches
from expunge.descent.flat_logits import FlatLogits
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.multipliers import BoundedLoss, Price
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player, Setting
from expunge.descent.retain_terms import Loss
from expunge.descent.smoothing import RandomisedSmoothing
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, able
from expunge.methods.pdu import PDU
from expunge.recipe import Role
from expunge.run import Run
from language_facts import problem, setting_of, shares


def retain_loss(model: nn.Module) -> float:
    given = replace(problem(), model=model)
    [batch] = batches(given.data[Role.RETAIN], 1000)
    with torch.no_grad():
        return Loss().value(setting_of(given), batch, None).item()


def test_the_price_rises_above_the_bound_and_falls_to_nothing_below_it() -> None:
    price = Price(BoundedLoss(multiplier=2.0, dual_rate=4.0, largest=5.0), bound=0.5, waiting=1)
    seen = []
    for loss in (9.0, 1.0, 1.0, 0.4, 0.0, 0.0, 0.0, 0.6):
        price.see(torch.tensor(loss))
        price.see(torch.tensor(99.0))  # a second look, at other weights
        price.stepped()
        seen.append(round(float(price.value), 6))
    assert seen == [2.0, 4.0, 5.0, 4.6, 2.6, 0.6, 0.0, 0.4]  # the first step is waited for
    price.stepped()  # nothing was seen
    assert float(price.value) == pytest.approx(0.4)


def test_the_bound_follows_from_the_loss_at_the_start() -> None:
    given = problem()
    price = BoundedLoss().start(setting_of(given), given.data[Role.RETAIN])
    assert price.bound == pytest.approx(1.05 * retain_loss(given.model) + 0.01, rel=1e-5)
    assert BoundedLoss(0.3).start(setting_of(given), given.data[Role.RETAIN]).bound == 0.3


def test_flat_logits_are_their_formula() -> None:
    given = problem()
    [batch] = batches(given.data[Role.FORGET], 100)
    logits = able(given.family, HasAnswers).answers(given.model, batch).values
    want = torch.stack([(z.max() - z.mean()) ** 2 for z in logits]).mean()
    found = FlatLogits().value(setting_of(given), batch, None)
    assert found.item() == pytest.approx(want.item(), rel=1e-5)


def test_it_forgets_within_the_bound() -> None:
    given = problem()
    method = PDU(60, 1e-2, batch_size=6, dual_warm_up=2, retain_weight=5.0, dual_rate=10.0)
    after = method.descent().minimise(given, Run()).model
    forget, retain = shares(given, after)
    assert forget <= 0.2 and retain >= 0.95
    assert retain_loss(after) <= 1.05 * (1.05 * retain_loss(given.model) + 0.01)


@dataclass(frozen=True)
class BrokenOff(FlatLogits):
    """At step 9 the descent is broken off, once."""

    times: ClassVar[list[int]] = []

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        if setting.step == 9 and not BrokenOff.times and setting.run.checkpoints is not None:
            BrokenOff.times.append(9)
            raise KeyboardInterrupt
        return super().value(setting, batch, prepared)


def test_a_resumed_descent_ends_in_the_same_bits(tmp_path: Path) -> None:
    def end(run: Run, dual_rate: float = 5.0) -> str:
        retain = BoundedLoss(multiplier=1.0, dual_rate=dual_rate, waiting=0.0)
        player = Player(forget=BrokenOff(), retain=retain, optimiser=AdamW(1e-2))
        descent = Descent(player, length=Steps(12), transform=RandomisedSmoothing(0.01))
        return digest_of(descent.minimise(problem(), run).model)

    run = Run(checkpoints=tmp_path, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        end(run)
    assert end(run) == end(Run())
    assert end(Run()) != end(Run(), dual_rate=0.0)


def test_a_price_without_meaning_is_refused() -> None:
    with pytest.raises(ExpungeError, match="0 or more"):
        BoundedLoss(dual_rate=-1.0)
    with pytest.raises(ExpungeError, match="at or below its largest"):
        BoundedLoss(multiplier=2e3)
