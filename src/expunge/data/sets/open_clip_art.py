"""Open Clip Art 0.18: drawings in the public domain with title, keywords, category and author.

Open Clip Art Library (2005). From the Debian packages ``openclipart-svg`` (what is said about each
drawing) and ``openclipart-png`` (the pictures).
"""

import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
from PIL import Image

from expunge.data.packages import Package, Registry
from expunge.data.pictures import drawn, png, stored
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

LICENCE = "CC-PDDC"
SIDE = 128  # pixels of the longer side; larger pictures are scaled down, none up
LARGEST = 20_000_000  # pixels; a larger picture is drawn anew instead of being decoded
PNG = b"\x89PNG\r\n\x1a\n"  # the bytes that every PNG file starts with
BLANK = ((255, 255),) * 3  # smallest and largest red, green and blue
UNKNOWN = "unknown"
"""The subject of a drawing whose author is not recorded."""

DC = "{http://purl.org/dc/elements/1.1/}"
CC = "{http://web.resource.org/cc/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


def _package(kind: str, sha256: str, size: int) -> Package:
    version = "1:0.18+dfsg-19"
    file = f"openclipart-{kind}_1%3a0.18+dfsg-19_all.deb"
    return Package(Registry.DEBIAN, f"openclipart-{kind}", version, file, sha256, size, LICENCE)


DRAWINGS = _package(
    "svg", "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5", 24_919_068
)
PICTURES = _package(
    "png", "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02", 130_910_028
)


@dataclass(frozen=True)
class About:
    """What a drawing's metadata says; None where it says nothing."""

    title: str | None = None
    author: str | None = None
    keywords: tuple[str, ...] = ()
    licence: str | None = None


def _text(element: ET.Element | None) -> str | None:
    """The text of an element on one line; None where it has none."""
    return " ".join("".join(element.itertext()).split()) or None if element is not None else None


def about(path: Path) -> About:
    """The Dublin Core metadata of an SVG file.

    Raises:
        IntegrityError: the file is no XML.
    """
    try:
        for _, element in ET.iterparse(path):
            if element.tag == f"{CC}Work":
                break
            if element.tag == "{http://www.w3.org/2000/svg}metadata":
                return About()
        else:
            return About()
    except (ET.ParseError, OSError) as error:
        raise IntegrityError(
            f"{path.name} of {DRAWINGS.name} cannot be read ({error}); fetch the package again."
        ) from None
    words = (_text(item) for item in element.iterfind(f"{DC}subject//{RDF}li"))
    licence = element.find(f"{CC}license")
    return About(
        _text(element.find(f"{DC}title")),
        _text(element.find(f"{DC}creator//{DC}title")),
        tuple(word for word in words if word is not None),
        None if licence is None else licence.get(f"{RDF}resource") or None,
    )


def _picture(path: Path, drawing: Path) -> Image.Image:
    """A picture on white, at most 128 pixels wide and high."""
    try:
        with open(path, "rb") as handle:
            start, width, height = struct.unpack(">8s8xII", handle.read(24))
        if start == PNG and width * height > LARGEST:
            return drawn(drawing.read_text(encoding="utf-8"), SIDE)
    except (struct.error, OSError, ValueError) as error:
        raise IntegrityError(
            f"{path.name} of {PICTURES.name} cannot be read ({error}); fetch the package again."
        ) from None
    return stored(path, SIDE)


def _rows(sources: Sources) -> Iterator[dict[str, object]]:
    """The rows without their split.

    Left out are links and pictures that repeat an earlier one pixel by pixel (the same work under
    a second path), pictures that show nothing on white, and drawings whose metadata names another
    licence than the public domain.
    """
    drawings = sources[DRAWINGS.name] / "usr/share/openclipart/svg"
    pictures = sources[PICTURES.name] / "usr/share/openclipart/png"
    seen: set[tuple[tuple[int, int], bytes]] = set()
    for path in sorted(drawings.rglob("*.svg")):
        place = path.relative_to(drawings)
        picture = (pictures / place).with_suffix(".png")
        if path.is_symlink() or picture.is_symlink():
            continue
        said = about(path)
        if said.licence is not None and "publicdomain" not in said.licence.lower():
            continue
        shown = _picture(picture, path)
        pixels = shown.size, shown.tobytes()
        if pixels in seen or shown.getextrema() == BLANK:
            continue
        seen.add(pixels)
        yield {
            "id": f"open-clip-art:{place.with_suffix('').as_posix()}",
            "subject": said.author or UNKNOWN,
            "title": said.title,
            "author": said.author,
            "tags": list(said.keywords),
            "label": place.parts[0],
            "category_path": list(place.parts[:-1]),
            "licence": LICENCE,
            "image": png(shown),
        }


def table(sources: Sources) -> datasets.Dataset:
    """All drawings in the order of their paths; 60/20/20 % of every category by id."""
    rows = list(_rows(sources))
    categories = sorted({str(row["label"]) for row in rows})
    ids = [str(row["id"]) for row in rows]
    split = split_by_id(ids, [categories.index(str(row["label"])) for row in rows])
    for row, part in zip(rows, split, strict=True):
        row["split"] = part
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "id": text,
            "subject": text,
            "title": text,
            "author": text,
            "tags": datasets.List(text),
            "label": datasets.ClassLabel(names=categories),
            "category_path": datasets.List(text),
            "split": text,
            "licence": text,
            "image": datasets.Image(),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


ENTRIES = (
    DataSet(
        "open-clip-art",
        "6,814 drawings in the public domain with title, keywords, category and author",
        (DRAWINGS, PICTURES),
        LICENCE,
        True,
        6_814,
        "447a1e2a287bbb1d45439a97dc47463c7eb66a2a74bf0f1498d9929bd5a3df98",
        table,
        "author",
        modules=("resvg_py",),
        note=(
            "The author is the one that the file names (519 names, one of "
            "them the word unknown); 57 drawings name none and have the subject `unknown`, and one "
            "person may appear under several names. An author's "
            "works are in all splits where there are enough. Of 7,458 files these are left out: "
            "559 with a linked picture, 2 that name the GPL, 83 whose picture repeats another or "
            "is blank. Half are theme icons and stars: leave out `computer` and `shapes` for a "
            "set of things."
        ),
    ),
)
