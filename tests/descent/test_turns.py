"""Turns and pools: whose batches a descent reads at which step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data import digits as shipped
from expunge.data.samples import ROW, Batch, Samples, TensorSamples
from expunge.descent.distillation import Divergence
from expunge.descent.forget_terms import Ascent, NeutralTargets
from expunge.descent.length import Epochs, InTurns, Turn
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, Drops, Linear, Stairs
from expunge.descent.penalties import L1Norm
from expunge.descent.player import Matching, On, Player, Setting, Term
from expunge.descent.retain_terms import Loss
from expunge.descent.selections import Saliency
from expunge.descent.sources import PART, NoRows, Pool, Pooled
from expunge.families.classifier import Classifier
from expunge.problem import Access, Fields, Problem
from expunge.recipe import Role
from expunge.requests import Request, Rows
from expunge.run import Run


@cache
def digits() -> TensorSamples:
    table = shipped.load("validation")
    return TensorSamples(table["id"], table["subject"], shipped.tensors(table))


def digits_problem(model: nn.Module | None = None, family: Classifier | None = None) -> Problem:
    """Forget the threes."""
    torch.manual_seed(5)
    threes = digits().columns["label"] == 3
    return Problem(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) if model is None else model,
        Classifier(classes=10) if family is None else family,
        Request("the threes", Rows("label", ("3",))),
        {
            Role.FORGET: digits().select(threes.nonzero().reshape(-1)),
            Role.RETAIN: digits().select((~threes).nonzero().reshape(-1)),
        },
        History.of("base"),
    )


@dataclass(frozen=True)
class Watched:
    """A term that shows every batch it sees before it takes the value of an inner term."""

    seen: Callable[[Setting, Batch], object] = field(repr=False)
    inner: Term
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = ()

    def start(self, setting: Setting, samples: Samples) -> object:
        return self.inner.start(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        self.seen(setting, batch)
        return self.inner.value(setting, batch, prepared)


def order(length: InTurns, batch_size: int) -> list[tuple[str, list[int]]]:
    """The role and the rows of each step."""
    seen: list[tuple[str, list[int]]] = []

    def look(name: str) -> Watched:
        return Watched(lambda _, batch: seen.append((name, batch[ROW].tolist())), Loss())

    player = Player(forget=look("forget"), retain=look("retain"), optimiser=SGD(0.0))
    Descent(player, length=length, batch_size=batch_size).minimise(digits_problem(), Run())
    return seen


@pytest.mark.parametrize("first", [Role.FORGET, Role.RETAIN])
def test_passes_take_turns_and_each_visits_every_row_once(first: Role) -> None:
    other = Role.RETAIN if first is Role.FORGET else Role.FORGET
    seen = order(InTurns(3, (Turn(first, 2), Turn(other))), 32)
    names = [name for i, (name, _) in enumerate(seen) if i == 0 or seen[i - 1][0] != name]
    assert names == [first.value, other.value, first.value, other.value]
    data = digits_problem().data
    visits = {role: [r for n, rows in seen if n == role.value for r in rows] for role in data}
    assert sorted(visits[first]) == sorted(2 * list(range(len(data[first]))))
    assert sorted(visits[other]) == sorted(3 * list(range(len(data[other]))))


def test_a_term_on_no_rows_acts_in_every_turn() -> None:
    steps: list[int] = []
    watched = Watched(lambda s, _: steps.append(s.step), L1Norm())
    player = Player(
        forget=Ascent(), retain=Loss(), others={"l1": On(NoRows(), watched)}, optimiser=SGD(1e-3)
    )
    found = Descent(player, length=InTurns(1), batch_size=64).minimise(digits_problem(), Run())
    assert steps == list(range(found.steps))


def test_the_rows_of_a_role_whose_term_is_off_are_counted_and_not_read() -> None:
    player = Player(forget=Ascent(0.1), retain=Loss(0.0), optimiser=SGD(0.05))
    descent = Descent(player, length=InTurns(1), batch_size=64)
    assert descent.access == Access({Role.FORGET: None, Role.RETAIN: frozenset()})
    run, problem = Run(), digits_problem()
    alone = Descent(player, length=Epochs(1), batch_size=64).minimise(problem, Run())
    found = descent.minimise(problem.opened(descent.access), run)
    assert run.meter.touched == {"forget": len(problem.data[Role.FORGET])}
    assert digest_of(found.model) == digest_of(alone.model)


def test_a_pool_mixes_its_roles_and_says_of_which_each_row_is() -> None:
    problem, seen = digits_problem(), []
    pool = Pool((Role.FORGET, Role.RETAIN))
    run = Run()

    def look(setting: Setting, batch: Batch) -> None:
        seen.append(batch)
        assert torch.equal(batch[PART] == 0, batch["label"] == 3)

    player = Player(others={"both": On(pool, Watched(look, Loss()))}, optimiser=SGD(0.0))
    descent = Descent(player, length=Epochs(2, of=pool), batch_size=64)
    assert descent.access == Access.to(Role.FORGET, Role.RETAIN)
    descent.minimise(problem, run)
    counts = {role.value: len(problem.data[role]) for role in pool.roles}
    assert run.meter.touched == {name: 2 * count for name, count in counts.items()}
    rows = torch.cat([batch[ROW] for batch in seen])
    assert sorted(rows.tolist()) == sorted(2 * list(range(sum(counts.values()))))
    assert sum(0 < int(batch[PART].sum()) < len(batch[PART]) for batch in seen) >= len(seen) - 1


def test_a_pool_gives_the_rows_in_the_order_that_was_asked_for() -> None:
    whole = digits()
    parts = [whole.select(torch.arange(7)), whole.select(torch.arange(7, 30))]
    pooled, rows = Pooled.of(*parts), torch.tensor([29, 0, 6, 7, 3, 12])
    for samples in (pooled, pooled.select(torch.arange(30))):
        batch = samples.batch(rows)
        assert torch.equal(batch["image"], whole.batch(rows)["image"])
        assert batch[PART].tolist() == [1, 0, 0, 1, 0, 1]
    assert list(pooled.ids) == list(whole.ids[:30])


# ---- schedules and penalties ----


def test_the_line_of_the_corrective_benchmark_ends_at_a_fifth() -> None:
    shares = [Linear(0.01, 1.25).share(step, 1000) for step in range(1001)]
    assert shares[10] == 1.0
    assert max(shares) == 1.0
    assert shares[510] == pytest.approx(1 - 500 / 1250)
    assert shares[1000] == pytest.approx(0.208)


def test_the_penalty_falls_by_epochs_to_one_share_and_not_to_zero() -> None:
    shares = [Stairs(10).share(step, 50) for step in range(50)]
    assert shares[:6] == [1, 1, 1, 1, 1, 0.9]
    assert shares[-1] == pytest.approx(0.1)
    free = [Stairs(10, free=4).share(step, 50) for step in range(50)]
    assert free[29] == pytest.approx(1 / 6)
    assert not any(free[30:])


def test_drops_are_by_one_factor_after_equal_parts() -> None:
    shares = [Drops(3).share(step, 30) for step in range(30)]
    assert shares[:10] == [1.0] * 10
    assert shares[10:20] == pytest.approx([0.1] * 10)
    assert shares[20:] == pytest.approx([0.01] * 10)


def test_the_l1_norm_is_of_all_parameters_and_its_slope_their_sign() -> None:
    values: list[Tensor] = []

    class Kept(L1Norm):
        def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
            values.append(super().value(setting, batch, prepared))
            return values[-1]

    problem = digits_problem()
    player = Player(others={"l1": On(NoRows(), Kept(2.0))}, optimiser=SGD(0.25))
    after = Descent(player, length=Epochs(1, of=Role.FORGET), batch_size=64).minimise(
        problem, Run()
    )
    norm = sum(float(p.detach().abs().sum()) for p in problem.model.parameters())
    assert float(values[0].detach()) == pytest.approx(norm)
    for new, old in zip(after.model.parameters(), problem.model.parameters(), strict=True):
        assert torch.allclose(new, old - 0.25 * 2.0 * old.sign(), atol=1e-6)


def test_the_l1_norm_of_weights_in_half_precision_is_finite() -> None:
    half = nn.Linear(1000, 1000, bias=False).half()
    nn.init.ones_(half.weight)  # a sum of 1e6, where half precision ends at 65,504
    setting = Setting(digits_problem(), {"model": half}, lambda: half, Run())
    assert float(L1Norm().value(setting, {}, None).detach()) == 1e6


# ---- neutral targets, and what is at rest ----


def test_neutral_targets_are_never_the_own_label_and_are_drawn_anew() -> None:
    seen: list[Tensor] = []

    class Listening(Classifier):
        def neutral(self, batch: Batch, generator: torch.Generator) -> Batch:
            found = super().neutral(batch, generator)
            seen.append(found["label"])
            return found

    problem = digits_problem(family=Listening(classes=10))
    player = Player(forget=NeutralTargets(), optimiser=SGD(0.0))
    Descent(player, length=Epochs(40), batch_size=64).minimise(problem, Run())
    drawn = torch.stack(seen)
    assert set(drawn.reshape(-1).tolist()) == set(range(10)) - {3}
    assert not torch.equal(drawn[0], drawn[1])


class Normed(nn.Sequential):
    """A prefix with batch norm and dropout, and a head."""

    def __init__(self) -> None:
        torch.manual_seed(2)
        prefix = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
        later = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))
        super().__init__(prefix, later, nn.Linear(16, 10))

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self[2](self[1](self[0](image.flatten(1))))
        return found


def test_a_submodule_of_which_nothing_moves_rests_in_evaluation_mode() -> None:
    modes: set[tuple[bool, ...]] = set()
    watched = Watched(lambda s, _: modes.add(tuple(m.training for m in s.model.modules())), Loss())
    player = Player(retain=watched, parameters=Matching(("1.1.", "2.")), optimiser=SGD(0.1))
    problem = digits_problem(Normed())
    after = Descent(player, length=Epochs(1, Role.RETAIN)).minimise(problem, Run()).model
    #          model  [0    linear norm  dropout] [1   linear norm]  head
    assert modes == {(True, False, False, False, False, True, False, True, True)}
    statistics = {n: b for n, b in after.named_buffers() if "running" in n}
    before = dict(problem.model.named_buffers())
    assert {n for n, b in statistics.items() if not torch.equal(b, before[n])} == {
        "1.1.running_mean",
        "1.1.running_var",
    }
    assert all(m.training for m in after.modules())


def test_with_one_turn_a_descent_is_the_passes_over_that_role() -> None:
    problem = digits_problem()
    player = Player(forget=Ascent(0.1), optimiser=SGD(0.05, 0.9))
    turns = Descent(player, length=InTurns(3, (Turn(Role.FORGET),)), batch_size=16)
    passes = Descent(player, length=Epochs(3), batch_size=16)
    ended = [descent.minimise(problem, Run()).model for descent in (turns, passes)]
    assert digest_of(ended[0]) == digest_of(ended[1])


def test_pooled_samples_hold_the_fields_that_all_parts_have() -> None:
    some = digits().select(torch.arange(4))
    more = TensorSamples(["x"], ["x"], {"image": some.columns["image"][:1]})
    assert Pooled.of(some, more).fields == {"image"}
    assert set(Pooled.of(some, more).batch(torch.tensor([4, 1]))) == {"image", ROW, PART}


def test_a_descent_in_turns_under_a_mask_and_on_a_pool_resumes_in_its_bits(tmp_path: Path) -> None:
    pool = Pool((Role.FORGET, Role.RETAIN))

    def descent(stop_at: int | None) -> Descent:
        def stop(setting: Setting, batch: Batch) -> None:
            if setting.step == stop_at:
                raise KeyboardInterrupt

        player = Player(
            forget=NeutralTargets(),
            retain=Loss(),
            others={
                "both": On(pool, Watched(stop, Divergence(temperature=2.0))),
                "l1": On(NoRows(), L1Norm(1e-3, Stairs(3))),
            },
            parameters=Saliency(0.3),
            optimiser=SGD(0.1, 0.9, 1e-3, schedule=Linear(0.1, 1.25)),
        )
        return Descent(player, length=Epochs(3, of=pool), batch_size=32)

    problem = digits_problem()
    whole = descent(None).minimise(problem, Run()).model
    run = Run(checkpoints=tmp_path, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        descent(18).minimise(problem, run)
    assert digest_of(descent(None).minimise(problem, run).model) == digest_of(whole)
