"""Contact sheets: what a model drew before and after, from the same noise."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from expunge.benchmarks import contact_sheet
from expunge.benchmarks.canvas.protocol import Protocol
from expunge.benchmarks.canvas.work import Forgetting, Look, Training

SHOWN = 12
"""Cells of a row: as many of the target as of the others."""


def sheets(protocol: Protocol, result: Mapping[str, Any]) -> dict[str, bytes]:
    """One PNG a target: a row a model of the first seed, the target's cells first and framed."""
    look, found = Look(protocol.place, 0), {}
    base = Training(protocol.place, "base", 0)
    for target in protocol.targets:
        told = look.told(1)[target.domain]
        of_target = told == protocol.place.room.words(target.domain).index(target.word)
        half = SHOWN // 2
        cells = torch.cat([of_target.nonzero()[:half, 0], (~of_target).nonzero()[:half, 0]])
        rows: dict[str, Tensor] = {"original": look.drawn(base.model(), 1, "report")[cells]}
        for form in protocol.forms:
            taken = result["targets"][target.word]["rows"][form][0]["strength"]
            job = Forgetting(protocol.place, form, taken, target, 0)
            rows[form] = look.drawn(job.model(), 1, "report")[cells]
        framed = dict.fromkeys(rows, of_target[cells])
        found[target.word] = contact_sheet.sheet(rows, framed)
    return found
