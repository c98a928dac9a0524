"""The planted-duplicate benchmark: what is counted how, and what the shipped sets give."""

import random
from collections.abc import Sequence

import pytest

from expunge.benchmarks.near_duplicates import (
    Pool,
    emoji_texts,
    figures,
    part_of,
    plant,
    tables,
    tried,
)
from expunge.benchmarks.planted_copies import TEXT_COPIES, paraphrased
from expunge.data.duplicates.exact import ExactCopy
from expunge.data.duplicates.text import Texts


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
    drawn = [pool.originals(part, seed, 50) for part in ("validation", "test") for seed in (0, 1)]
    assert len({row for rows in drawn for row in rows}) == 200


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
    shown: Sequence[object] = tables({"pools": {pool.name: {"test": found}}})
    assert len(shown) == 1


@pytest.mark.parametrize("kind", TEXT_COPIES)
def test_the_same_seed_makes_the_same_copy(kind: str) -> None:
    make = TEXT_COPIES[kind]
    text = "the quick brown fox, jumps over the lazy dog and all of its friends"
    assert make(text, random.Random(3)) == make(text, random.Random(3))
