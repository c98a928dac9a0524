"""The canvas: a full grid of objects by drawing styles, many copies of each cell, in words.

After Zhang et al. (2024). UnlearnCanvas, whose grid of painted photographs is too large for a small
machine. Objects are emoji; styles are the hands of vendors, all under free licences, and filters of
one vendor's drawings. One drawing a cell is too few, so every cell has copies that are moved,
turned, made smaller, tinted and set on a page of another colour.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from expunge.data import catalogue, emoji_grid, splits, tables
from expunge.data.augmentation import Jitter, augmented
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError

SET = "emoji-grid"
"""The set that the drawings are of, where the shipped one does not have them."""

OBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "tree": "1f332",
        "fish": "1f41f",
        "cactus": "1f335",
        "mushroom": "1f344",
        "moon": "1f319",
        "shirt": "1f455",
        "guitar": "1f3b8",
        "house": "1f3e0",
        "star": "2b50",
        "anchor": "2693",
        "cat": "1f431",
        "car": "1f697",
    }
)
"""Words and concepts of the grid: outlines that a few pixels tell apart."""

Filter = Callable[[Tensor], Tensor]
"""From drawings (n, 3, s, s) on white, from 0 to 1, to the same in another manner."""


def _as_drawn(images: Tensor) -> Tensor:
    return images


def _outline(images: Tensor) -> Tensor:
    """Dark lines where the drawing begins and ends, on white."""
    ink = (1 - images).amax(1, keepdim=True)
    solid = (ink > 0.15).float()
    wide = max(3, images.shape[-1] // 11 // 2 * 2 + 1)  # a line survives the reduction to 16 pixels
    grown, shrunk = _grown(solid, wide), 1 - _grown(1 - solid, wide)
    return (1 - (grown - shrunk)).expand_as(images)


def _negative(images: Tensor) -> Tensor:
    """Every colour turned into its opposite, on black."""
    return 1 - images


def _grown(mask: Tensor, width: int) -> Tensor:
    return F.max_pool2d(mask, width, stride=1, padding=width // 2)


@dataclass(frozen=True)
class Manner:
    """How a style is drawn.

    Args:
        hand: the vendor's style of the emoji grid that draws it.
        filtered: what becomes of the drawing.
    """

    hand: str
    filtered: Filter = _as_drawn


STYLES: Mapping[str, Manner] = MappingProxyType(
    {
        "noto": Manner("noto"),
        "openmoji": Manner("openmoji"),
        "outline": Manner("noto", _outline),
        "negative": Manner("noto", _negative),
        "fluent": Manner("fluent-emoji"),
        "twemoji": Manner("twemoji"),
    }
)
"""Words and manners of the styles; `openmoji` is CC-BY-SA-4.0, so copies of it are not shipped."""

TEMPLATE = "a {object} image in {style} style"
"""Of the prompts that a model is taught and asked with."""

HELD_OUT = ("an image of a {object} in {style} style", "{style} style {object}")
"""Templates in the same words that no model is taught."""

JITTER = Jitter(
    turn=math.radians(8),
    zoom=0.11,
    shrink=0.11,
    stretch=0.03,
    shift=0.05,
    hue=0.1,
    saturation=0.15,
    contrast=0.05,
    brightness=0.05,
)
"""Sizes from 0.8 to 1; colours stay near enough that a style remains one."""

PAGE = 0.85
"""The darkest that a colour of the page may be; a negative's page is as far from black."""

SHARES = (0.8, 0.1, 0.1)
"""Of the copies of every cell: for training, validation and test."""


@dataclass(frozen=True)
class Canvas:
    """A grid, of which everything follows.

    Args:
        objects: words of :data:`OBJECTS`.
        styles: words of :data:`STYLES`.
        side: pixels, a divisor of 64.
        copies: of every cell.
        seed: fixes the copies.

    Raises:
        ExpungeError: a word is not known or comes twice, a domain has one word, or the numbers
            cannot be.
    """

    objects: tuple[str, ...] = tuple(OBJECTS)[:8]
    styles: tuple[str, ...] = tuple(STYLES)[:4]
    side: int = 16
    copies: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        for given, known, what in (
            (self.objects, OBJECTS, "objects"),
            (self.styles, STYLES, "styles"),
        ):
            if len(given) < 2 or len(set(given)) < len(given) or not set(given) <= set(known):
                raise ExpungeError(
                    f"A canvas got the {what} {', '.join(given) or '(none)'}; two or more of "
                    f"{', '.join(known)} are expected, each once."
                )
        if self.side < 8 or emoji_grid.SIDE % self.side or self.copies < 10:
            raise ExpungeError(
                f"A canvas of {self.side} pixels with {self.copies} copies of a cell was asked "
                f"for; a divisor of {emoji_grid.SIDE} from 8 and at least 10 copies are expected."
            )

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Object and style of every cell, style by style."""
        return [(thing, style) for style in self.styles for thing in self.objects]

    @property
    def words(self) -> tuple[str, ...]:
        """Every word of a prompt, taught or held out, in alphabetical order."""
        said = " ".join((TEMPLATE, *HELD_OUT)).replace("{object}", "").replace("{style}", "")
        return tuple(sorted({*said.split(), *self.objects, *self.styles}))

    def prompts(self, template: str = TEMPLATE) -> list[str]:
        """The prompt of every cell."""
        return [template.format(object=thing, style=style) for thing, style in self.cells]

    def samples(self, split: str) -> TensorSamples:
        """The copies of a split.

        Returns:
            Rows with ``image`` float32 (3, side, side) from 0 to 1, ``object`` and ``style`` int64,
            their places among the words, and ``cell``, the place among :attr:`cells`. The subject
            of a row is its cell.

        Raises:
            ExpungeError: the split is not known, or the drawings were not fetched.
        """
        return _rows(self, split)

    def drawing(self, style: str) -> Tensor:
        """The drawings (objects, 3, 64, 64) uint8 of a style's hand, before any filter."""
        return _drawings(STYLES[style].hand, tuple(OBJECTS[word] for word in self.objects))


SMALL = Canvas()
"""Eight objects in four styles, 16 pixels: what two processor cores train in an hour."""

FULL = Canvas(tuple(OBJECTS), tuple(STYLES), side=32)
"""The whole grid at twice the side, for larger machines."""


def load(split: str | None = None) -> datasets.Dataset:
    """The small canvas as a table, for run files: ``emoji-canvas``.

    Args:
        split: "train" (2,048 rows), "validation" (256) or "test" (256); None for all.

    Returns:
        A table with the columns id, subject (the cell), object, style, caption (the prompt of the
        cell), label (the place of the object among the words), split and image (16, 16, 3; red,
        green and blue from 0 to 1).

    Raises:
        ExpungeError: there is no split of that name, or the drawings were not fetched.
    """
    return tables.of_split(_table(), split, "the canvas")


def tensors(table: datasets.Dataset) -> dict[str, Tensor]:
    """Pictures and objects of a table made by :func:`load`, in its row order.

    Returns:
        "image": float32 (n, 3, 16, 16) from 0 to 1; "label": int64 (n,), the object.
    """
    side = SMALL.side
    pixels = np.asarray(table.with_format("numpy")["image"][:], np.float32)
    image = torch.from_numpy(pixels.reshape(-1, side, side, 3)).permute(0, 3, 1, 2).contiguous()
    return {"image": image, "label": tables.labels(table)}


@functools.cache
def _table() -> datasets.Dataset:
    parts, prompts = [], SMALL.prompts()
    for split in splits.NAMES:
        rows = SMALL.samples(split)
        cells = rows.columns["cell"].tolist()
        parts.append(
            datasets.Dataset.from_dict(
                {
                    "id": list(rows.ids),
                    "subject": list(rows.subjects),
                    "object": [SMALL.cells[cell][0] for cell in cells],
                    "style": [SMALL.cells[cell][1] for cell in cells],
                    "caption": [prompts[cell] for cell in cells],
                    "label": rows.columns["object"].tolist(),
                    "split": [split] * len(rows),
                    "image": rows.columns["image"].permute(0, 2, 3, 1).numpy(),
                },
                features=FEATURES,
            )
        )
    return datasets.concatenate_datasets(parts)


FEATURES = datasets.Features(
    {
        **dict.fromkeys(("id", "subject", "object", "style", "caption"), datasets.Value("string")),
        "label": datasets.Value("int64"),
        "split": datasets.Value("string"),
        "image": datasets.Array3D((SMALL.side, SMALL.side, 3), "float32"),
    }
)


@functools.cache
def _rows(canvas: Canvas, split: str) -> TensorSamples:
    if split not in splits.NAMES:
        raise ExpungeError(
            f"The split {split!r} of the canvas was asked for; {', '.join(splits.NAMES)} are there."
        )
    ends = [round(sum(SHARES[:k]) * canvas.copies) for k in range(4)]
    place = splits.NAMES.index(split)
    wanted = range(ends[place], ends[place + 1])
    images, ids, subjects, cells = [], [], [], []
    for number, (thing, style) in enumerate(canvas.cells):
        copies = _copies(canvas, thing, style)
        images.append(copies[wanted.start : wanted.stop])
        ids += [f"canvas:{style}/{thing}/{copy}" for copy in wanted]
        subjects += [f"{thing} in {style}"] * len(wanted)
        cells += [number] * len(wanted)
    cell = torch.tensor(cells)
    columns = {
        "image": torch.cat(images),
        "object": cell % len(canvas.objects),
        "style": cell // len(canvas.objects),
        "cell": cell,
    }
    return TensorSamples(ids, subjects, columns)


def _copies(canvas: Canvas, thing: str, style: str) -> Tensor:
    """All copies (copies, 3, side, side) of a cell; those of two cells share no random number."""
    draws = torch.Generator().manual_seed(_seed(canvas.seed, f"{style}/{thing}"))
    drawing = canvas.drawing(style)[canvas.objects.index(thing)]
    moved = augmented(drawing.repeat(canvas.copies, 1, 1, 1), draws, JITTER).float() / 255
    paper = PAGE + (1 - PAGE) * torch.rand(canvas.copies, 3, 1, 1, generator=draws)
    drawn = STYLES[style].filtered(moved)
    # A page of another colour multiplies what is drawn on it; a negative's page is near black.
    dark = STYLES[style].filtered is _negative
    on_page = 1 - (1 - drawn) * paper if dark else drawn * paper
    return F.avg_pool2d(on_page, emoji_grid.SIDE // canvas.side)


def _seed(seed: int, name: str) -> int:
    mixed = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(mixed[:8], "big") >> 1


@functools.cache
def _drawings(hand: str, concepts: tuple[str, ...]) -> Tensor:
    # the shipped set has the same drawings of some hands
    table = emoji_grid.load() if hand in emoji_grid.STYLES else catalogue.at_hand(SET).load()
    styles, subjects = table["style"][:], table["subject"][:]
    place = {c: i for i, (s, c) in enumerate(zip(styles, subjects, strict=True)) if s == hand}
    return emoji_grid.pixels(table.select([place[concept] for concept in concepts]))
