"""Tux Paint stamps: 961 captioned pictures, drawings and cut-out photographs, in 77 languages.

Kendrick and contributors (2002-2022). Tux Paint stamps. From the Debian package
``tuxpaint-stamps-default``.
"""

from pathlib import Path

import datasets
from PIL import Image

from expunge.data.packages import Package, Registry
from expunge.data.pictures import drawn, png, stored
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

LICENCE = "GPL-2.0-or-later"
SIDE = 128  # pixels; larger pictures are scaled down to fit, smaller ones keep their size
FORMATS = (".png", ".svg")  # where a stamp has both, the PNG: it needs no drawing
MIRRORED = "_mirror"

PACKAGE = Package(
    Registry.DEBIAN,
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "tuxpaint-stamps-default_2022.06.04-1_all.deb",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    160_880_444,
    LICENCE,
)


def _picture(path: Path) -> Image.Image:
    """The picture of a PNG or SVG file on white, at most 128 pixels wide and high."""
    try:
        if path.suffix == ".svg":
            return drawn(path.read_text(encoding="utf-8"), SIDE)
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path.name} of {PACKAGE.name} cannot be drawn ({error}); fetch the package again."
        ) from None
    return stored(path, SIDE)


def _texts(path: Path) -> tuple[str, list[dict[str, str]]]:
    """English caption and translations of a text file; empty translations are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{path.name} of {PACKAGE.name} is no UTF-8 text ({error}); fetch the package again."
        ) from None
    caption = lines[0].strip() if lines else ""
    if not caption:
        raise IntegrityError(
            f"{path.name} of {PACKAGE.name} has no caption in its first line; fetch the package "
            "again."
        )
    pairs = (line.partition(".utf8=") for line in lines[1:])
    return caption, [
        {"language": k, "text": v.strip()} for k, mark, v in pairs if mark and v.strip()
    ]


def _row(root: Path, text: Path, picture: Path, mirrored: bool) -> dict[str, object]:
    caption, translations = _texts(text)
    place = text.relative_to(root).parent
    stamp = f"tux-paint-stamps:{(place / picture.stem).as_posix()}"
    return {
        "id": stamp,
        "subject": caption,
        "caption": caption,
        "label": place.parts[0],
        "category_path": list(place.parts),
        "translations": translations,
        "format": picture.suffix[1:],
        "mirror_of": stamp.removesuffix(MIRRORED) if mirrored else None,
        "image": png(_picture(picture)),
    }


def table(sources: Sources) -> datasets.Dataset:
    """All stamps in the order of their paths, a mirrored one behind its original.

    Pictures of one caption are in one split; 60/20/20 % of the captions.
    """
    root = sources[PACKAGE.name] / "usr/share/tuxpaint/stamps"
    rows: list[dict[str, object]] = []
    for text in sorted(root.rglob("*.txt")):
        for mirrored in (False, True):
            stem = f"{text.stem}{MIRRORED}" if mirrored else text.stem
            named = (text.with_name(f"{stem}{suffix}") for suffix in FORMATS)
            picture = next((path for path in named if path.exists()), None)
            if picture is not None:
                rows.append(_row(root, text, picture, mirrored))
    captions = sorted({str(row["caption"]) for row in rows})
    split = dict(zip(captions, split_by_id(captions), strict=True))
    for row in rows:
        row |= {"split": split[str(row["caption"])], "licence": LICENCE}
    text_value = datasets.Value("string")
    features = datasets.Features(
        {
            "id": text_value,
            "subject": text_value,
            "caption": text_value,
            "label": datasets.ClassLabel(names=sorted({str(row["label"]) for row in rows})),
            "category_path": datasets.List(text_value),
            "translations": datasets.List({"language": text_value, "text": text_value}),
            "format": text_value,
            "mirror_of": text_value,
            "split": text_value,
            "licence": text_value,
            "image": datasets.Image(),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


ENTRIES = (
    DataSet(
        "tux-paint-stamps",
        "961 captioned pictures, drawn or cut out of photographs, with up to 77 translations",
        (PACKAGE,),
        LICENCE,
        False,
        961,
        "747aad12f86bcdf16910c2ee3f869e9ce22fd51aad859601ef7146bab157c80c",
        table,
        "concept",
        modules=("resvg_py",),
        note=(
            "GPL: fetched, never shipped. 950 stamps and 11 mirrored ones (`mirror_of` names the "
            "original). The concept is the English caption; pictures of one caption are in one "
            "split. Of 83 stamps that come as PNG and as SVG the PNG is taken; lettering in SVG is "
            "not drawn. Two captions without a picture are left out. One stamp, a white lightning "
            "bolt, shows nothing on white. The spoken captions are another set."
        ),
    ),
)
