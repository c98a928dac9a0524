"""The membership benchmark: its pools and masks, its tables, and the order of the attacks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.membership import tables
from expunge.benchmarks.membership.pools import SETTINGS, Place, Pool, rows_of, shares_right
from expunge.benchmarks.membership.protocol import Protocol
from expunge.benchmarks.membership.work import (
    ASKED,
    EACH,
    MUTE,
    MUTED,
    NOTHING,
    RETRAIN,
    Attacking,
    Unlearning,
    forgotten_of,
    muted,
    setting_of,
)
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError
from expunge.learning.population import halves
from expunge.learning.supervised.plain import Plain
from expunge.signals.predictions import Predictions


def test_labels_are_redrawn_as_a_setting_says() -> None:
    for setting in SETTINGS:
        rows, clean = rows_of(setting, 0), rows_of(setting_of("clean"), 0)
        changed = rows.samples.columns["label"] != clean.samples.columns["label"]
        assert int(rows.redrawn.sum()) == round(setting.redrawn * len(rows.redrawn))
        assert not bool((changed & ~rows.redrawn).any())
        if setting.other:
            assert torch.equal(changed, rows.redrawn)


def test_models_forget_equally_many_rows_of_their_own() -> None:
    member, redrawn = halves(16, 400, seed=0), torch.arange(400) < 100
    forgotten = forgotten_of(member, redrawn, seed=0)
    assert not bool((forgotten & ~member).any())
    assert set(forgotten.sum(1).tolist()) == {EACH}
    assert int(forgotten.any(0).sum()) <= ASKED
    assert int((forgotten.any(0) & redrawn).sum()) <= ASKED // 2
    assert torch.equal(forgotten, forgotten_of(member, redrawn, seed=0))


def test_a_guard_hides_the_labels_of_what_each_model_forgot() -> None:
    logits = torch.zeros(2, 3, 4)
    found = Predictions(logits, torch.tensor([0, 1, 2]), ("a", "b"), ("x", "y", "z"), ("",) * 3)
    gone = torch.tensor([[True, False, False], [False, False, True]])
    hidden = muted(found, gone).logits
    assert hidden[0, 0].tolist() == [-MUTED, 0, 0, 0]
    assert hidden[1, 2].tolist() == [0, 0, -MUTED, 0]
    assert float(hidden.abs().sum()) == 2 * MUTED


def test_a_small_pool_is_trained_once_and_asked(tmp_path: Path) -> None:
    setting = SETTINGS[0]
    short = type(setting)("short", 0.3, False, Plain(2, 64, AdamW(5e-3)))
    pool = Pool(short, 0, 4, Place(tmp_path, "code"))
    found = pool.predictions()
    assert found.logits.shape == (4, 1797, 10)
    inside, outside = shares_right(found, pool.member)
    assert 0.2 < outside < inside + 0.1 < 0.9
    kept = pool.without(pool.member & (torch.arange(1797) < 20))
    assert len(kept) == 4
    assert not torch.equal(next(kept[0].parameters()), next(pool.trained()[0].parameters()))


def test_a_pool_has_enough_models(tmp_path: Path) -> None:
    for wrong in (8, 17):
        with pytest.raises(ExpungeError, match="an even number, 16 at least"):
            Protocol(tmp_path, models=wrong)


def _result() -> dict[str, Any]:
    figures = {"AUC": 0.75, "TPR": None}
    curve = [[0.001, 1.0], [0.0, 1.0]]
    attacked = {
        "trained": 0.9,
        "held out": 0.6,
        "attacks": {"loss": figures},
        "curves": dict.fromkeys(tables.DRAWN, curve),
    }
    scores = dict.fromkeys(("forgotten", "one-sided", "two-sided", "kept", "difference"), 0.5)
    left = {"scores": scores, "forget": 0.4, "retain": 0.8, "test": 0.6}
    return {
        "models": 32,
        "targets": 8,
        "asked": 80,
        "each": 20,
        "pools": {"noisy": [attacked, attacked]},
        "unlearning": {RETRAIN: [left, left], "broken": [{"failed": "it fell over"}]},
    }


def test_tables_show_what_there_is_and_say_what_failed() -> None:
    pool, left = tables.tables(_result())
    assert pool[2] == [["loss", "0.750±0.000", "-", "-", "-"]]
    assert [row[0] for row in left[2]] == [RETRAIN]
    assert "broken: it fell over" in left[3]
    assert tables.picture(_result()).startswith(b"\x89PNG")


@pytest.mark.slow
def test_attacks_stand_in_the_order_of_the_card(tmp_path: Path) -> None:
    place = Place(tmp_path, "code")
    attacks = Attacking(place, "noisy", 0, 32).done()["attacks"]
    auc = {name: found["AUC"] for name, found in attacks.items()}
    order = ["loss", "RMIA", "LiRA offline", "LiRA online", "LiRA, fixed variance"]
    assert sorted(order, key=lambda name: auc[name]) == order
    assert auc["LiRA online"] >= 0.72
    assert attacks["LiRA online"]["TPR"] >= 4 * attacks["loss"]["TPR"]

    def left(method: str) -> dict[str, float]:
        found: dict[str, float] = Unlearning(place, method, "", 0, 32).done()["scores"]
        return found

    assert abs(left(RETRAIN)["forgotten"] - 0.5) < 0.06
    assert left(NOTHING)["forgotten"] > 0.75
    assert left(MUTE)["one-sided"] < 0.5
    assert left(MUTE)["two-sided"] > 0.7


@pytest.mark.slow
def test_canaries_are_found(tmp_path: Path) -> None:
    place = Place(tmp_path, "code")
    attacks = Attacking(place, "canaries", 0, 32).done()["attacks"]
    assert attacks["LiRA, fixed variance"]["TPR of redrawn"] >= 0.5
    clean = Attacking(place, "clean", 0, 32).done()["attacks"]
    assert abs(clean["loss"]["AUC"] - 0.5) < 0.04
