"""Open Clip Art: what metadata says, which drawings stay out, and the whole set."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expunge.data import catalogue
from expunge.data.sets import open_clip_art as clip
from expunge.errors import IntegrityError

pytest.importorskip("resvg_py")

PUBLIC = "http://web.resource.org/cc/PublicDomain"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10">
<metadata><r:RDF xmlns:cc="http://web.resource.org/cc/"
 xmlns:d="http://purl.org/dc/elements/1.1/"
 xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<cc:Work><d:title>{title}</d:title>
<d:subject><r:Bag><r:li>sea</r:li><r:li> salt
water </r:li><r:li/></r:Bag></d:subject>
<d:publisher><cc:Agent><d:title>Open Clip Art Library</d:title></cc:Agent></d:publisher>
<d:creator><cc:Agent><d:title>{author}</d:title></cc:Agent></d:creator>
<cc:license r:resource="{licence}"/></cc:Work></r:RDF></metadata>
<title>not this one</title><path fill="#00f" d="M0 0h20v10H0z"/></svg>"""


class Sources:
    """Two unpacked packages to which drawings are added one by one."""

    def __init__(self, root: Path) -> None:
        self.folders = {clip.DRAWINGS.name: root / "a", clip.PICTURES.name: root / "b"}
        self.svg = root / "a/usr/share/openclipart/svg"
        self.png = root / "b/usr/share/openclipart/png"

    def add(self, name: str, grey: int, svg: str | None = None) -> None:
        for folder in (self.svg, self.png):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = SVG.format(title="Fish &amp; chips", author="Ann", licence=PUBLIC)
        (self.svg / f"{name}.svg").write_text(text if svg is None else svg)
        Image.new("L", (200, 100), grey).save(self.png / f"{name}.png")

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"].partition(":")[2]: row for row in clip.table(self.folders)}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    made = Sources(tmp_path)
    made.add("food/fast/fish", 10)
    return made


def test_title_author_and_keywords_come_from_the_drawing_s_own_metadata(sources: Sources) -> None:
    row = sources.rows()["food/fast/fish"]
    assert row["title"] == "Fish & chips"
    assert row["author"] == row["subject"] == "Ann"
    assert row["tags"] == ["sea", "salt water"]
    assert row["category_path"] == ["food", "fast"]
    assert np.asarray(row["image"]).shape == (64, 128, 3)


def test_what_a_drawing_does_not_say_stays_missing(sources: Sources) -> None:
    sources.add("food/plain", 20, '<svg xmlns="http://www.w3.org/2000/svg"/>')
    sources.add("food/blank", 30, SVG.format(title="", author=" ", licence=""))
    found = sources.rows()
    for name in ("food/plain", "food/blank"):
        assert found[name]["title"] is None
        assert found[name]["author"] is None
        assert found[name]["subject"] == clip.UNKNOWN
    assert found["food/plain"]["tags"] == []


def test_links_repeated_and_blank_pictures_and_other_licences_stay_out(sources: Sources) -> None:
    gpl = SVG.format(
        title="Gnu", author="Bo", licence="http://creativecommons.org/licenses/GPL/2.0/"
    )
    sources.add("food/gnu", 40, gpl)
    sources.add("food/same", 10)
    sources.add("food/white", 255)
    sources.add("people/eater", 50)
    (sources.svg / "people/linked.svg").symlink_to("eater.svg")
    (sources.png / "people/linked.png").symlink_to("eater.png")
    sources.add("people/pictured", 60)
    (sources.png / "people/pictured.png").unlink()
    (sources.png / "people/pictured.png").symlink_to("eater.png")
    assert set(sources.rows()) == {"food/fast/fish", "people/eater"}


def test_a_picture_too_large_to_decode_is_drawn_anew(sources: Sources) -> None:
    path = sources.png / "food/fast/fish.png"
    raw = bytearray(path.read_bytes())
    raw[16:24] = struct.pack(">II", 20_990, 29_700)
    path.write_bytes(raw)
    picture = np.asarray(sources.rows()["food/fast/fish"]["image"])
    assert picture.shape == (64, 128, 3)
    assert picture[30, 60].tolist() == [0, 0, 255]


@pytest.mark.parametrize("name", ["fish.svg", "fish.png"])
@pytest.mark.parametrize("content", [b"", b"neither the one nor the other ..."])
def test_damaged_files_are_refused(sources: Sources, name: str, content: bytes) -> None:
    folder = sources.svg if name.endswith("svg") else sources.png
    (folder / "food/fast" / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=name):
        sources.rows()


@pytest.mark.slow
def test_the_whole_set_has_519_authors_and_no_picture_twice() -> None:
    found = catalogue.fetched("open-clip-art")
    assert found.digest == found.entry.digest
    table = found.load()
    assert len(table) == 6_814
    authors = list(table["author"])
    assert len(set(authors) - {None}) == 519
    assert authors.count(None) == 57
    assert authors.count("Danny Allen") == 816
    pictures = {(i.size, i.tobytes()) for i in (r["image"].convert("RGB") for r in table)}
    assert len(pictures) == len(table)
