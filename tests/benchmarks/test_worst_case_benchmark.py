"""The benchmark of worst-case forget sets: how it judges, and that its jobs fit together."""

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.jobs import Job, key_of
from expunge.benchmarks.worst_case import tables
from expunge.benchmarks.worst_case.protocol import Protocol, checks
from expunge.benchmarks.worst_case.work import (
    EASIEST,
    METHODS,
    NOISE,
    RANDOM,
    WORST,
    Answering,
    Choosing,
    Place,
    Retraining,
    digits,
)
from expunge.errors import ExpungeError
from expunge.recipe import Role


def sets(worst: float = 0.0, random: float = 0.08, noise: float = 0.0) -> dict[str, Any]:
    def one(wrong: float, noise: float) -> dict[str, Any]:
        both = {"UA of the retrained": [wrong, wrong], "wrong labels": [noise, noise]}
        return {**both, "start": [0.3, 0.3], "end": [0.1, 0.1]}

    return {WORST: one(worst, noise), RANDOM: one(random, NOISE), EASIEST: one(0.6, 0.5)}


def test_what_is_expected_is_judged_by_what_was_measured() -> None:
    assert all(checks(sets()).values())
    for wrong in (sets(worst=0.02), sets(random=0.04), sets(noise=0.02)):
        assert list(checks(wrong).values()).count(False) == 1
    ends_higher = sets()
    ends_higher[WORST]["end"] = [0.1, 0.4]
    assert not checks(ends_higher)["the objective ends below its start"]


def test_wrong_labels_are_wrong_and_differ_between_seeds(tmp_path: Path) -> None:
    clean = digits().data[Role.TRAIN]
    labels = clean.batch(torch.arange(len(clean)))["label"]
    first, second = (Place("as shipped", seed, tmp_path) for seed in (0, 1))
    assert torch.equal(first.train.columns["label"] != labels, first.wrong)
    assert int(first.wrong.sum()) == round(NOISE * len(clean))
    assert not torch.equal(first.wrong, second.wrong)


def test_a_result_is_of_its_rows_training_and_method(tmp_path: Path) -> None:
    place, rows = Place("as shipped", 0, tmp_path), (1, 2, 3)
    jobs: list[Job] = [
        Retraining(place, rows),
        Retraining(place, (1, 2, 4)),
        Retraining(Place("trained long", 0, tmp_path), rows),
        Retraining(Place("as shipped", 1, tmp_path), rows),
        *(Answering(place, rows, method) for method in METHODS),
        Choosing(place, WORST),
        Choosing(place, EASIEST),
        Choosing(place, RANDOM),
    ]
    assert len({key_of(job) for job in jobs}) == len(jobs)
    assert key_of(Retraining(Place("as shipped", 0, tmp_path / "b"), rows)) == key_of(jobs[0])


def test_one_seed_of_a_benchmark_without_seeds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="0 seeds"):
        Protocol(tmp_path, seeds=0)


def test_failed_methods_are_named_so_and_not_averaged() -> None:
    assert tables.percent([0.1, None]) == "failed"
    assert tables.percent([0.1]) == "10.0"
    assert tables.percent([0.1, 0.2]) == "15.0±7.1"


def test_a_method_answers_on_the_base_of_the_place(tmp_path: Path) -> None:
    place = Place("as shipped", 0, tmp_path)
    chosen = Choosing(place, RANDOM).done()
    assert chosen["overlap"] == place.budget
    found = Answering(place, tuple(chosen["rows"]), "fine-tune").done()
    assert set(found["figures"]) == {"UA", "RA", "TA", "LR-MIA"}
    assert found["figures"]["TA"] > 0.8


@pytest.mark.slow
def test_the_whole_benchmark_says_what_was_expected_and_goes_on_where_it_was(
    tmp_path: Path,
) -> None:
    protocol = Protocol(tmp_path, ("as shipped",), seeds=1, processes=2)
    told: list[bool] = []
    result = protocol.conduct(lambda title, stored: told.append(stored))
    assert all(result["trainings"]["as shipped"]["checks"].values())
    assert len(tables.tables(result)) == 5
    again: list[bool] = []
    assert protocol.conduct(lambda title, stored: again.append(stored)) == result
    assert all(again)
    assert len(again) == len(told)
