"""The benchmark of concepts: one budget for all halves, and a verdict that can go either way."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.concepts import tables, work
from expunge.benchmarks.concepts.protocol import COST, Protocol, chosen, right, verdict
from expunge.benchmarks.concepts.work import (
    BATCH,
    CONCEPTS,
    DRAWN,
    HALVES,
    LADDER,
    LEFT,
    NEAREST,
    ONCE,
    POISONED,
    SURE,
    TUNED,
    WHOLE,
    Laddering,
    Making,
    Place,
    Prepared,
    Reading,
    rows_of,
)
from expunge.benchmarks.concepts.worlds import ConceptWorld, concept_world
from expunge.benchmarks.jobs import key_of
from expunge.changes.weights import digest_of
from expunge.descent.length import batches_of
from expunge.errors import ExpungeError
from expunge.learning.supervised.plain import Plain
from expunge.methods.concept_poisoning import ConceptPoisoning, MostAttributed
from expunge.methods.protocol import unlearn
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import predict

QUICK = Plain(6, 64)
"""A training that is long enough for digits to be told apart."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The digits, trained for a fifth of the passes and poisoned for four."""
    its = concept_world("digits")
    recipe = replace(its.world.recipe, learner=QUICK)
    world = replace(its.world, recipe=recipe)
    small = ConceptWorld(world, its.concepts, its.target, its.rates, epochs=4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work, "concept_world", lambda name: small)
        yield Place("digits", small.world.digest, tmp_path_factory.mktemp("concepts"))


@pytest.fixture(scope="module")
def prepared(place: Place) -> Prepared:
    return Prepared.of(place, 0)


# ---- the budget ----


def test_all_halves_have_as_many_rows_and_all_rows_of_poison_as_many_steps(
    prepared: Prepared,
) -> None:
    half, whole = 55, 110
    for row in POISONED:
        methods = prepared.methods(row, 0.01)
        assert len(methods) == (HALVES if row == DRAWN else 1)
        for method in methods:
            assert isinstance(method, ConceptPoisoning)
            rows = method.carriers.rows(prepared.found, Run())
            assert len(rows) == (whole if row == WHOLE else half)
            assert torch.equal(rows, torch.unique(rows))
            steps = method.epochs * batches_of(len(rows), BATCH)
            assert abs(steps - 4 * batches_of(half, BATCH)) <= batches_of(whole, BATCH) / 2
            assert (method.learning_rate, method.retain_ratio) == (0.01, 4.0)


def test_the_concept_half_is_the_one_that_the_method_chooses_itself(prepared: Prepared) -> None:
    [method] = prepared.methods(CONCEPTS, 0.01)
    assert isinstance(method, ConceptPoisoning)
    itself = replace(method, carriers=MostAttributed())
    by_itself = unlearn(itself, prepared.problem, Run(0)).applied_to(prepared.problem.model)
    assert digest_of(prepared.answered(method)) == digest_of(by_itself)


def test_the_controls_are_the_rest_and_the_most_confident_rows(prepared: Prepared) -> None:
    def rows(row: str) -> set[int]:
        [half] = prepared.halves(row)
        return set(half.rows(prepared.found, Run()).tolist())

    assert rows(LEFT) == set(range(110)) - rows(CONCEPTS)
    problem = prepared.problem
    asked = predict(problem.family, problem.model, problem.data[Role.FORGET], Run())
    logits = asked.logits[0].double()
    others = logits.clone()
    others[:, 3] = float("-inf")
    odds = logits[:, 3] - others.logsumexp(1)
    assert min(odds[sorted(rows(SURE))]) >= max(odds[sorted(set(range(110)) - rows(SURE))])
    assert rows(NEAREST) == rows(ONCE) == rows(CONCEPTS)


def test_random_halves_differ_from_each_other(prepared: Prepared) -> None:
    halves = [half.rows(prepared.found, Run()).tolist() for half in prepared.halves(DRAWN)]
    assert len({tuple(half) for half in halves}) == HALVES


# ---- jobs ----


def test_an_oracle_never_sees_the_class(place: Place) -> None:
    assert Making(place, True, 0).done()["rows"] == 1078 - 110
    assert Making(place, False, 0).done()["rows"] == 1078
    kept = [Making(place, oracle, 0).model() for oracle in (True, True, False)]
    assert digest_of(kept[0]) == digest_of(kept[1]) != digest_of(kept[2])


def test_jobs_are_found_again_under_what_they_depend_on(place: Place) -> None:
    jobs: list[Making | Laddering | Reading] = [
        Making(place, False, 0),
        Making(place, True, 0),
        Making(place, True, 1),
        Laddering(place, 0.01, 0, "code"),
        Laddering(place, 0.02, 0, "code"),
        Laddering(place, 0.01, 0, "other code"),
        Reading(place, 0.01, 0, 3, "code"),
        Reading(place, 0.01, 0, 2, "code"),
    ]
    assert len({key_of(job) for job in jobs}) == len(jobs)


def test_what_is_read_is_shown(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ladder of two seeds, and the figures of one, as the tables print them."""
    monkeypatch.setattr(work, "HALVES", 1)
    found = [Laddering(place, 0.03, seed, "code").done()["rows"] for seed in (0, 1)]
    assert set(found[0]) == set(LADDER)
    for level in found:
        assert right(level, WHOLE, "test", "class") < 0.9
        assert 0.5 < right(level, CONCEPTS, "test", "others") <= 1
    readings = [Reading(place, 0.03, 0, 2, "code").done()]
    rows = readings[0]["rows"]
    assert set(rows) == {"original", "oracle", TUNED, *POISONED}
    assert rows["original"][0]["class"] > 0.8
    assert rows["oracle"][0]["class"] == rows["oracle"][0]["forget"] == 0
    assert rows[TUNED][0]["class"] > rows[WHOLE][0]["class"]  # the same steps without the poison
    assert rows["oracle"][0]["probe"] > 0.8  # of a class that it never saw
    assert rows["original"][0]["activation distance"] > rows["oracle"][0]["activation distance"]
    for half in rows[WHOLE]:
        assert half["to one class"] <= 1 - half["class"] + 1e-9
        assert half["to the fixed"] <= half["to one class"]
    assert rows[work.FIXED][0]["to the fixed"] > rows[WHOLE][0]["to the fixed"]
    assert rows[WHOLE][0]["entropy"] > rows[work.FIXED][0]["entropy"]
    levels = {"0.03": found}
    its = {
        "request": "the threes",
        "rate": "0.03",
        "ladder": levels,
        "verdict": verdict(levels),
        "seeds": json.loads(json.dumps(readings)),
    }
    shown = tables.tables({"worlds": {"digits": its}})
    assert [len(one[2]) for one in shown] == [3 + len(POISONED)] * 2 + [1, 5]
    assert all(len(row) == len(columns) for _, columns, rows in shown for row in rows)
    assert "rows chosen by concepts forget better" in tables.sentences({"worlds": {"d": its}})[1]


# ---- choice and verdict ----


def level(
    concept: float, random: float, cost: float = 0.0, part: str = "test"
) -> Mapping[str, Any]:
    """One seed at one rate, where the confident half does as well as the concepts."""

    def half(held: float, others: float) -> Mapping[str, Mapping[str, float]]:
        sides = {"class": held, "others": others}
        return {"test": sides, "validation": sides, part: sides}

    return {
        CONCEPTS: [half(concept, 0.9 - cost)],
        SURE: [half(concept, 0.9)],
        LEFT: [half(1 - concept, 0.9)],
        DRAWN: [half(random - 0.1, 0.9), half(random + 0.1, 0.9)],
    }


@pytest.mark.parametrize(
    ("seeds", "cost", "said"),
    [
        ([(0.1, 0.2), (0.1, 0.3)], 0.0, "reproduced"),
        ([(0.1, 0.2), (0.1, 0.3)], 2 * COST, "reproduced at a cost"),
        ([(0.3, 0.2), (0.4, 0.3)], 0.0, "contradicted"),
        ([(0.1, 0.2), (0.4, 0.3)], 0.0, "not shown"),
    ],
)
def test_the_verdict_asks_every_seed(
    seeds: list[tuple[float, float]], cost: float, said: str
) -> None:
    levels = {rate: [level(*one, cost) for one in seeds] for rate in ("0.1", "1")}
    found = verdict(levels)
    assert found["verdict"] == said
    assert found["less"] == pytest.approx([random - concept for concept, random in seeds])
    assert found["cost"] == pytest.approx([cost, cost])
    assert found["beyond confidence"] == pytest.approx([0.0, 0.0])
    assert found["confident half"] == pytest.approx(found["less"])


def test_the_rate_is_the_one_that_suits_the_random_half() -> None:
    levels = {"low": [level(0.0, 0.5)], "high": [level(0.9, 0.2)]}
    assert chosen(levels) == "high"


def test_what_is_asked_for_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="no world 'flowers'"):
        Protocol(tmp_path, ("flowers",))
    with pytest.raises(ExpungeError, match="at least 2 seeds"):
        Protocol(tmp_path, seeds=1)
    with pytest.raises(ExpungeError, match="each world once"):
        Protocol(tmp_path, ("digits", "digits"))


def test_examples_are_rows_that_are_neither_trained_nor_measured_on() -> None:
    its, asked = concept_world("digits"), rows_of("digits", "test")
    examples = {name for rows in its.examples.values() for name in rows.ids}
    assert examples <= set(its.world.validation.ids)
    assert not examples & {*its.world.train.ids, *asked.others.ids, *asked.forget.ids}
    assert set(its.examples[Role.POSITIVE].subjects) == set(its.concepts)
