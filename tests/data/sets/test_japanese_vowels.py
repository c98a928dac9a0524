"""Japanese Vowels: series, speakers and splits of a small file, and the whole set."""

from pathlib import Path

import numpy as np
import pytest

from expunge.data import catalogue
from expunge.data.sets import japanese_vowels as vowels
from expunge.errors import IntegrityError

HEAD = "#a comment\n@classLabel true 1 2 3 4 5 6 7 8 9\n@data\n"


def utterance(speaker: object, length: int = 3, series: int = 12) -> str:
    return ":".join([*(",".join([f"0.{i}"] * length) for i in range(series)), str(speaker)]) + "\n"


def source(folder: Path, train: str, test: str = HEAD) -> dict[str, Path]:
    root = folder / "sktime/datasets/data/JapaneseVowels"
    root.mkdir(parents=True)
    (root / "JapaneseVowels_TRAIN.ts").write_text(train)
    (root / "JapaneseVowels_TEST.ts").write_text(test)
    return {vowels.PACKAGE.name: folder}


def test_utterances_are_twelve_series_of_their_own_length(tmp_path: Path) -> None:
    train = HEAD + utterance(1) * 6
    made = vowels.table(source(tmp_path, train, HEAD + utterance(9, length=5)))
    assert made["split"][:] == ["train"] * 5 + ["validation", "test"]
    last = made[-1]
    assert last["id"] == "japanese-vowels:test/000"
    assert (last["subject"], last["label"], last["length"]) == ("speaker 9", 8, 5)
    assert np.array(last["cepstra"]).shape == (12, 5)
    assert last["cepstra"][3] == [0.3] * 5


@pytest.mark.parametrize(
    "line", [utterance(10), utterance("x"), utterance(1, series=11), "0.1,:1\n", "1,2:3:1\n"]
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(IntegrityError, match=r"Line 4 of JapaneseVowels_TRAIN.ts"):
        vowels.table(source(tmp_path, HEAD + line))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"JapaneseVowels_TRAIN.ts cannot be read"):
        vowels.table({vowels.PACKAGE.name: tmp_path})


@pytest.mark.slow
def test_the_whole_set() -> None:
    made = catalogue.fetched("japanese-vowels").load()
    by_split = {s: made.filter(lambda row, s=s: row["split"] == s) for s in set(made["split"])}
    assert {s: len(rows) for s, rows in by_split.items()} == {
        "train": 225, "validation": 45, "test": 370,
    }  # fmt: skip
    assert np.bincount(by_split["train"]["label"][:]).tolist() == [25] * 9
    assert np.bincount(by_split["validation"]["label"][:]).tolist() == [5] * 9
    assert np.bincount(by_split["test"]["label"][:]).tolist() == [
        31,
        35,
        88,
        44,
        29,
        24,
        40,
        50,
        29,
    ]
    assert (min(made["length"]), max(made["length"])) == (7, 29)
    assert made[0]["cepstra"][0][:2] == [1.860936, 1.891651]
