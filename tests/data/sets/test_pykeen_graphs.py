"""Knowledge graphs: triples and splits of the files, and the three whole graphs."""

from pathlib import Path

import pytest

from expunge.data import catalogue
from expunge.data.sets import pykeen_graphs as graphs
from expunge.errors import IntegrityError

FILES = {
    "train": "cat\teats\tmouse\ncat\tlikes\tmilk\n",
    "valid": "dog\teats\tbone\n",
    "test": "mouse\tfears\tcat\n",
}


def source(root: Path, **changed: str) -> dict[str, Path]:
    folder = root / "pykeen" / "datasets" / "umls"
    folder.mkdir(parents=True)
    for part, text in (FILES | changed).items():
        (folder / f"{part}.txt").write_text(text, encoding="utf-8")
    return {graphs.PACKAGE.name: root}


def test_triples_keep_the_splits_of_their_files(tmp_path: Path) -> None:
    table = graphs.table("umls", source(tmp_path))
    assert table["split"][:] == ["train", "train", "validation", "test"]
    assert table["id"][:2] == ["pykeen-umls:train/00000", "pykeen-umls:train/00001"]
    last = table[3]
    assert (last["head"], last["relation"], last["tail"]) == ("mouse", "fears", "cat")
    assert table["subject"][:] == table["head"][:]


@pytest.mark.parametrize("text", ["cat\teats\n", "a\tb\tc\n\n", "a\tb\tc\td\n"])
def test_a_line_that_is_no_triple_is_refused_with_its_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(IntegrityError, match=r"Line [12] of .*valid.txt has [124] fields"):
        graphs.table("umls", source(tmp_path, valid=text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    sources = source(tmp_path)
    (tmp_path / "pykeen/datasets/umls/test.txt").unlink()
    with pytest.raises(IntegrityError, match=r"test\.txt of a graph cannot be read"):
        graphs.table("umls", sources)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parts", "entities", "relations"),
    [
        ("nations", (1592, 199, 201), 14, 55),
        ("kinships", (8544, 1068, 1074), 104, 25),
        ("umls", (5216, 652, 661), 135, 46),
    ],
)
def test_the_whole_graph(
    name: str, parts: tuple[int, int, int], entities: int, relations: int
) -> None:
    prepared = catalogue.fetched(f"pykeen-{name}")
    table = prepared.load()
    assert prepared.digest == prepared.entry.digest
    assert tuple(len(prepared.load(s)) for s in ("train", "validation", "test")) == parts
    triples = list(zip(table["head"][:], table["relation"][:], table["tail"][:], strict=True))
    assert len(set(triples)) == len(triples)
    assert len({end for head, _, tail in triples for end in (head, tail)}) == entities
    assert len({relation for _, relation, _ in triples}) == relations
    # No entity and no relation of the test split is unknown from training.
    seen = {end for row in prepared.load("train") for end in (row["head"], row["tail"])}
    assert {end for row in prepared.load("test") for end in (row["head"], row["tail"])} <= seen
