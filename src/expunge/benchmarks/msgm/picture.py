"""Contact sheets: what each model draws from the same noise."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from expunge.benchmarks import contact_sheet
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
    place = Place(name, world(name).digest, protocol.folder)
    look = Look(place, 0)
    real = place.room.rows["test"].columns["image"][:SHOWN]
    rows: dict[str, Tensor] = {"real": real}
    for title, job in _models(place, result).items():
        rows[title] = look.drawn(job.model(), SHOWN, "sheet")
    framed = {title: _marks(look, pictures) for title, pictures in rows.items()}
    return contact_sheet.sheet(rows, framed)


def _marks(look: Look, pictures: Tensor) -> Tensor:
    return look.place.room.judged(look.judge, pictures).undesired


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
