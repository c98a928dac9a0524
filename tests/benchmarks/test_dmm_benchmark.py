"""The benchmark of datamodel matching: how it judges, and that its jobs fit together."""

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.dmm import tables
from expunge.benchmarks.dmm.protocol import Protocol, best, checks
from expunge.benchmarks.dmm.work import (
    BASELINES,
    FLOOR,
    MATCHED,
    MEANS,
    ORIGINAL,
    RIDGE,
    SHUFFLED,
    TRAK_ROW,
    Populating,
    Unlearning,
    compared,
)
from expunge.benchmarks.dmm.world import CLASS, FORGET, Place, rows, shuffled
from expunge.benchmarks.jobs import Job, key_of
from expunge.errors import ExpungeError
from expunge.learning.datamodels import DifferenceOfMeans, kept_answers
from expunge.learning.population import halves
from expunge.signals.predictions import Predictions


def row(forget: float, retain: float = 1.0) -> dict[str, Any]:
    one = {"mean": 0.5, "accuracy": 0.9}
    sets = {"forget": one | {"p95": forget}, "retain": one | {"p95": retain}, "validation": None}
    return {"sets": sets, "setting": "", "seconds": 1.0, "row": "some"}


def found(**changed: dict[str, Any]) -> dict[str, Any]:
    return {
        ORIGINAL: row(9.0),
        FLOOR: row(0.7),
        "gradient-ascent": row(6.0),
        f"{MATCHED}, {MEANS}": row(1.2),
        f"{MATCHED}, {RIDGE}": row(1.5),
        f"{MATCHED}, {SHUFFLED}": row(8.0),
        **changed,
    }


AGREE = {name: {"correlation": 0.9, "slope": 0.8, "scale": 0.7} for name in (MEANS, RIDGE)}


def test_what_is_expected_is_judged_by_what_was_measured() -> None:
    assert all(checks(found(), AGREE).values())
    matched = f"{MATCHED}, {MEANS}"
    assert not all(checks(found(**{matched: row(2.2)}), AGREE).values())  # above the floor
    assert not all(checks(found(**{matched: row(1.2, 2.0)}), AGREE).values())  # loses the rest
    assert not all(checks(found(**{f"{MATCHED}, {SHUFFLED}": row(2.0)}), AGREE).values())
    assert not all(checks(found(**{"gradient-ascent": row(3.0)}), AGREE).values())
    unlike = {**AGREE, RIDGE: {"correlation": 0.7}}
    assert list(checks(found(), unlike).values()).count(False) == 1


def test_the_best_rate_of_a_baseline_keeps_the_retain_rows() -> None:
    given = {
        "careful": row(8.0, 1.0),
        "better": row(5.0, 1.4),
        "lost": row(1.0, 5.0),
        "broken": {"row": "some", "failed": "not finite"},
    }
    assert best(given, "some") == "better"
    assert best({"lost": given["lost"], "worse": row(0.5, 9.0)}, "some") == "lost"


def test_the_forget_rows_are_alike_and_no_validation_row_is_trained_on() -> None:
    here = rows()
    labels, images = here.train.columns["label"], here.train.columns["image"].flatten(1)
    assert labels[here.forget].tolist() == [CLASS] * FORGET
    others = ((labels == CLASS).nonzero().reshape(-1)[:, None] != here.forget).all(1)
    other = images[(labels == CLASS).nonzero().reshape(-1)[others]]
    own = images[here.forget]
    assert torch.cdist(own, own).mean() < torch.cdist(own, other).mean()
    sets = here.sets
    assert not set(sets["validation"]) & {*sets["forget"], *sets["retain"]}
    assert len(sets["forget"]) + len(sets["retain"]) == len(here.train)


def test_shuffled_answers_say_the_effects_of_other_rows() -> None:
    member = halves(40, 10, 0)
    outputs = member.float().unsqueeze(2).repeat(1, 1, 2)  # each row helps itself alone
    artifact = kept_answers(member, outputs, [str(i) for i in range(10)])
    right = wrong = 0.0
    for i in range(10):
        for bundle, is_right in ((artifact, True), (shuffled(artifact), False)):
            weights = DifferenceOfMeans().weights(bundle.tensors["member"], [i])
            own = float((weights @ bundle.tensors["outputs"][:, i].double())[0])
            right, wrong = (right + own, wrong) if is_right else (right, wrong + own)
    assert right == pytest.approx(10.0)
    assert wrong < 5.0


def test_a_result_is_of_its_row_setting_and_numbers(tmp_path: Path) -> None:
    place = Place(tmp_path, "code")
    jobs: list[Job] = [
        Populating(place, "original", 20),
        Populating(place, "oracle", 20),
        Unlearning(place, MATCHED, MEANS, 20, 500),
        Unlearning(place, MATCHED, MEANS, 20, 1000),
        Unlearning(place, MATCHED, MEANS, 20, 500, 0.5),
        Unlearning(place, MATCHED, TRAK_ROW, 20, 500),
        Unlearning(Place(tmp_path, "other"), MATCHED, MEANS, 20, 500),
        *(Unlearning(place, n, rate, 20, 500) for n, rates in BASELINES.items() for rate in rates),
    ]
    assert len({key_of(job) for job in jobs}) == len(jobs)
    elsewhere = Populating(Place(tmp_path / "b", "code"), "original", 20)
    assert key_of(elsewhere) == key_of(jobs[0])


def test_sets_that_were_not_answered_have_no_figures() -> None:
    train = rows().train
    draws = torch.Generator().manual_seed(0)
    both = [
        Predictions(
            torch.randn(20, len(train), 10, generator=draws),
            train.columns["label"],
            tuple(f"{side} {i}" for i in range(20)),
            tuple(train.ids),
            tuple(train.subjects),
        )
        for side in "ab"
    ]
    result = compared(*both)
    assert result["validation"] is None
    assert result["forget"] is not None
    assert result["forget"]["mean"] > 0
    assert compared(both[0], both[0])["retain"] == {
        "p95": 0.0,
        "mean": 0.0,
        "accuracy": pytest.approx(0.1, abs=0.02),
    }


def test_numbers_without_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="10 models and 2000"):
        Protocol(tmp_path, models=10)
    with pytest.raises(ExpungeError, match="700 half-data"):
        Protocol(tmp_path, half_models=700)


def test_failed_rows_and_unanswered_sets_are_said() -> None:
    result = {
        "models": 20,
        "half-data models": 500,
        "rows": {"a": row(1.0), "b": {"row": "b", "setting": 0.1, "failed": "not finite"}},
        "attributions": AGREE,
        "seconds of training": 1.0,
        "checks": {"it is so": False},
    }
    (_, columns, lines), _ = tables.tables(result)
    assert [len(line) for line in lines] == [len(columns)] * 2
    assert lines[0][3] == "-"
    assert lines[1][:2] == ("b, rate 0.1", "failed")
    assert tables.sentences(result)[-1] == "NO: it is so"
