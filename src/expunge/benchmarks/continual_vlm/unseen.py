"""Pictures that neither training nor any request saw: other drawers of concepts that are retained.

Tux Paint stamps and Open Clip Art drawings count where their caption or title is the name of one of
the concepts, with or without an article, and are answered among all concepts. OpenMoji is a vendor
that the shipped set leaves out. A set that was not fetched is left out.
"""

import functools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from expunge.benchmarks import shipped
from expunge.benchmarks.continual_vlm import world
from expunge.data import catalogue, emoji_grid
from expunge.data.prepared import prepared
from expunge.data.samples import TensorSamples
from expunge.models.dual_encoder import SIDE
from expunge.run import Run
from expunge.signals.ask import ask

DRAWN = 300
"""Pictures of a whole style that are asked for."""

STYLE = "openmoji"


def _tux_paint(table: datasets.Dataset) -> dict[int, str]:
    return _named(table["caption"][:])


def _clip_art(table: datasets.Dataset) -> dict[int, str]:
    return _named(table["title"][:])


def _open_moji(table: datasets.Dataset) -> dict[int, str]:
    """Of one style so many pictures, drawn with a seed: a whole style costs as much as a test."""
    known = set(emoji_grid.concepts()["subject"][:])
    styles, subjects = table["style"][:], table["subject"][:]
    at = [i for i, style in enumerate(styles) if style == STYLE and subjects[i] in known]
    random.Random(STYLE).shuffle(at)
    return {i: subjects[i] for i in sorted(at[:DRAWN])}


Chosen = Callable[[datasets.Dataset], dict[int, str]]

SETS: Mapping[str, tuple[str, Chosen]] = MappingProxyType(
    {
        "tux": ("tux-paint-stamps", _tux_paint),
        "clip art": ("open-clip-art", _clip_art),
        "openmoji": ("emoji-grid", _open_moji),
    }
)
"""Of every set its name in the catalogue, and which rows show which concept."""


def _named(texts: Sequence[str | None]) -> dict[int, str]:
    """The rows whose text is the name of a concept, and the concept's id."""
    concepts = emoji_grid.concepts()
    names = [str(name).casefold() for name in concepts["concept"][:]]
    subjects = dict(zip(names, concepts["subject"][:], strict=True))
    found = {i: subjects.get(_plain(text)) for i, text in enumerate(texts) if text}
    return {i: subject for i, subject in found.items() if subject is not None}


def _plain(text: str) -> str:
    return re.sub(r"^(an?|the) ", "", text.casefold().strip().rstrip(".!"))


def digests() -> dict[str, str]:
    """The digest of every set that was fetched."""
    entries = {name: catalogue.entry(source) for name, (source, _) in SETS.items()}
    found = {name: prepared(entry) for name, entry in entries.items()}
    return {name: one.digest for name, one in found.items() if one is not None}


@functools.cache
def samples() -> Mapping[str, TensorSamples]:
    """The pictures of every set that was fetched, with the label of their concept."""
    return {name: _read(*SETS[name]) for name in digests()}


def _read(source: str, chosen: Chosen) -> TensorSamples:
    table = catalogue.at_hand(source).load()
    rows = chosen(table)
    concepts = emoji_grid.concepts()
    labels = dict(zip(concepts["subject"][:], concepts["label"][:], strict=True))
    shown = table.select(list(rows))
    pictures = torch.stack([_square(row["image"]) for row in shown.select_columns("image")])
    return TensorSamples(
        list(shown["id"][:]),
        list(rows.values()),
        {
            "activation": shipped.lower_of(shipped.emoji_untrained(), pictures),
            "label": torch.tensor([labels[subject] for subject in rows.values()]),
        },
    )


def _square(picture: Image.Image) -> Tensor:
    """A picture (3, 96, 96) in the middle of a white square, uint8."""
    rgb, side = picture.convert("RGB"), max(picture.size)
    sheet = Image.new("RGB", (side, side), "white")
    sheet.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
    fitted = sheet.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)


def answered(model: nn.Module, groups: Sequence[str], run: Run) -> dict[str, float]:
    """By set the accuracy on pictures of concepts that no group holds."""
    gone = {subject for name in groups for subject in world.members(name)}
    found = {}
    for name, every in samples().items():
        kept = [i for i, subject in enumerate(every.subjects) if subject not in gone]
        asked = ask(world.work().recipe.family, model, every.select(torch.tensor(kept)), run)
        found[name] = float(asked.query("correct")[0].double().mean())
    return found
