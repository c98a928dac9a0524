"""Selective Amnesia: what moves, what stays to the bit, and how hard the retain loss brakes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from expunge.changes.weights import digest_of
from expunge.data.samples import Batch, TensorSamples, batches
from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.multipliers import BrakingLoss, Recorded
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player, Setting
from expunge.descent.retain_terms import Loss
from expunge.errors import ExpungeError
from expunge.methods.presets import AtPreset
from expunge.methods.protocol import missing, unlearn
from expunge.methods.pseudo_rehearsal import PseudoRehearsal
from expunge.methods.selective_amnesia import SelectiveAmnesia
from expunge.problem import Problem
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.causal_tracing import causal_trace, facts_of
from language_facts import problem, setting_of, shares

FAST = SelectiveAmnesia(copies=60, epochs=4, learning_rate=3e-3, batch_size=6)


def untold() -> Problem:
    """They do not."""
    given = problem()
    rows = given.data[Role.FORGET]
    assert isinstance(rows, TensorSamples)
    columns = {name: rows.columns[name] for name in ("input_ids", "labels")}
    bare = TensorSamples(rows.ids, rows.subjects, columns)
    return replace(given, data={**given.data, Role.FORGET: bare})


def moved(method: SelectiveAmnesia, given: Problem) -> set[str]:
    """Names of the tensors that are not the same to the bit."""
    after = unlearn(method, given, Run()).applied_to(given.model).state_dict()
    before = given.model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def mlps(layers: Sequence[int]) -> set[str]:
    parts = "gate_proj", "up_proj", "down_proj"
    return {f"model.layers.{layer}.mlp.{part}.weight" for layer in layers for part in parts}


def test_the_layer_with_the_largest_effect_moves_and_nothing_else_by_a_bit() -> None:
    given = problem()
    found = causal_trace(
        given.family, given.model, facts_of(given.data[Role.FORGET]), Run(), copies=60
    )
    effects = found.at("mlp")
    assert float((effects[0] - effects[1]).abs()) > 5e-3  # the choice is not one by chance
    assert moved(FAST, given) == mlps([int(effects.argmax())])
    assert moved(replace(FAST, count=2), given) == mlps([0, 1])


def test_given_layers_need_no_subjects() -> None:
    assert moved(replace(FAST, layers=(1,)), problem()) == mlps([1])
    with pytest.raises(ExpungeError, match="The field 'subject' of each row is needed"):
        unlearn(FAST, untold(), Run())
    with pytest.raises(ExpungeError, match="at least one fact and one layer"):
        replace(FAST, layers=())


def test_it_forgets_and_keeps() -> None:
    method = replace(FAST, layers=(0, 1), epochs=60, learning_rate=2e-3)
    forget, retain = shares(
        problem(), unlearn(method, problem(), Run()).applied_to(problem().model)
    )
    assert forget <= 0.25
    assert retain >= forget + 0.4


def test_the_brake_is_its_formula() -> None:
    brake = BrakingLoss()
    assert [round(brake.factor(d), 3) for d in (-1.0, 0.0, 0.1, 0.5, 0.8, 5.0, 1e6)] == [
        1.2,
        1.2,
        1.2,
        1.535,
        2.058,
        2.3,
        2.3,
    ]


def test_the_mean_is_over_rows_and_taken_in_the_first_epoch_alone() -> None:
    """A sum of batch means over the number of rows would be (1 + 4) / 4 rows = 1.25."""
    recorded = Recorded(2)
    for loss, rows in ((1.0, 1), (4.0, 3), (50.0, 3)):
        recorded.see(torch.tensor(loss), rows)
        recorded.stepped()
    assert recorded.mean == pytest.approx((1.0 + 12.0) / 4)
    assert not recorded.recording
    again = Recorded(2)
    again.restore(recorded.state())
    assert again.mean == recorded.mean and not again.recording


def test_a_batch_above_the_mean_weighs_more_and_the_factor_has_no_gradient() -> None:
    given = problem()
    setting, brake = setting_of(given), BrakingLoss(epochs=1)
    [batch] = batches(given.data[Role.RETAIN], 100)
    recorded = Recorded(1)
    loss = Loss().value(setting, batch, None)
    assert brake.value(setting, batch, recorded).item() == pytest.approx(1.2 * loss.item())
    recorded.stepped()
    recorded.total = recorded.total - 0.7 * recorded.rows  # as if the first epoch had been better
    assert brake.value(setting, batch, recorded).item() == pytest.approx(
        (0.3 * 6**0.7 + 0.8) * loss.item(), rel=1e-4
    )


@dataclass(frozen=True)
class BrokenOff(Ascent):
    """At step 9 the descent is broken off, once."""

    times: ClassVar[list[int]] = []

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        if setting.step == 9 and not BrokenOff.times and setting.run.checkpoints is not None:
            BrokenOff.times.append(9)
            raise KeyboardInterrupt
        return super().value(setting, batch, prepared)


def test_a_resumed_descent_ends_in_the_same_bits(tmp_path: Path) -> None:
    def end(run: Run) -> str:
        player = Player(forget=BrokenOff(), retain=BrakingLoss(3), optimiser=AdamW(1e-2))
        descent = Descent(player, length=Steps(12), batch_size=6)
        return digest_of(descent.minimise(problem(), run).model)

    run = Run(checkpoints=tmp_path, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        end(run)
    assert end(run) == end(Run())


def test_the_preset_ends_where_the_facts_are_gone_and_the_others_are_not() -> None:
    given = problem()
    method = SelectiveAmnesia(layers=(0,)).for_problem(given, Run())
    assert method.until is not None and method.until.kept is not None
    assert (method.layers, method.place) == ((0,), "last subject")  # as given, and the paper's
    lenient = replace(method, until=replace(method.until, kept=0.8))
    forget, retain = shares(given, unlearn(lenient, given, Run()).applied_to(given.model))
    assert forget <= 0.04
    assert retain >= 0.8
    with pytest.raises(ExpungeError, match=r"one of first subject, .* is expected"):
        replace(method, place="the subject")


def test_a_plan_is_told_that_subjects_are_missing() -> None:
    for method in (SelectiveAmnesia(), AtPreset.of(SelectiveAmnesia()), PseudoRehearsal()):
        assert missing(method, problem()) == ()
        [lack] = missing(method, untold())
        assert lack.clause.startswith("needs the field 'subject' of each row")
    assert missing(SelectiveAmnesia(layers=(0,)), untold()) == ()
