"""The planted-duplicate benchmark: what is counted how, and what the shipped sets give."""

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from expunge.audit.finding import measured_recall
from expunge.benchmarks.near_duplicates import (
    Pool,
    emoji_texts,
    figures,
    part_of,
    plant,
    recalls,
    tables,
    tried,
)
from expunge.benchmarks.planted_copies import CLAIMED, TEXT_CLAIMED, TEXT_COPIES, paraphrased
from expunge.data.duplicates import keys
from expunge.data.duplicates.exact import ExactCopy
from expunge.data.duplicates.pictures import NearPicture
from expunge.data.duplicates.text import Texts
from expunge.errors import ExpungeError
from expunge.signals.accuracy import binomial_interval


def test_copies_are_counted_once_and_pairs_alike_before_apart() -> None:
    values = ["one two three four five", "one two three four five", "one two three four six"]
    group = [g for g in ("a", "b", "c", "d", "e") if part_of(g) == "test"][:1] * 3
    pool = Pool(
        "three",
        values,
        group,
        {"exact": lambda text, _: text},
        ("exact",),
        Texts.of,
        (ExactCopy(),),
        lambda row: {1 - row} if row < 2 else set(),
    )
    planted = plant(pool, "test", 0, 1)
    trial = tried(pool, planted, pool.detectors)
    twin = values[planted.originals[0]] == values[0]
    assert [bool(f) for f in trial.found["exact"]] == [True]
    assert list(trial.before) == [int(twin)]
    assert list(trial.false) == [0]


def test_the_validation_and_test_originals_share_no_group() -> None:
    pool = emoji_texts()
    halves = [
        [row for seed in (0, 1) for row in pool.originals(part, seed, 50)]
        for part in ("validation", "test")
    ]
    assert [len(set(rows)) for rows in halves] == [100, 100]
    one, other = ({pool.group[row] for row in rows} for rows in halves)
    assert not one & other


def _pool(values: Sequence[str], group: Sequence[str], copy: Callable[[str], str]) -> Pool:
    copies = {"exact": lambda text, _: text, "changed": lambda text, _: copy(text)}
    detectors = (ExactCopy(),)
    return Pool("some", values, group, copies, ("exact",), Texts.of, detectors, lambda _: set())


def _groups() -> tuple[str, str]:
    """A group of the test half and one of the validation half."""
    halves = {part_of(name): name for name in "abcdefgh"}
    return halves["test"], halves["validation"]


def test_false_flags_on_rows_of_the_other_half_are_counted() -> None:
    test, validation = _groups()
    pool = _pool(["one two three four five"] * 3, [test, test, validation], str)
    found = figures(pool, [plant(pool, "test", 0, 2)], pool.detectors)
    assert (found["false"], found["false across halves"]) == (4, 2)
    assert found["kinds"]["exact"]["precision"] == pytest.approx(1 / 3)


def test_the_exact_copy_of_another_original_is_a_false_flag_and_its_other_copies_are_none() -> None:
    test, validation = _groups()
    pool = _pool([*["one two three four five"] * 2, "another"], [test, test, validation], str)
    found = figures(pool, [plant(pool, "test", 0, 2)], pool.detectors)
    assert found["false"] == 2


def test_a_precision_of_zero_has_an_interval_too() -> None:
    test, validation = _groups()
    groups = [test, test, validation]
    same = _pool([*["one two three four five"] * 2, "z"], groups, lambda text: text[::-1])
    wrong = figures(same, [plant(same, "test", 0, 2)], same.detectors)["kinds"]["changed"]
    assert wrong["precision"] == wrong["precision low"] == 0
    assert wrong["precision high"] == pytest.approx(binomial_interval(0, 2).high)
    apart = _pool(["one two three four five", "a b c d e", "z"], groups, lambda text: text[::-1])
    silent = figures(apart, [plant(apart, "test", 0, 2)], apart.detectors)["kinds"]["changed"]
    assert (silent["precision low"], silent["precision high"]) == (0, 1)


def test_the_shipped_recall_is_of_the_claimed_kinds_and_of_the_shipped_thresholds() -> None:
    recall = measured_recall()
    assert {content: set(pools) for content, pools in recall.items()} == {
        "pictures": {"emoji drawings", "handwritten digits"},
        "texts": {"names and tags of emoji", "e-mails"},
    }
    for content, pools in recall.items():
        for kinds in pools.values():
            assert set(kinds) == set(CLAIMED[content]), "run scripts/measured_copies.py"
            assert all(0 <= f["low"] <= f["recall"] <= f["high"] <= 1 for f in kinds.values())
    shipped = json.loads((Path(keys.__file__).parent / "measured.json").read_text())["detectors"]
    detectors = {"pictures": (ExactCopy(), NearPicture()), "texts": emoji_texts().detectors}
    assert shipped == {
        content: {d.name: dataclasses.asdict(d) for d in used}
        for content, used in detectors.items()
    }


def test_a_quick_run_is_not_shipped() -> None:
    figure = {"claimed": True, "recall": 0.5, "recall low": 0.4, "recall high": 0.6}
    pool = {"test": {"kinds": dict.fromkeys(TEXT_CLAIMED, figure)}, "detectors": {"exact": {}}}
    full = {"pools": {"some": {**pool, "thresholds, on validation": [{"detector": "minhash"}]}}}
    (kinds,) = recalls(full)["recall"]["texts"].values()
    assert kinds[TEXT_CLAIMED[0]] == {"recall": 0.5, "low": 0.4, "high": 0.6}
    with pytest.raises(ExpungeError, match="--full"):
        recalls({"pools": {"some": {**pool, "thresholds, on validation": []}}})


def test_a_paraphrase_changes_the_share_of_words_that_it_says() -> None:
    text = " ".join(f"w{i}" for i in range(200))
    copy = paraphrased(0.1)(text, random.Random(0)).split()
    kept = set(text.split()) & set(copy)
    moved = sum(a != b for a, b in zip(text.split(), copy, strict=False))
    assert 180 <= len(kept) < 200
    assert moved > 0


def test_shipped_texts_are_found_whatever_their_case_and_punctuation() -> None:
    pool = emoji_texts()
    found = figures(pool, [plant(pool, "test", 0, 60)], pool.detectors)
    for kind in ("exact", "re-cased", "spaces, punctuation"):
        assert found["kinds"][kind]["recall"] == 1.0
        assert found["kinds"][kind]["precision"] > 0.9
    assert found["kinds"]["paraphrase, 40 % of words"]["recall"] < 0.6
    ((_, _, rows, below),) = tables({"pools": {pool.name: {"test": found}}})
    assert [row[0] for row in rows if not str(row[0]).startswith("(")] == list(TEXT_CLAIMED)
    assert f"{found['false']} false flags" in below


@pytest.mark.parametrize("kind", TEXT_COPIES)
def test_the_same_seed_makes_the_same_copy(kind: str) -> None:
    make = TEXT_COPIES[kind]
    text = "the quick brown fox, jumps over the lazy dog and all of its friends"
    assert make(text, random.Random(3)) == make(text, random.Random(3))
