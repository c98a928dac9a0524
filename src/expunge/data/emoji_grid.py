"""The shipped emoji set: concepts drawn by several vendors, 64 x 64 pixels on white.

A concept is one emoji, named by its code point ("1f42c", dolphin); a picture is one vendor's
drawing of it. Vendors never mix between splits: Google, Microsoft and EmojiOne are for training,
Mozilla for validation, Twitter for the test. Licences and attribution: `emoji/NOTICE.md`.
"""

from __future__ import annotations

import functools
import importlib.resources
import io
from types import MappingProxyType

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from PIL import Image

from expunge.data import tables
from expunge.errors import ExpungeError

SIDE = 64  # pixels
STYLES = MappingProxyType(
    {
        "noto": "train",
        "noto-v1": "train",
        "fluent-emoji": "train",
        "fluent-emoji-flat": "train",
        "emojione": "train",
        "fxemoji": "validation",
        "twemoji": "test",
    }
)
CONCEPTS = "concepts.parquet"
TEXTS = "text_embeddings.safetensors"


@functools.cache
def _everything() -> datasets.Dataset:
    folder = importlib.resources.files("expunge.data") / "emoji"
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".parquet"))
    parts = [
        _read((folder / name).read_bytes())
        for style in STYLES
        for name in names
        if name.rpartition("-")[0] == style
    ]
    return datasets.Dataset(datasets.table.InMemoryTable(pa.concat_tables(parts)))


def _read(raw: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(raw))


@functools.cache
def concepts() -> datasets.Dataset:
    """Returns the table of concepts, one row each, in the order of their labels.

    Its columns: subject (the concept's id), label (0 to C-1), concept (English name), tags,
    group, subgroup, prompts (the texts that stand for it).
    """
    path = importlib.resources.files("expunge.data") / "emoji" / CONCEPTS
    return datasets.Dataset(datasets.table.InMemoryTable(_read(path.read_bytes())))


def text_embeddings() -> torch.Tensor:
    """Returns the stored text embeddings of the concepts: float16 (C, 384), unit vectors.

    Row c is the mean, over the prompts of the concept with label c, of their all-MiniLM-L6-v2
    sentence embeddings; `scripts/build_text_embeddings.py` computes them.
    """
    path = importlib.resources.files("expunge.data") / "emoji" / TEXTS
    stored: dict[str, torch.Tensor] = safetensors.torch.load(path.read_bytes())
    return stored["text_embeddings"]


def load(split: str | None = None) -> datasets.Dataset:
    """Returns the table of pictures, or one split of it.

    Args:
        split: "train" (five styles of three vendors), "validation" (Mozilla) or "test"
            (Twitter); None for all rows.

    Returns:
        A table with the columns id ("emoji:fxemoji/1f42c"), subject ("1f42c"), concept
        ("dolphin"), label (position of the concept in `concepts`), group, subgroup, style,
        vendor, split, licence and image.

    Raises:
        ExpungeError: there is no split of that name.
    """
    return tables.of_split(_everything(), split, "the emoji set")


def pixels(table: datasets.Dataset, size: int = SIDE) -> torch.Tensor:
    """Decodes the pictures of a table.

    Args:
        table: n rows made by `load`.
        size: side of the pictures returned, in pixels; other sizes than 64 are interpolated.

    Returns:
        uint8 (n, 3, size, size), red, green, blue from 0 to 255.
    """
    images = np.empty((len(table), size, size, 3), dtype=np.uint8)
    for row, picture in enumerate(tables.column(table, "image").to_pylist()):
        with Image.open(io.BytesIO(picture["bytes"])) as drawing:
            rgb = drawing.convert("RGB")
        if rgb.size != (size, size):
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
        images[row] = np.asarray(rgb)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def tensors(table: datasets.Dataset) -> dict[str, torch.Tensor]:
    """Returns the pictures and classes of a table made by `load`, in its row order.

    Args:
        table: n rows of the emoji set.

    Returns:
        "image": uint8 (n, 3, 64, 64), which the models resize and normalise; "label": int64 (n,).
    """
    return {"image": pixels(table), "label": tables.labels(table)}


# Groups of concepts under everyday names, small enough to be removed one request after another.
# `members` looks every other name up among the groups and subgroups of `concepts`.
GROUPS = MappingProxyType(
    {
        "sea animals": (
            "1f40b",  # whale
            "1f419",  # octopus
            "1f41a",  # spiral shell
            "1f41f",  # fish
            "1f420",  # tropical fish
            "1f421",  # blowfish
            "1f42c",  # dolphin
            "1f433",  # spouting whale
        ),
        "sweets": (
            "1f369",  # doughnut
            "1f36a",  # cookie
            "1f36b",  # chocolate bar
            "1f36c",  # candy
            "1f36d",  # lollipop
            "1f36e",  # custard
            "1f370",  # shortcake
            "1f382",  # birthday cake
        ),
        "hands": (
            "1f44b",  # waving hand
            "1f44d",  # thumbs up
            "1f44e",  # thumbs down
            "1f44f",  # clapping hands
            "1f64f",  # folded hands
            "270a",  # raised fist
            "270b",  # raised hand
            "270c",  # victory hand
        ),
        "vehicles": (
            "1f68c",  # bus
            "1f691",  # ambulance
            "1f692",  # fire engine
            "1f693",  # police car
            "1f695",  # taxi
            "1f697",  # automobile
            "1f69a",  # delivery truck
            "1f69c",  # tractor
        ),
        "buildings": (
            "1f3db",  # classical building
            "1f3e0",  # house
            "1f3e2",  # office building
            "1f3e6",  # bank
            "1f3ef",  # Japanese castle
            "1f3f0",  # castle
            "1f5fc",  # Tokyo tower
            "26ea",  # church
        ),
        "fruit": (
            "1f347",  # grapes
            "1f349",  # watermelon
            "1f34b",  # lemon
            "1f34c",  # banana
            "1f34d",  # pineapple
            "1f350",  # pear
            "1f352",  # cherries
            "1f353",  # strawberry
        ),
        "clothing": (
            "1f455",  # t-shirt
            "1f456",  # jeans
            "1f457",  # dress
            "1f458",  # kimono
            "1f45e",  # man's shoe
            "1f45f",  # running shoe
            "1f460",  # high-heeled shoe
            "1f462",  # woman's boot
        ),
    }
)


def members(name: str) -> tuple[str, ...]:
    """Returns the ids of the concepts of a named group, in the order of their labels.

    Args:
        name: a key of `GROUPS` ("sea animals"), or a group ("food-drink") or subgroup
            ("food-sweet") of the table of concepts.

    Raises:
        ExpungeError: there is no group of that name.
    """
    if name in GROUPS:
        return GROUPS[name]
    table = concepts()
    places = zip(table["subject"], table["group"], table["subgroup"], strict=True)
    found = tuple(subject for subject, group, subgroup in places if name in (group, subgroup))
    if not found:
        known = sorted({*GROUPS, *table["group"], *table["subgroup"]})
        raise ExpungeError(
            f"Group {name!r} of the emoji set was asked for; the groups are {', '.join(known)}. "
            "Name one of them, or list concept ids."
        )
    return found
