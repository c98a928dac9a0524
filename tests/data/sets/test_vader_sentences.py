"""VADER sentences: whose they are, equal ones in one split, damaged lines; and the whole set."""

import io
import tarfile
from pathlib import Path

import pytest

from expunge.data import catalogue
from expunge.data.prepared import Sources
from expunge.data.sets import vader_sentences
from expunge.errors import IntegrityError

SLICE = {
    "film": "1\t2.25\tA marvel.\r\n2\t-3.5\tWhat a waste.",
    "product": "1_1\t-0.9\tno picture.\r\n1_2\t0.1\tsame box.\r\n2_1\t0.1\tsame box.\r\n",
    "editorial": "7_1\t0.4\tThe city plans.",
    "tweet": "1\t1.5\tYay",
}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return packed(tmp_path, SLICE)


def packed(folder: Path, texts: dict[str, str]) -> Sources:
    path = folder / vader_sentences.ARCHIVE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for part, text in texts.items():
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/{vader_sentences.FILES[part]}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return {vader_sentences.PACKAGE.name: folder}


def test_a_sentence_belongs_to_its_review_or_article_or_to_itself(sources: Sources) -> None:
    made = vader_sentences.table(sources)
    assert len(made) == 7 and made["valence"][:2] == [2.25, -3.5]
    assert made["id"][2:4] == ["vader-sentences:product/1_1", "vader-sentences:product/1_2"]
    assert made["subject"][2:4] == ["vader-sentences:product/1"] * 2
    assert made["subject"][0] == made["id"][0] and made["subject"][6] == made["id"][6]


def test_equal_sentences_share_a_split(tmp_path: Path) -> None:
    lines = [f"{i}_1\t0.5\tsentence {i // 2}" for i in range(60)]
    made = vader_sentences.table(packed(tmp_path, {**SLICE, "product": "\r\n".join(lines)}))
    product = [s for s, p in zip(made["split"], made["part"], strict=True) if p == "product"]
    assert product[0::2] == product[1::2] and set(product) == {"train", "validation", "test"}


@pytest.mark.parametrize("line", ["1\t2.0", "1\tnan\tA text", "\t1.0\tA text", "1\tmuch\tA"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    sources = packed(tmp_path, {**SLICE, "tweet": f"1\t1.5\tYay\r\n{line}"})
    with pytest.raises(IntegrityError, match="Line 2 of tweets_GroundTruth"):
        vader_sentences.table(sources)


def test_a_missing_or_cut_file_is_an_error_of_the_package(tmp_path: Path) -> None:
    without = {part: text for part, text in SLICE.items() if part != "editorial"}
    with pytest.raises(IntegrityError, match="nytEditorialSnippets"):
        vader_sentences.table(packed(tmp_path, without))
    (tmp_path / vader_sentences.ARCHIVE).write_bytes(b"cut")
    with pytest.raises(IntegrityError, match="cannot be read"):
        vader_sentences.table({vader_sentences.PACKAGE.name: tmp_path})


@pytest.mark.slow
def test_the_whole_set() -> None:
    made = catalogue.fetched("vader-sentences").load()
    assert len(made) == 23_703 and len(set(made["subject"])) == 15_603
    assert -4 <= min(made["valence"]) < -3.8 and 3.8 < max(made["valence"]) <= 4
