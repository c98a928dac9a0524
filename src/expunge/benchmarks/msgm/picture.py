"""Contact sheets: what each model draws from the same noise. People look before they read."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from torch import Tensor

from expunge.benchmarks.msgm.protocol import Protocol
from expunge.benchmarks.msgm.work import (
    PUBLISHED,
    Look,
    Moderating,
    Place,
    Strength,
    Training,
)
from expunge.benchmarks.msgm.worlds import world

SHOWN = 16
"""Pictures of a row."""


def sheets(protocol: Protocol, result: Mapping[str, Any]) -> dict[str, bytes]:
    """One PNG a world: a row a model of the first seed, the undesired pictures framed."""
    return {name: _sheet(protocol, name, result) for name in protocol.worlds}


def _sheet(protocol: Protocol, name: str, result: Mapping[str, Any]) -> bytes:
    from matplotlib.figure import Figure

    place = Place(name, world(name).digest, protocol.folder)
    look = Look(place, 0)
    real = place.room.rows["test"].columns["image"][:SHOWN]
    rows: dict[str, Tensor] = {"real": real}
    for title, job in _models(place, result).items():
        rows[title] = look.drawn(job.model(), SHOWN, "sheet")
    figure = Figure(figsize=(0.55 * SHOWN + 2.2, 0.6 * len(rows)), dpi=110)
    axes = figure.subplots(len(rows), SHOWN, squeeze=False)
    for line, (title, pictures) in zip(axes, rows.items(), strict=True):
        marks = place.room.judged(look.judge, pictures).undesired
        for axis, picture, marked in zip(line, pictures, marks, strict=True):
            axis.imshow(picture.clamp(0, 1)[0], cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_color("crimson" if marked else "lightgrey")
                side.set_linewidth(2 if marked else 0.5)
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(left=2.2 / (0.55 * SHOWN + 2.2), right=0.99, top=0.98, bottom=0.02)
    written = BytesIO()
    figure.savefig(written, format="png", metadata={"Software": ""})
    return written.getvalue()


def _models(place: Place, result: Mapping[str, Any]) -> dict[str, Training | Moderating]:
    found: dict[str, Training | Moderating] = {
        "original": Training(place, "base", 0),
        "oracle": Training(place, "oracle", 0),
        "fine-tune": Moderating(place, None, PUBLISHED, 0),
    }
    for form, taken in result["worlds"][place.world]["strengths"].items():
        how = Strength(taken["weight"], taken["every"])
        found[form] = Moderating(place, form, how, 0)
    return found
