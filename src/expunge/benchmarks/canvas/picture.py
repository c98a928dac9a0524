"""Contact sheets: what a model drew before and after, from the same noise."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from expunge.benchmarks.canvas.protocol import Protocol
from expunge.benchmarks.canvas.work import Forgetting, Look, Training

SHOWN = 12
"""Cells of a row: as many of the target as of the others."""


def sheets(protocol: Protocol, result: Mapping[str, Any]) -> dict[str, bytes]:
    """One PNG a target: a row a model of the first seed, the target's cells first and framed."""
    from matplotlib.figure import Figure

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
        figure = Figure(figsize=(0.55 * len(cells) + 2.2, 0.6 * len(rows)), dpi=110)
        axes = figure.subplots(len(rows), len(cells), squeeze=False)
        for line, (title, pictures) in zip(axes, rows.items(), strict=True):
            for axis, picture, cell in zip(line, pictures, cells, strict=True):
                axis.imshow(picture.permute(1, 2, 0).numpy())
                axis.set_xticks([])
                axis.set_yticks([])
                for side in axis.spines.values():
                    side.set_color("crimson" if of_target[cell] else "lightgrey")
            line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
        figure.subplots_adjust(left=2.2 / (0.55 * len(cells) + 2.2), right=0.99, top=0.98)
        written = BytesIO()
        figure.savefig(written, format="png", metadata={"Software": ""})
        found[target.word] = written.getvalue()
    return found
