"""The Debian package graph: what is read from an index, and the frozen copy of this machine."""

from pathlib import Path

import pytest

from expunge.data import catalogue
from expunge.data.sets import debian_graph as graph
from expunge.errors import IntegrityError

INDEX = """Package: sailor
Section: games
Maintainer: "Ada Mast" <ada@example.org>
Depends: libsea2 (>= 1.0), libsea2 (<< 2), chart | map, python3:any, nowhere
Recommends: chart, sailor
Description: a game of the sea
Tag: game::strategy, interface::graphical,
 role::program

Package: chart
Section: contrib/games
Maintainer: Harbour Team <harbour@example.org>
Description: charts of the sea
 Several lines tell more.

Package: libsea2
Section: libs
Maintainer: Ada Mast <ada@example.net>
Depends: chart-viewer|chart
Description: library of the sea

Package: python3
Section: libs
Maintainer: Harbour Team <harbour@example.org>
Description: a language
"""


def source(root: Path, index: str) -> dict[str, Path]:
    (root / "index.txt").write_text(index, encoding="utf-8")
    return {graph.INDEX.name: root}


def test_edges_are_the_first_alternatives_that_are_packages(tmp_path: Path) -> None:
    table = graph.table(source(tmp_path, INDEX))
    edges = dict(zip(table["name"][:], table["depends"][:], strict=True))
    assert edges["sailor"] == ["libsea2", "chart", "python3"]
    assert edges["libsea2"] == []  # its first alternative does not exist
    assert table["recommends"][3] == ["chart"]  # and not itself


def test_rows_are_in_the_order_of_the_names_with_section_tags_and_text(tmp_path: Path) -> None:
    table = graph.table(source(tmp_path, INDEX))
    assert table["name"][:] == ["chart", "libsea2", "python3", "sailor"]
    assert table.features["label"].names == ["games", "libs"]
    assert table["label"][:] == [0, 1, 1, 0]  # "contrib/games" is a part of games
    assert table["text"][0] == "charts of the sea\nSeveral lines tell more."
    assert table["tags"][3] == ["game::strategy", "interface::graphical", "role::program"]
    assert table["tags"][0] == []


def test_maintainers_have_no_addresses(tmp_path: Path) -> None:
    table = graph.table(source(tmp_path, INDEX))
    assert table["maintainer"][:] == ["Harbour Team", "Ada Mast", "Harbour Team", "Ada Mast"]


def test_the_order_of_the_index_does_not_matter(tmp_path: Path) -> None:
    turned = "\n\n".join(reversed(INDEX.strip().split("\n\n")))
    first = graph.table(source(tmp_path, INDEX)).to_list()
    assert graph.table(source(tmp_path, turned)).to_list() == first


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("\n", "index is empty"),
        (INDEX.replace("Section: libs\n", "", 1), "'libsea2' of the index lacks Section"),
        (INDEX + "\n" + INDEX, "'sailor' of the index comes twice"),
        (INDEX + "no colon\n", "'no colon', which is no field"),
    ],
)
def test_a_malformed_index_is_refused(tmp_path: Path, index: str, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        graph.table(source(tmp_path, index))


@pytest.mark.slow
def test_the_frozen_copy_of_this_machine() -> None:
    table = catalogue.fetched("debian-packages").load().with_format("arrow")[:]
    names, labels = table["name"].to_pylist(), table["label"].to_pylist()
    lists = (table["depends"].to_pylist(), table["recommends"].to_pylist())
    edges = {(a, b) for part in lists for a, more in zip(names, part, strict=True) for b in more}
    assert len(names) > 50_000
    assert len(edges) > 200_000
    assert {end for edge in edges for end in edge} <= set(names)
    assert not any("@" in name for name in table["maintainer"].to_pylist())
    # Packages depend on packages of their own section far more often than by chance.
    label = dict(zip(names, labels, strict=True))
    alike = sum(label[a] == label[b] for a, b in edges) / len(edges)
    chance = sum((labels.count(k) / len(labels)) ** 2 for k in set(labels))
    assert alike > 0.4
    assert chance < 0.1
